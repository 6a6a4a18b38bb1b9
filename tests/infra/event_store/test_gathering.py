import asyncio
from collections.abc import Sequence

import pytest

from domain.errors import StoreUnavailable
from infra.event_store.gathering import Gatherer, Landed


class Flushes:
    """Notes what is flushed; each flush takes as long as the test lets it."""

    def __init__(self) -> None:
        self.lists: list[list[int]] = []
        self.go = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.lists.append(list(items))
        await self.go.wait()
        return [ValueError(item) if item < 0 else item * 10 for item in items]


class Begun:
    """Notes what is begun alone, but what is refused; each lands when the test says so."""

    def __init__(self, *refused: int) -> None:
        self._refused = refused
        self.items: list[int] = []
        self._landed: list[Landed[int]] = []

    def __call__(self, item: int, landed: Landed[int]) -> bool:
        if item in self._refused:
            return False
        self.items.append(item)
        self._landed.append(landed)
        return True

    def land(self, found: int | Exception) -> None:
        self._landed.pop(0)(found)


def gatherer(flush: Flushes, begun: Begun | None = None, **limits: int) -> Gatherer[int, int]:
    given = {"flushers": 1, "at_once": 100, "places": 1_000} | limits
    return Gatherer(flush, **given, begin=begun or Begun(*range(-10, 10_000)))


async def test_what_comes_while_a_flush_is_under_way_goes_out_with_the_next() -> None:
    flush = Flushes()
    it = gatherer(flush)
    first = it.put(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [it.put(number) for number in (2, 3, 4)]
    flush.go.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
    assert flush.lists == [[1], [2, 3, 4]]


async def test_what_is_ready_together_goes_out_together() -> None:
    flush = Flushes()
    flush.go.set()
    it = gatherer(flush)
    assert await asyncio.gather(*(it.put(number) for number in range(5))) == [0, 10, 20, 30, 40]
    assert flush.lists == [[0, 1, 2, 3, 4]]


async def test_each_gets_its_own_result_or_fault() -> None:
    flush = Flushes()
    flush.go.set()
    it = gatherer(flush)
    results = await asyncio.gather(it.put(1), it.put(-1), it.put(2), return_exceptions=True)
    assert [results[0], results[2]] == [10, 20]
    assert isinstance(results[1], ValueError)


async def test_a_flush_that_fails_is_heard_of_by_all_and_the_next_goes_on() -> None:
    calls = 0

    async def flush(items: Sequence[int]) -> Sequence[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError
        return items

    it = Gatherer(flush, flushers=1, at_once=2, places=100)
    results = await asyncio.gather(*(it.put(number) for number in range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [KeyError, KeyError, int, int]
    assert await it.put(9) == 9


async def test_lists_are_bounded_and_several_flush_at_once() -> None:
    flush = Flushes()
    it = gatherer(flush, flushers=2, at_once=3)
    waiting = [it.put(number) for number in range(7)]
    await asyncio.sleep(0.01)
    assert flush.lists == [[0, 1, 2], [3, 4, 5]]
    flush.go.set()
    assert await asyncio.gather(*waiting) == [number * 10 for number in range(7)]


async def test_beyond_its_places_it_says_so_at_once() -> None:
    flush = Flushes()
    it = gatherer(flush, places=2)
    waiting = [it.put(1), it.put(2)]
    with pytest.raises(StoreUnavailable):
        it.put(3)
    flush.go.set()
    assert await asyncio.gather(*waiting) == [10, 20]


async def test_what_waited_for_too_long_when_its_turn_comes_is_refused_and_what_came_later_goes_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("infra.event_store.gathering.monotonic", lambda: now)
    flush = Flushes()
    it = gatherer(flush)
    first = it.put(1)
    await asyncio.sleep(0.01)
    late = [it.put(number) for number in (2, 3)]
    now += 5.4
    others = [it.put(number) for number in (4, 5)]
    now += 0.2
    flush.go.set()
    results = await asyncio.gather(first, *late, *others, return_exceptions=True)
    assert [results[0], *results[3:]] == [10, 40, 50]
    assert [type(result) for result in results[1:3]] == [StoreUnavailable] * 2
    assert flush.lists == [[1], [4, 5]]


async def test_where_all_that_waited_is_refused_nothing_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("infra.event_store.gathering.monotonic", lambda: now)
    flush, begun = Flushes(), Begun()
    it = gatherer(flush, begun)
    first, late = it.put(1), it.put(2)
    now += 60.0
    begun.land(7)
    assert await first == 7
    with pytest.raises(StoreUnavailable):
        await late
    await it.close()
    again = it.put(3)
    begun.land(8)
    assert await again == 8
    assert flush.lists == []


async def test_closing_waits_for_what_is_under_way() -> None:
    flush = Flushes()
    it = gatherer(flush)
    waiting = it.put(1)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, flush.go.set)
    await it.close()
    assert waiting.done()
    assert await waiting == 10


@pytest.mark.parametrize("flushers", [1, 2, 3])
async def test_who_puts_the_moment_that_a_flush_ends_waits_for_nobody(flushers: int) -> None:
    async def flush(items: Sequence[int]) -> Sequence[int]:
        return items

    it = Gatherer(flush, flushers=flushers, at_once=1, places=100)

    async def put_often() -> None:
        for number in range(50):
            assert await it.put(number) == number

    async with asyncio.timeout(5):
        await asyncio.gather(*(put_often() for _ in range(flushers)))


async def test_what_comes_alone_is_begun_at_once_and_the_others_gather_behind_it() -> None:
    flush, begun = Flushes(), Begun()
    it = gatherer(flush, begun)
    waiting = [it.put(number) for number in range(4)]
    assert begun.items == [0]
    await asyncio.sleep(0.01)
    assert flush.lists == []
    flush.go.set()
    begun.land(7)
    assert await asyncio.gather(*waiting) == [7, 10, 20, 30]
    assert flush.lists == [[1, 2, 3]]


async def test_after_a_flush_of_several_what_comes_is_gathered_until_one_comes_alone() -> None:
    flush, begun = Flushes(), Begun()
    flush.go.set()
    it = gatherer(flush, begun)
    first = [it.put(number) for number in range(3)]
    begun.land(0)
    await asyncio.gather(*first)
    assert await asyncio.gather(*(it.put(number) for number in (3, 4))) == [30, 40]
    assert await it.put(5) == 50
    last = it.put(6)
    assert (begun.items, flush.lists) == ([0, 6], [[1, 2], [3, 4], [5]])
    begun.land(ValueError(6))
    with pytest.raises(ValueError, match="6"):
        await last


async def test_what_cannot_be_begun_at_once_is_flushed() -> None:
    flush, begun = Flushes(), Begun(1)
    flush.go.set()
    assert await gatherer(flush, begun).put(1) == 10
    assert (begun.items, flush.lists) == ([], [[1]])


async def test_what_fails_to_begin_fails_alone() -> None:
    def begin(item: int, _landed: Landed[int]) -> bool:
        raise OverflowError(item)

    flush = Flushes()
    flush.go.set()
    it = Gatherer(flush, flushers=1, at_once=100, places=1_000, begin=begin)
    for _ in range(3):
        with pytest.raises(OverflowError):
            it.put(1)
    await it.close()


async def test_closing_waits_for_what_was_begun_alone_and_for_what_gathered_behind_it() -> None:
    flush, begun = Flushes(), Begun()
    flush.go.set()
    it = gatherer(flush, begun)
    first, second = it.put(1), it.put(2)
    first.cancel()  # its caller has gone: it is under way nevertheless
    closings = [asyncio.create_task(it.close()) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(closing.done() for closing in closings)
    begun.land(1)
    await asyncio.gather(*closings)
    assert second.result() == 20
    again = it.put(3)
    asyncio.get_running_loop().call_later(0.01, begun.land, 3)
    await it.close()
    assert again.result() == 3
