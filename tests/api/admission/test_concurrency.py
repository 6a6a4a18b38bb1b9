import pytest

from api.admission.concurrency import RESERVE, Concurrency
from api.admission.kinds import Kind

LOW_FIRST = [Kind.STATS, Kind.PREFETCH, Kind.READ, Kind.COMMAND]


def filled(limit: int, kind: Kind) -> Concurrency:
    concurrency = Concurrency(limit, limit)
    while concurrency.enter(kind):
        pass
    return concurrency


def serve(concurrency: Concurrency, seconds: float, beats: int, late: float = 0.0) -> None:
    """A server that is as full of reads as may be, each of which takes so long."""
    for _ in range(beats):
        inside = 0
        while concurrency.enter(Kind.READ):
            inside += 1
        for _ in range(inside):
            concurrency.leave(Kind.READ, seconds)
        concurrency.beat(late)


@pytest.mark.parametrize("full", range(len(LOW_FIRST)))
def test_where_one_kind_is_refused_every_higher_one_is_let_in(full: int) -> None:
    concurrency = filled(100, LOW_FIRST[full])
    assert not any(concurrency.enter(kind) for kind in LOW_FIRST[: full + 1])
    assert all(concurrency.enter(kind) for kind in [*LOW_FIRST[full + 1 :], Kind.RECORDING])


def test_recordings_have_a_reserve_of_their_own() -> None:
    concurrency = filled(32, Kind.COMMAND)
    assert [concurrency.enter(Kind.RECORDING) for _ in range(RESERVE + 1)] == [True] * RESERVE + [False]
    concurrency.leave(Kind.COMMAND, None)
    assert concurrency.enter(Kind.COMMAND)  # recordings take no place of the others


def test_the_limit_grows_while_it_is_used_and_reads_take_no_longer() -> None:
    concurrency = Concurrency(32, 1_000)
    serve(concurrency, 0.01, 200)
    assert concurrency.limit == 1_000


def test_a_limit_that_is_not_used_says_nothing_and_stays() -> None:
    concurrency = Concurrency(32, 1_000)
    before = concurrency.limit
    for _ in range(100):
        concurrency.enter(Kind.READ)
        concurrency.leave(Kind.READ, 0.01)
        concurrency.beat(0.0)
    assert concurrency.limit == before


def test_the_limit_shrinks_when_reads_take_longer_than_they_did_and_comes_back() -> None:
    concurrency = Concurrency(32, 1_000)
    serve(concurrency, 0.02, 100)
    serve(concurrency, 0.5, 30)
    assert concurrency.limit < 100
    serve(concurrency, 0.02, 200)
    assert concurrency.limit == 1_000


def test_reads_that_are_soon_answered_are_never_slow() -> None:
    concurrency = Concurrency(32, 1_000)
    serve(concurrency, 0.001, 100)
    serve(concurrency, 0.05, 100)  # fifty times the usual, and nobody notices
    assert concurrency.limit == 1_000


def test_another_mix_of_requests_is_no_slowness() -> None:
    concurrency = Concurrency(32, 1_000)
    for cheap in [9] * 100 + [0] * 100:
        kinds = [Kind.READ] * cheap + [Kind.STATS] * (10 - cheap)
        for kind in kinds:
            concurrency.enter(kind)
            concurrency.leave(kind, 0.01 if kind is Kind.READ else 0.8)
        concurrency.beat(0.0)
    assert concurrency.limit == 256  # where it began


def test_the_limit_shrinks_when_the_loop_comes_late_whatever_reads_say() -> None:
    concurrency = Concurrency(32, 1_000)
    serve(concurrency, 0.01, 100, late=0.2)
    assert concurrency.limit < 100
    assert concurrency.lag == pytest.approx(0.2, rel=0.01)


def test_pressure_is_what_came_for_each_that_was_let_in() -> None:
    concurrency = Concurrency(40, 40)
    for _ in range(300):
        for _ in range(120):
            concurrency.enter(Kind.STATS)  # ten of them
        for _ in range(10):
            concurrency.leave(Kind.STATS, 0.01)
        concurrency.beat(0.0)
    assert concurrency.pressure == pytest.approx(12, rel=0.01)
