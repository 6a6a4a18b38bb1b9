from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from api.admission.gcra import LocalLimits, Rate, Taken, decide

SECOND = 1_000_000
rates = st.builds(Rate, st.just("read"), st.integers(1, 50), st.integers(1, 600))


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@given(rates, st.lists(st.integers(0, 30 * SECOND), max_size=80))
def test_no_stretch_of_time_has_more_requests_than_a_burst_and_what_came_free_in_it(
    rate: Rate, pauses: list[int]
) -> None:
    arrival, now, taken = 0, 10**15, []
    for pause in pauses:
        now += pause
        found = decide([arrival], now, [rate.claim("k")])
        if found.wait == 0:
            (arrival,) = found.arrivals
            taken.append(now)
    for first, begin in enumerate(taken):
        for count, end in enumerate(taken[first:], start=1):
            assert count <= rate.quota + (end - begin) // rate.interval


@given(rates, st.integers(0, 600 * SECOND))
def test_whoever_waits_as_told_is_let_in_and_not_a_microsecond_earlier(rate: Rate, used: int) -> None:
    now, claim = 10**15, rate.claim("k")
    found = decide([now + used], now, [claim])
    if found.wait:
        assert decide([now + used], now + found.wait, [claim]).wait == 0 or used > claim[2]
        assert decide(found.arrivals, now + found.wait, [claim]).wait == 0
        assert decide(found.arrivals, now + found.wait - 1, [claim]).wait == 1


@given(rates, st.integers(0, 60))
def test_what_is_left_is_what_may_still_come_now(rate: Rate, spent: int) -> None:
    local = LocalLimits(Clock())
    claim = rate.claim("k")
    for _ in range(spent):
        local.take([claim])
    arrival = local.look([claim]).arrivals[0] - (rate.interval if spent < rate.quota else 0)
    left = rate.left(arrival, 0)
    assert left == max(0, rate.quota - spent)
    assert (rate.until(arrival, 0, left) == 0) == (spent == 0)


def test_a_limit_that_refuses_takes_nothing_from_the_others() -> None:
    local, wide, narrow = LocalLimits(Clock()), Rate("wide", 10, 60), Rate("narrow", 1, 60)
    claims = [wide.claim("w"), narrow.claim("n")]
    assert [local.take(claims).wait > 0 for _ in range(5)] == [False, True, True, True, True]
    assert [local.take(claims[:1]).wait > 0 for _ in range(10)] == [False] * 9 + [True]


def test_an_arrival_in_the_far_future_counts_as_one_burst() -> None:
    """Somebody set the clock back, or lowered the quota."""
    rate = Rate("read", 10, 60)
    assert decide([10**17], 10**15, [rate.claim("k")]).wait == rate.interval


def test_memory_is_bounded_and_those_who_wait_are_remembered() -> None:
    clock = Clock()
    local, patient = LocalLimits(clock, room=100), [Rate("read", 1, 3600).claim("patient")]
    assert local.take(patient).wait == 0
    for _ in range(1_000):
        clock.now += SECOND
        local.take([Rate("read", 100, 60).claim(str(uuid4()))])  # all free again after 0.6 s
        assert len(local._arrivals) <= 100
    assert local.take(patient).wait == 2600 * SECOND


def test_memory_is_bounded_also_when_all_wait() -> None:
    local = LocalLimits(Clock(), room=100)
    for _ in range(1_000):
        local.take([Rate("read", 1, 3600).claim(str(uuid4()))])
        assert len(local._arrivals) <= 100


def test_when_all_wait_those_that_came_last_are_remembered() -> None:
    local = LocalLimits(Clock(), room=100)
    everybody = [[Rate("read", 1, 3600).claim(str(number))] for number in range(101)]
    for one in everybody:
        local.take(one)
    assert local.look(everybody[99]).wait > 0
    assert local.look(everybody[0]).wait == 0


def test_what_another_limiter_has_missed_counts_too() -> None:
    local, claim = LocalLimits(Clock()), Rate("read", 10, 10).claim("k")
    for _ in range(4):
        local.take([claim])
    local.learn([claim], Taken(0, 0, [SECOND]))  # it knows of one
    assert local.look([claim]).arrivals[0] == 5 * SECOND
    local.learn([claim], Taken(0, 0, [7 * SECOND]))
    assert local.look([claim]).arrivals[0] == 8 * SECOND


@given(rates, st.lists(st.integers(0, 60_000_000), min_size=1, max_size=60))
def test_taking_is_deciding_and_remembering(rate: Rate, gaps: list[int]) -> None:
    """Of two limits together, the second of which is tighter."""
    clock, arrivals = Clock(), [0, 0]
    local, claims = LocalLimits(clock), [rate.claim("all"), Rate("b", max(1, rate.quota // 2), 60).claim("mine")]
    for gap in gaps:
        clock.now += gap
        expected, taken = decide(arrivals, clock.now, claims), local.take(claims)
        assert (taken.wait, taken.now, list(taken.arrivals)) == (expected.wait, expected.now, list(expected.arrivals))
        arrivals = list(expected.arrivals) if expected.wait == 0 else arrivals
