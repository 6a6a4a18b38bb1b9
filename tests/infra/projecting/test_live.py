"""Any number of workers fill the read models; whoever lost a shard writes nothing."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Final, LiteralString
from uuid import uuid4

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import Connection
from redis import Redis

from domain.errors import StoreUnavailable
from infra.projecting.builds import Registry
from infra.projecting.holding import release
from infra.projecting.lifecycle import Lifecycle
from infra.projecting.pages import Pages
from infra.projecting.shards import LEASE_SECONDS, LeaseLost, Leases, Shard, change_shards, lock_shards, stop
from infra.projecting.tables import prepare
from infra.shared_reads import Changes
from projections import PROJECTIONS
from projections.activities import ACTIVITIES
from projections.projection import Projection
from projections.summaries import SUMMARIES
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import History, append
from tests.infra.projecting.live import Worker, expire_leases
from workers import projector

SHARDS = sum({projection.name: projection.shards for projection in PROJECTIONS}.values())  # of the newest versions
SUMMARIES_1: Final = "summaries_v1"


def held(database: Connection) -> list[int]:
    """How many shards each worker has."""
    found = database.execute("SELECT count(*) FROM projection_shards WHERE leased_until > now() GROUP BY holder")
    return sorted(count for (count,) in found)


def test_workers_share_the_shards_fairly_and_all_of_them(database_url: str, database: Connection) -> None:
    workers = [Worker(database_url) for _ in range(3)]
    for _ in range(3):  # who was alone gives back what is too much at the next look
        for worker in workers:
            worker.turn()
    assert sum(held(database)) == SHARDS
    assert max(held(database)) - min(held(database)) <= 2
    for worker in workers:
        worker.kill()


def test_a_worker_that_ends_gives_its_shards_back_at_once(database_url: str, database: Connection) -> None:
    with Worker(database_url) as first, Worker(database_url) as second:
        first.turn()
        assert held(database) == [SHARDS]
        first.tables.release()
        assert held(database) == []
        second.turn()
        assert held(database) == [SHARDS]


def test_shards_of_a_worker_that_is_gone_are_taken_over_when_their_leases_end(
    database_url: str, database: Connection, operator: Operator
) -> None:
    history = History(1)
    first = Worker(database_url)
    append(database, history.take(50))
    first.catch_up()
    first.kill()
    end = append(database, history.take(50))
    with Worker(database_url) as second:
        second.turn()
        assert operator.positions("summaries_v1") != {end}  # they are leased yet
        expire_leases(database)
        second.catch_up()
    assert operator.positions("summaries_v1") == {end}


def test_whoever_takes_shards_over_makes_kept_answers_old_once(
    database_url: str, database: Connection, redis_url: str
) -> None:
    """Who had them may have died between a commit and its news."""
    said: list[str] = []

    class Heard(Changes):
        def all_of_it(self) -> None:
            said.append("all of it")

    first = Worker(database_url)
    first.turn()
    with Worker(database_url, changes=Heard(Redis.from_url(redis_url, protocol=2))) as second:
        second.turn()
        assert (said, held(database)) == ([], [SHARDS])
        first.kill()
        expire_leases(database)
        for _ in range(2):
            second.turn()
            assert (said, held(database)) == (["all of it"], [SHARDS])


def test_one_who_lost_its_shards_writes_nothing(database_url: str, database: Connection, operator: Operator) -> None:
    history = History(2)
    with Worker(database_url) as zombie, Worker(database_url) as heir:
        append(database, history.take(100))
        zombie.catch_up()
        append(database, history.take(100))
        expire_leases(database)
        heir.turn()
        before = {name: operator.digests(operator.active(name)) for name in ("summaries", "feed", "people")}
        assert zombie.turn(renew=False) == 0  # it believes that it has them, and reads what the heir has written
        heir.catch_up()
        assert {name: operator.digests(operator.active(name)) for name in before} == before


def test_one_who_lost_one_of_its_shards_writes_none_of_the_page(
    database_url: str, database: Connection, operator: Operator
) -> None:
    with Worker(database_url) as worker:
        append(database, History(2).take(100))
        worker.catch_up()
        at, before = operator.positions("summaries_v1"), operator.digests("summaries_v1")
        append(database, History(5).take(100))
        taken = "UPDATE projection_shards SET holder = %s, epoch = epoch + 1 WHERE schema_name = %s AND shard = 0"
        database.execute(taken, (uuid4(), "summaries_v1"))
        assert worker.turn(renew=False) == 0
        assert (operator.positions("summaries_v1"), operator.digests("summaries_v1")) == (at, before)


def test_a_lease_is_fenced_by_its_epoch_even_for_the_same_position(database: Connection) -> None:
    holder = uuid4()
    leases = Leases(database, holder, [("goals", 1)])
    shard = next(iter(leases.renew()))
    leases.release()
    again = next(one for one in leases.renew() if (one.schema_name, one.shard) == (shard.schema_name, shard.shard))
    assert (again.position, again.epoch > shard.epoch) == (shard.position, True)
    with pytest.raises(LeaseLost), database.transaction():
        leases.advance([shard], 5)
    with database.transaction():
        leases.advance([again], 5)
    with pytest.raises(LeaseLost), database.transaction():
        leases.advance([again], 6)  # as one who read on from where it was before


@pytest.mark.parametrize(
    "change",
    ["paused = true", "stopped = 'a test'", "hold_at = 5, hold_until = now() + interval '1 hour'"],
    ids=["paused", "stopped", "held"],
)
def test_shards_that_may_not_go_on_any_more_are_not_moved(change: LiteralString, database: Connection) -> None:
    """By a worker either that had them before."""
    leases = Leases(database, uuid4(), [("goals", 1)])
    shards = leases.renew()
    change_shards(database, ["goals_v1"], change)
    with pytest.raises(LeaseLost):
        leases.advance(shards, 6)


def test_held_shards_are_moved_up_to_where_they_are_held(database: Connection) -> None:
    leases = Leases(database, uuid4(), [("goals", 1)])
    shards = leases.renew()
    change_shards(database, ["goals_v1"], "hold_at = 5, hold_until = now() + interval '1 hour'")
    leases.advance(shards, 5)
    assert {shard.position for shard in leases.held()} == {5}


def test_a_lease_outlasts_two_looks_at_it_that_come_to_nothing() -> None:
    assert projector._RENEW_SECONDS * 3 <= LEASE_SECONDS


def test_shards_of_several_builds_are_moved_in_the_order_in_which_all_lock_them(operator: Operator) -> None:
    """A worker has them in another one, where some were behind and came to the others."""
    projections = [(projection.name, projection.version) for projection in PROJECTIONS]
    with (
        psycopg.connect(operator.url, autocommit=True) as connection,
        psycopg.connect(operator.url) as first,
        ThreadPoolExecutor(1) as beside,
    ):
        leases = Leases(prepare(connection, live=True), uuid4(), projections)
        shards = leases.renew()
        lock_shards(first, ["feed_v1"])
        moving = beside.submit(leases.advance, shards[::-1], 1)
        while not operator.connection.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            time.sleep(0.01)
        lock_shards(first, ["goals_v1", "people_v1", "summaries_v1"])
        first.rollback()
        moving.result()


@pytest.mark.parametrize("workers_first", [True, False])
@pytest.mark.parametrize(
    "move",
    [
        lambda leases, shards: leases.advance(shards, 1),
        lambda leases, _: leases.renew(),
        lambda leases, _: leases.release(),
    ],
    ids=["advance", "renew", "release"],
)
@pytest.mark.parametrize(
    "change",
    [
        lambda lifecycle: release(lifecycle._connection, [SUMMARIES_1]),
        lambda lifecycle: lifecycle.pause("summaries", paused=False),
        lambda lifecycle: stop(lifecycle._connection, SUMMARIES_1, "a test"),
    ],
    ids=["release", "resume", "stop"],
)
def test_workers_and_operators_who_want_the_same_shards_wait_in_one_line(
    operator: Operator,
    move: Callable[[Leases, Sequence[Shard]], object],
    change: Callable[[Lifecycle], object],
    *,
    workers_first: bool,
) -> None:
    with ExitStack() as opened:
        first, workers, operators = (
            opened.enter_context(psycopg.connect(operator.url, autocommit=True)) for _ in range(3)
        )
        leases = Leases(prepare(workers, live=True), uuid4(), [("summaries", SUMMARIES.version)])
        lifecycle = Lifecycle(operators, Registry(operators), operator.url)
        shards = leases.renew()
        for shard in reversed(shards):  # the order in the table is another one than that of their numbers
            operators.execute("UPDATE projection_shards SET position = 0 WHERE shard = %s", (shard.shard,))

        def work() -> None:
            with workers.transaction(), suppress(LeaseLost):  # they may have been stopped meanwhile
                move(leases, shards)

        def operate() -> None:
            with operators.transaction():
                change(lifecycle)

        threads = opened.enter_context(ThreadPoolExecutor(2))
        with first.transaction():
            first.execute("SELECT FROM projection_shards WHERE shard = %s FOR UPDATE", (shards[0].shard,))
            waiting = []
            for number, one in enumerate((work, operate) if workers_first else (operate, work), 1):
                waiting.append(threads.submit(one))
                while operator.connection.execute(_WAITING).fetchone() != (number,):
                    assert not waiting[-1].done(), waiting[-1].result()
                    time.sleep(0.005)
        for ended in waiting:
            ended.result()


_WAITING: Final = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def test_a_held_shard_does_not_pass_the_position_and_goes_on_when_the_hold_ends(
    database: Connection, worker: Worker, operator: Operator
) -> None:
    history = History(3)
    middle = append(database, history.take(20))
    end = append(database, history.take(20))
    hold = (
        "UPDATE projection_shards SET hold_at = %s, hold_until = now() + %s::interval "
        "WHERE schema_name = 'summaries_v1'"
    )
    database.execute(hold, (middle, "1 hour"))
    worker.catch_up()
    assert (operator.positions("summaries_v1"), operator.positions("goals_v1")) == ({middle}, {end})
    database.execute(hold, (middle, "-1 second"))
    worker.catch_up()
    assert operator.positions("summaries_v1") == {end}


def test_what_is_paused_stays_and_the_others_go_on(worker: Worker, operator: Operator) -> None:
    operator.lifecycle.pause("summaries", paused=True)
    end = append(operator.connection, History(3).take(20))
    worker.catch_up()
    assert (operator.positions("summaries_v1"), operator.positions("goals_v1")) == ({0}, {end})
    operator.lifecycle.pause("summaries", paused=False)
    worker.catch_up()
    assert operator.positions("summaries_v1") == {end}


def test_a_build_that_cannot_take_a_page_is_stopped_with_the_reason_and_the_others_go_on(
    worker: Worker, operator: Operator
) -> None:
    operator.connection.execute("ALTER TABLE summaries_v1.days DROP COLUMN moving_s")
    end = append(operator.connection, History(3).take(40))
    worker.catch_up()
    assert (operator.positions("summaries_v1"), operator.positions("activities_v4")) == ({0}, {end})
    stopped = operator.connection.execute(
        "SELECT DISTINCT stopped FROM projection_shards WHERE schema_name = 'summaries_v1'"
    ).fetchall()
    assert len(stopped) == 1
    assert "UndefinedColumn" in stopped[0][0]


def test_no_build_is_stopped_because_the_node_takes_no_writes_any_more(
    database_url: str, database: Connection, operator: Operator
) -> None:
    append(database, History(3).take(50))
    worker = Worker(database_url)
    worker.turn()
    end = append(database, History(4).take(50))
    worker.tables._connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable):
        worker.turn(renew=False)
    worker.kill()
    expire_leases(database)
    with Worker(database_url) as heir:
        heir.catch_up()
    assert operator.positions("summaries_v1") == {end}


def test_builds_that_this_code_does_not_declare_are_left_to_others(
    database_url: str, database: Connection, operator: Operator
) -> None:
    end = append(database, History(3).take(20))
    with Worker(database_url, [one for one in PROJECTIONS if one.name != "summaries"]) as old:
        old.catch_up()
        assert (operator.positions("summaries_v1"), operator.positions("goals_v1")) == ({0}, {end})
        with Worker(database_url) as new:
            new.catch_up()  # it takes what only it knows, while the other keeps the rest
            assert held(database) == [4, SHARDS - 4]
        assert operator.positions("summaries_v1") == {end}


@pytest.mark.parametrize(
    ("projection", "opens"), [(SUMMARIES, False), (ACTIVITIES, True)], ids=["summaries", "activities"]
)
def test_a_worker_opens_what_one_of_its_builds_reads(
    *, projection: Projection, opens: bool, database_url: str, database: Connection, operator: Operator
) -> None:
    append(database, History(3).take(200))
    database.execute("UPDATE user_keys SET wrapped = '\\x00' WHERE wrapped IS NOT NULL")
    with Worker(database_url, [projection]) as worker:
        worker.catch_up()
        assert bool(worker.reader.parked()) is opens
    rows = [count for count, _ in operator.digests(operator.active(projection.name)).values()]
    assert any(rows) is not opens


def test_a_page_is_applied_once_by_shards_of_any_number(database_url: str, database: Connection) -> None:
    """Each row belongs to one partition: no shard writes rows of another's."""
    projection = next(one for one in PROJECTIONS if one.name == "people")
    partitions = [range(shard * 256 // 7, (shard + 1) * 256 // 7) for shard in range(7)]
    assert sorted(number for part in partitions for number in part) == list(range(256))
    assert replace(projection, shards=7).tables == projection.tables
    with Worker(database_url) as worker:
        append(database, History(9).take(60))
        log, _ = worker.reader.page(0, 100)
    for part in partitions:
        with database.transaction():
            Pages(prepare(database), projection, "people_v1", frozenset(part)).take(log)
    total = database.execute("SELECT sum(followers) - sum(following) FROM people_v1.degrees").fetchone()
    assert total == (0,)
