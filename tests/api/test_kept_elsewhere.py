"""What another process has kept in Valkey is taken only while it is good."""

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from api.front.cache import LIFE_SECONDS, Asked
from api.front.kept import Keep, Kept, Seen
from api.front.reading import KeptReads
from api.main import services_of
from tests.api.conftest import World
from tests.scenarios import ANNA, BEN

ME = Asked(ANNA.int, b"/v1/feed", b"")
NOW = datetime(2026, 5, 1, 7, tzinfo=UTC)
MINE = 5  # the position of what is kept


class Elsewhere:
    """What Valkey says: an answer, its owner's level and Ben's; `during`: what happens while it is asked."""

    def __init__(self, until: datetime, builds: str) -> None:
        keep = Keep(frozenset([ANNA, BEN]), Seen(MINE, builds), None)
        self.answer = msgspec.msgpack.encode(Kept(b"{}", "application/json", {}, keep).stored(until))
        self.level_of_owner = MINE
        self.level_of_ben: int | None = MINE
        self.during: Callable[[], None] = lambda: None

    async def find(self, _owner: UUID, _key: str) -> tuple[bytes, int]:
        return self.answer, self.level_of_owner

    async def level(self, users: Collection[UUID]) -> int | None:
        assert users == {BEN}  # the owner's own is known
        self.during()
        return self.level_of_ben


class Here:
    """A process that finds it there."""

    def __init__(self, world: World, until: datetime = NOW + timedelta(seconds=40), builds: str = "") -> None:
        self.elsewhere = Elsewhere(until, builds or world.parts.read_models.builds)
        services = services_of(world.parts, world.settings)
        self.reads = KeptReads(replace(services, shared_reads=self.elsewhere, clock=lambda: NOW), ())  # type: ignore[arg-type]
        self.reads._opened()
        found = world.app._table.find("/v1/feed")
        assert found is not None
        self.route = found.answering["GET"]

    async def found(self, floor: int = -1) -> Kept | None:
        return await self.reads._shared(self.route, ME, floor, self.reads._cache.generation)


async def test_what_is_good_is_taken_with_its_route(world: World) -> None:
    here = Here(world)
    kept = await here.found(floor=MINE)
    assert kept is not None
    assert (kept.body, kept.meter, kept.kind) == (b"{}", here.route.meter, here.route.entrance.sort.kind)
    assert here.reads._cache.find(ME, time.monotonic()) is kept


async def test_it_lives_no_longer_here_than_there(world: World) -> None:
    kept = await Here(world, until=NOW + timedelta(seconds=1)).found()
    assert kept is not None
    assert kept.expires_at <= time.monotonic() + 1
    longer = await Here(world, until=NOW + timedelta(hours=9)).found()  # by a clock that is ahead
    assert longer is not None
    assert longer.expires_at <= time.monotonic() + LIFE_SECONDS


async def test_what_was_kept_for_long_enough_is_not_taken(world: World) -> None:
    assert await Here(world, until=NOW).found() is None


async def test_what_is_of_other_builds_is_not_taken(world: World) -> None:
    assert await Here(world, builds="others").found() is None


async def test_what_is_from_below_the_position_that_is_asked_for_is_not_taken(world: World) -> None:
    assert await Here(world).found(floor=MINE + 1) is None


async def test_what_is_from_below_its_owners_level_is_not_taken(world: World) -> None:
    here = Here(world)
    here.elsewhere.level_of_owner = MINE + 1
    assert await here.found() is None


@pytest.mark.parametrize("level", [MINE + 1, None])
async def test_what_is_from_below_anothers_level_or_one_that_is_not_known_is_not_taken(
    world: World, level: int | None
) -> None:
    here = Here(world)
    here.elsewhere.level_of_ben = level
    assert await here.found() is None


async def test_a_change_that_is_heard_of_while_levels_are_asked_for_counts(world: World) -> None:
    here = Here(world)
    here.elsewhere.during = lambda: here.reads._changed([BEN], MINE + 1)
    assert await here.found() is None


async def test_after_changes_that_nobody_could_tell_of_the_builds_are_looked_at_before_the_next_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = time.monotonic()
    monkeypatch.setattr(world.parts.read_models, "_read_at", looked_at)
    here = Here(world)
    here.reads._changed([BEN], MINE)
    assert world.parts.read_models._read_at == looked_at
    here.reads._changed([], MINE)
    assert world.parts.read_models._read_at < 0
