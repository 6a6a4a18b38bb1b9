"""Reads that are under way while something happens: who may be answered by them, and whether they are kept."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from fastapi import Response
from redis.asyncio import Redis as AsyncRedis

from api.front.cache import Asked
from api.front.kept import KEPT, Keep, Kept, Seen
from api.front.reading import KeptReads
from api.front.request import Request
from api.main import services_of
from infra.positions import to_token
from infra.shared_reads import SharedReads
from tests.api.conftest import World
from tests.scenarios import ANNA

ME = Asked(ANNA.int, b"/v1/me", b"")


class Reading:
    """One's own profile, read by a process whose answers come when the test says so."""

    def __init__(self, world: World) -> None:
        nobody = SharedReads(AsyncRedis.from_url(world.settings.redis_url))  # which heard of no epoch: asks nothing
        self.reads = KeptReads(replace(services_of(world.parts, world.settings), shared_reads=nobody), ())
        self.reads._opened()
        found = world.app._table.find("/v1/me")
        assert found is not None
        self._route = found.answering["GET"]
        self._builds = world.parts.read_models.builds
        self.asked = 0  # of the database

    def begin(self, position: int, go: asyncio.Event, floor: int = -1) -> "asyncio.Task[Kept | Response]":
        """A read whose own answer would be of this position; it begins with the next turn of the loop. `floor`: the
        position that it asks for.
        """

        async def receive() -> dict[str, object]:
            raise AssertionError("a read has no body")

        async def answer() -> Response:
            self.asked += 1
            await go.wait()
            keep = Keep(frozenset([ANNA]), Seen(position, self._builds), None)
            request.scope[KEPT] = Kept(b"{}", "application/json", {}, keep)
            return Response()

        headers = {} if floor < 0 else {b"cairn-min-position": to_token(floor).encode()}
        request = Request({"type": "http", "method": "GET", "headers": list(headers.items())}, receive, headers)
        return asyncio.create_task(self.reads.read(self._route, request, ME, answer))

    def wrote(self, position: int) -> None:
        """The runner was answered a command."""
        self.reads.wrote(ANNA, Response(headers={"Cairn-Position": to_token(position)}))

    @property
    def kept(self) -> bool:
        """Whether it is answered without a read from now on."""
        return self.reads._cache.find(ME, time.monotonic()) is not None


@pytest.fixture
def reading(world: World) -> Reading:
    return Reading(world)


async def position_of(read: "asyncio.Task[Kept | Response]") -> int:
    answer = await asyncio.wait_for(read, 20)
    assert isinstance(answer, Kept)
    return answer.seen.position


async def turns() -> None:
    """All that can go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_whoever_asks_the_same_meanwhile_is_answered_by_one_read_which_is_kept(reading: Reading) -> None:
    go = asyncio.Event()
    reads = [reading.begin(5, go) for _ in range(4)]
    await turns()
    go.set()
    assert [await position_of(read) for read in reads] == [5] * 4
    assert reading.asked == 1
    assert reading.kept


async def test_who_asks_for_a_position_is_not_answered_by_a_read_that_is_under_way(reading: Reading) -> None:
    go = asyncio.Event()
    under_way = reading.begin(5, go)
    await turns()
    asks = reading.begin(9, go, floor=9)
    await turns()
    go.set()
    assert [await position_of(under_way), await position_of(asks), reading.asked] == [5, 9, 2]


async def test_what_is_kept_of_other_builds_than_are_read_is_not_found(
    world: World, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()
    go.set()
    await reading.begin(5, go)
    assert reading.reads.find(ME, {}) is not None
    monkeypatch.setattr(world.parts.read_models, "_builds", "others")
    assert reading.reads.find(ME, {}) is None


async def test_while_changes_are_not_heard_nothing_is_kept(reading: Reading) -> None:
    go = asyncio.Event()
    go.set()
    reading.reads._closed()
    assert await position_of(reading.begin(5, go)) == 5
    assert not reading.kept


def gap(reads: KeptReads) -> None:
    reads._closed()
    reads._opened()


def all_is_old(reads: KeptReads) -> None:
    reads._changed([], -1)


@pytest.mark.parametrize("happens", [gap, all_is_old])
async def test_what_was_under_way_when_changes_were_told_to_nobody_is_neither_kept_nor_given_to_later_ones(
    reading: Reading, happens: Callable[[KeptReads], None]
) -> None:
    slow, go = asyncio.Event(), asyncio.Event()
    before = reading.begin(5, slow)
    await turns()
    happens(reading.reads)
    after = reading.begin(9, go)
    await turns()
    slow.set()
    assert await position_of(before) == 5
    assert not reading.kept
    go.set()
    assert await position_of(after) == 9
    assert reading.kept


async def test_what_begins_after_ones_own_write_is_not_answered_from_before_it(reading: Reading) -> None:
    slow, go = asyncio.Event(), asyncio.Event()
    before = reading.begin(5, slow)
    await turns()
    reading.wrote(9)
    after = [reading.begin(9, go) for _ in range(20)]
    await turns()
    slow.set()
    assert await position_of(before) == 5
    await turns()
    go.set()
    assert [await position_of(read) for read in after] == [9] * 20
    assert reading.asked == 2


async def test_one_that_is_cancelled_leaves_the_answer_to_the_others(reading: Reading) -> None:
    go = asyncio.Event()
    first, second, third = (reading.begin(5, go) for _ in range(3))
    await turns()
    second.cancel()
    await turns()
    go.set()
    assert [await position_of(read) for read in (first, third)] == [5, 5]
    reading.reads._cache.clear()
    assert await position_of(reading.begin(6, go)) == 6


async def test_when_the_one_that_reads_is_cancelled_the_others_read_for_themselves(reading: Reading) -> None:
    go = asyncio.Event()
    first, second = (reading.begin(5, go) for _ in range(2))
    await turns()
    first.cancel()
    go.set()
    assert await position_of(second) == 5
    reading.reads._cache.clear()
    assert await position_of(reading.begin(6, go)) == 6
