"""live == rebuild == refold: whatever happens on the way, rows say what the log says."""

import os
import random
from collections.abc import Sequence
from contextlib import suppress
from unittest.mock import patch

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import Connection

from domain.errors import StoreUnavailable
from domain.events.event import Recorded
from infra.projecting.auditing import audit
from infra.projecting.builds import Registry
from infra.projecting.lifecycle import Lifecycle
from infra.projecting.pages import Pages
from infra.projecting.rebuild import Options, rebuilding
from projections import PROJECTIONS, feed
from projections.projection import Projection
from tests.infra.projecting.histories import MASTER, MASTER_KEY, History, append
from tests.infra.projecting.live import Worker, active, digests, expire_leases

SEEDS = range(int(os.environ.get("CAIRN_SEEDS", "6")))  # more by hand


@pytest.mark.parametrize("seed", SEEDS)
def test_live_rebuilt_and_refolded_rows_are_equal(
    seed: int, database_url: str, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(feed, "KEPT", dice.choice([2, 9, 2_000]))
    projections = [one if one.derived else replace(one, shards=dice.choice([1, 2, 3, 7, 256])) for one in PROJECTIONS]
    registry = Registry(database, projections)
    database.execute("DELETE FROM projection_shards")
    for build in active(registry).values():
        registry.follow(build, 0)

    end = _live_through(dice, database_url, database, projections)
    assert database.execute("SELECT DISTINCT position FROM projection_shards").fetchall() == [(end,)]
    live = {
        name: digests(database, registry.definition(build), build.schema_name)
        for name, build in active(registry).items()
    }
    assert all(count for tables in live.values() for count, _ in tables.values()), "no rows show nothing"

    audited = audit(database_url, registry, MASTER, None, percent=100)
    assert [(one.build, one.differences) for one in audited if one.differences] == []
    assert {one.partitions for one in audited} == {256}

    with rebuilding(database, registry, database_url, [MASTER_KEY], lambda _progress: None) as rebuild:
        builds = rebuild.start(sorted({one.name for one in projections}), restart=False)
        rebuild.fill(builds, Options(dice.randint(1, 3), 512 * 1024**2, 60.0))
    rebuilt = {build.name: digests(database, registry.definition(build), build.schema_name) for build in builds}
    assert rebuilt == live
    lifecycle = Lifecycle(database, registry, database_url)
    for name in rebuilt:
        verdict = lifecycle.verify(lifecycle.candidate(name))
        assert verdict is not None
        assert verdict.position == end


def _live_through(dice: random.Random, url: str, database: Connection, projections: Sequence[Projection]) -> int:
    """Appends, turns, stalls, crashes and cuts in any order, until all of it is taken; the last position."""
    history, end = History(dice.randrange(2**32)), 0
    page = dice.choice([1, 7, 50, 2_000])
    workers = [Worker(url, projections, page) for _ in range(dice.randint(1, 4))]
    for _ in range(150):
        match dice.choices(["append", "turn", "stall", "crash", "cut", "nothing"], [30, 55, 4, 4, 4, 3])[0]:
            case "append":
                end = append(database, history.take(dice.randint(1, 12)))
            case "turn":
                dice.choice(workers).turn(renew=dice.random() < 0.7)
            case "stall":  # all leases run out, and the first to look takes everything
                expire_leases(database)
                dice.choice(workers).turn()
            case "crash":
                workers.pop(dice.randrange(len(workers))).kill()
                expire_leases(database)
                workers.append(Worker(url, projections, page))
            case "cut":
                _cut_off(dice.choice(workers))
            case "nothing":  # positions are drawn and not used
                database.execute("SELECT nextval('stored_events_notification_id_seq')")
    expire_leases(database)
    workers[0].catch_up()
    for worker in workers:
        worker.kill()
    return end


def _cut_off(worker: Worker) -> None:
    """Its server goes away after the rows of a page were written and before they are committed."""
    whole = Pages.take

    def torn(self: Pages, page: Sequence[Recorded], *, row_by_row: bool = False) -> None:
        whole(self, page, row_by_row=row_by_row)
        raise psycopg.OperationalError

    with patch.object(Pages, "take", torn), suppress(StoreUnavailable):
        worker.turn()
