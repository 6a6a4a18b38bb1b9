"""Writes that hang in a Postgres which is not dead: its connections stay free, and all goes on afterwards."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.pq.abc import PGresult

from domain.errors import StoreUnavailable
from infra import migrations
from infra.channels import _SETTINGS, Channel
from infra.embedded.postgres import EmbeddedPostgres
from infra.event_store.postgres import PostgresLog
from infra.event_store.rows import Save, VersionTaken
from infra.keys import MasterKeys, UserKeys
from infra.views import ReadModels
from tests.scenarios import ANNA
from tests.servers import running

OTHERS: LiteralString = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
WAITING: LiteralString = OTHERS + " AND wait_event_type = 'Lock'"
IN_SYNC_REP: LiteralString = OTHERS + " AND wait_event = 'SyncRep'"
INSERT = """
    INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
    VALUES (%s, 1, 'follow.ended@1', '', %s, 1)
"""
SHAPES = [pytest.param(1, id="one event"), pytest.param(2, id="several events")]


@pytest.fixture
async def log(database_url: str) -> AsyncIterator[PostgresLog]:
    opened = PostgresLog(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is given up soon."""
    for module in ("infra.away", "infra.event_store.postgres"):
        monkeypatch.setattr(f"{module}.ANSWER_SECONDS", 1.0)
    monkeypatch.setattr("infra.channels._SETTINGS", (*_SETTINGS, b"SET lock_timeout = '100ms'"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The statements that were sent, but for those that were begun at once."""
    run, names = Channel.run, list[bytes]()

    async def noted(channel: Channel, statement: bytes, *more: Any) -> PGresult:
        names.append(statement)
        return await run(channel, statement, *more)

    monkeypatch.setattr(Channel, "run", noted)
    return names


def save(stream: UUID | None = None, events: int = 1) -> Save:
    return Save(stream or uuid4(), ANNA, 1, tuple(("follow.ended@1", uuid4().bytes) for _ in range(events)))


async def outcome(log: PostgresLog, save: Save) -> str:
    try:
        await log.append(save)
    except (VersionTaken, StoreUnavailable) as fault:
        return type(fault).__name__
    return "stored"


def count(database: Connection, query: LiteralString) -> int:
    (found,) = database.execute(query).fetchone() or (0,)
    return int(found)


async def await_count(database: Connection, query: LiteralString, wanted: int) -> None:
    async with asyncio.timeout(60):
        while count(database, query) != wanted:
            await asyncio.sleep(0.01)


def rows(database: Connection) -> Mapping[UUID, list[bytes]]:
    found: dict[UUID, list[bytes]] = {}
    for stream, state in database.execute("SELECT originator_id, state FROM stored_events ORDER BY notification_id"):
        found.setdefault(stream, []).append(state)
    return found


@pytest.mark.parametrize("events", SHAPES)
async def test_appends_that_wait_for_a_locked_table_are_refused_and_leave_nobody_waiting(
    events: int, log: PostgresLog, database: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = save()
    await log.append(known)
    await log.load(known.stream_id)
    saves = [save(events=events) for _ in range(3)]
    with psycopg.connect(database_url) as locking:
        locking.execute("LOCK TABLE stored_events IN SHARE MODE")
        before = count(database, OTHERS)
        with caplog.at_level(logging.ERROR):
            for one in saves:
                assert await outcome(log, one) == "StoreUnavailable"
                assert count(database, WAITING) == 0
        assert count(database, OTHERS) <= before
        assert not caplog.records
        assert len(await log.load(known.stream_id)) == 1, "loads go on"
    assert rows(database).keys() == {known.stream_id}
    assert await outcome(log, saves[0]) == "stored"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("events", "sent"), [(1, []), (2, [b"append"])])
async def test_what_was_not_stored_for_a_lock_is_not_sent_again(
    events: int, sent: list[bytes], log: PostgresLog, database_url: str, asked: list[bytes]
) -> None:
    await log.append(save())
    asked.clear()
    with psycopg.connect(database_url) as locking:
        locking.execute("LOCK TABLE stored_events IN SHARE MODE")
        assert await outcome(log, save(events=events)) == "StoreUnavailable"
    assert asked == sent


@pytest.mark.usefixtures("soon")
async def test_a_read_that_waits_for_a_lock_is_not_sent_again(
    log: PostgresLog, database_url: str, asked: list[bytes]
) -> None:
    await log.reply(b"nobody's")
    asked.clear()
    with psycopg.connect(database_url) as locking:
        locking.execute("LOCK TABLE kept_replies IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable):
            await log.reply(b"nobody's")
    assert asked == [b"replies"]


@pytest.mark.usefixtures("soon")
async def test_a_stream_that_is_held_refuses_its_own_save_and_no_other(log: PostgresLog, database_url: str) -> None:
    held, others = save(), [save(events=events) for events in (1, 2, 1)]
    with psycopg.connect(database_url) as stuck:
        stuck.execute(INSERT, (held.stream_id, ANNA))
        first, *rest = await log._append([held, *others])
    assert isinstance(first, StoreUnavailable)
    assert [type(one) for one in rest] == [int] * 3


@pytest.mark.usefixtures("soon")
async def test_of_saves_that_all_have_to_wait_two_are_tried_alone(
    log: PostgresLog, database_url: str, asked: list[bytes]
) -> None:
    await log.append(save())
    asked.clear()
    with psycopg.connect(database_url) as locking:
        locking.execute("LOCK TABLE stored_events IN SHARE MODE")
        found = await log._append([save() for _ in range(5)])
    assert [type(one) for one in found] == [StoreUnavailable] * 5
    assert asked == [b"append_single", b"append_one", b"append_one"]


async def test_a_connection_that_cannot_be_prepared_while_a_table_is_locked_leaves_nobody_waiting(
    log: PostgresLog, database: Connection, database_url: str
) -> None:
    with psycopg.connect(database_url) as locking:
        locking.execute("LOCK TABLE stored_events IN SHARE MODE")
        before = count(database, OTHERS)
        for _ in range(3):
            assert await outcome(log, save()) == "StoreUnavailable"
        await await_count(database, OTHERS, before)
        assert await log.load(uuid4()) == [], "loads go on"
    assert await outcome(log, save()) == "stored"


@pytest.mark.parametrize("events", SHAPES)
async def test_whoever_waits_for_a_transaction_that_does_not_end_is_refused(
    events: int, log: PostgresLog, database: Connection, database_url: str
) -> None:
    await log.append(save())
    given = save(events=events)
    with psycopg.connect(database_url) as stuck:
        stuck.execute(INSERT, (given.stream_id, ANNA))
        assert await outcome(log, given) == "StoreUnavailable"
        assert count(database, WAITING) == 0
        assert await outcome(log, save()) == "stored"
    assert await outcome(log, given) == "VersionTaken"


@pytest.mark.parametrize("events", SHAPES)
async def test_what_became_of_a_save_is_not_asked_again_where_its_own_transaction_does_not_end(
    events: int, log: PostgresLog, database: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append(save())
    given, looks = save(events=events), 0
    settle = log._settle

    async def counted(channel: Channel, todo: Mapping[int, Save], outcomes: dict[int, object]) -> dict[int, Save]:
        nonlocal looks
        looks += 1
        return await settle(channel, todo, outcomes)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "_settle", counted)
    with psycopg.connect(database_url) as stuck:
        stuck.execute(INSERT, (given.stream_id, ANNA))
        (found,) = (await log._look_for({0: given})).values()
        assert isinstance(found, StoreUnavailable)
        assert count(database, WAITING) == 0
    assert looks == 1


async def test_looking_for_a_save_ends_in_time_whatever_hangs(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hanging(*_: object) -> Channel:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("infra.event_store.postgres._LOOK_SECONDS", 0.05)
    monkeypatch.setattr(log._channels, "_opened", hanging)
    async with asyncio.timeout(60):
        found = await log._look_for({0: save(), 3: save()})
    assert [type(one) for one in found.values()] == [StoreUnavailable] * 2
    assert found.keys() == {0, 3}


async def test_saves_that_are_tried_alone_are_not_waited_for_one_after_the_other(
    log: PostgresLog, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.event_store.postgres._RACES", 0)
    monkeypatch.setattr("infra.event_store.postgres._LOOK_SECONDS", 0.5)
    saves = [save() for _ in range(3)]
    with psycopg.connect(database_url) as stuck:
        stuck.execute(INSERT, (saves[0].stream_id, ANNA))
        found = await log._append(saves)
    assert [type(one) for one in found] == [StoreUnavailable] * 3
    assert await log.load(saves[1].stream_id) == []


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own, whose settings may be changed."""
    with running(EmbeddedPostgres, tmp_path_factory.mktemp("primary")) as server:
        migrations.upgrade(server.url)
        yield server.url


@pytest.fixture
def operator(primary: str) -> Iterator[Connection]:
    with psycopg.connect(primary, autocommit=True) as connection:
        yield connection
        stand_by(connection, "")


def stand_by(operator: Connection, name: LiteralString) -> None:
    """Let commits wait for the standby of this name; for none, where there is no name."""
    operator.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    operator.execute("SELECT pg_reload_conf()")
    operator.execute("SET synchronous_commit = local")
    with psycopg.connect(operator.info.dsn, autocommit=True) as look:
        while look.execute("SHOW synchronous_standby_names").fetchone() != (name,):
            pass


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("events", SHAPES)
async def test_commits_that_wait_for_a_standby_which_is_gone_take_few_connections_and_are_there_once_in_the_end(
    events: int, primary: str, operator: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.hung_up._LOOK_AGAIN_SECONDS", 0.0)
    log = PostgresLog(primary)
    known = save()
    await log.append(known)
    stand_by(operator, "gone")
    saves = [save(events=events) for _ in range(16)]
    for at in range(0, len(saves), 2):
        outcomes = await asyncio.gather(*(outcome(log, one) for one in saves[at : at + 2]))
        assert outcomes == ["StoreUnavailable"] * 2
    assert count(operator, WAITING) == 0
    assert 4 <= count(operator, IN_SYNC_REP) <= 6
    assert len(await log.load(known.stream_id)) == 1, "loads go on"
    stand_by(operator, "")
    await await_count(operator, IN_SYNC_REP, 0)
    for one in saves:
        assert await outcome(log, one) in ("stored", "VersionTaken")
    stored = rows(operator)
    assert all(stored[one.stream_id] == [state for _, state in one.events] for one in saves)
    await log.close()


@pytest.mark.usefixtures("soon")
async def test_so_do_changes_of_other_tables(
    primary: str, operator: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.hung_up._LOOK_AGAIN_SECONDS", 0.0)
    read_models = ReadModels(primary, connections=3)
    await read_models.open()
    keys = UserKeys(read_models, MasterKeys([b"m" * 32]))
    owners = [uuid4() for _ in range(12)]
    await keys.to_seal(ANNA)
    stand_by(operator, "gone")
    for at in range(0, len(owners), 2):
        found = await asyncio.gather(*(keys.to_seal(one) for one in owners[at : at + 2]), return_exceptions=True)
        assert [type(one) for one in found] == [StoreUnavailable] * 2
    assert 4 <= count(operator, IN_SYNC_REP) <= 5
    async with read_models.connection() as connection:
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,), "reads go on"
    stand_by(operator, "")
    await await_count(operator, IN_SYNC_REP, 0)
    for one in owners:
        await keys.to_seal(one)
    await read_models.close()
