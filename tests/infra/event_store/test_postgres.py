"""The log in Postgres: saves win or lose alone, and an answer that is lost is looked up, never guessed."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection, Connection

from domain.errors import StoreUnavailable
from infra.channels import _SETTINGS, Channel
from infra.event_store.postgres import PostgresLog
from infra.event_store.rows import KeptReply, ReplyKept, Row, Save, VersionTaken
from infra.event_store.statements import READING, WRITING
from tests.infra.event_store.proxy import Proxy
from tests.scenarios import ANNA, BEN

TOPIC = "follow.ended@1"
STREAM = uuid4()


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    with TemporaryDirectory(prefix="cairn-") as folder:
        async with Proxy(Path(folder), database_url).running() as running:
            yield running


@pytest.fixture
async def log(proxy: Proxy) -> AsyncIterator[PostgresLog]:
    opened = PostgresLog(proxy.url)
    yield opened
    await opened.close()


def save(stream: UUID | None = None, version: int = 1, events: int = 1, key: bytes | None = None) -> Save:
    reply = None if key is None else KeptReply(key * 32, b"f" * 32, ANNA, uuid4().bytes)
    states = tuple((TOPIC, uuid4().bytes) for _ in range(events))
    return Save(stream or uuid4(), ANNA, version, states, reply)


def rows(database: Connection) -> Mapping[UUID, list[bytes]]:
    found: dict[UUID, list[bytes]] = {}
    for stream, state in database.execute("SELECT originator_id, state FROM stored_events ORDER BY notification_id"):
        found.setdefault(stream, []).append(state)
    return found


def states(save: Save) -> list[bytes]:
    return [state for _, state in save.events]


async def outcome(log: PostgresLog, save: Save) -> str:
    try:
        return "stored" if await log.append(save) else "nothing"
    except (VersionTaken, ReplyKept, StoreUnavailable) as fault:
        return type(fault).__name__


@pytest.mark.parametrize("events", [0, 1, 3])
@pytest.mark.parametrize("key", [None, b"k"])
async def test_a_save_is_loaded_as_it_was_appended(log: PostgresLog, events: int, key: bytes | None) -> None:
    given = save(events=events, key=key)
    position = await log.append(given)
    loaded = await log.load(given.stream_id)
    assert [(row.topic, row.state) for row in loaded] == list(given.events)
    assert [row.version for row in loaded] == list(range(1, events + 1))
    assert position == (loaded[-1].position if events else 0)
    assert (await log.reply(b"k" * 32) is not None) is (key is not None)


async def test_saves_of_a_batch_win_or_lose_alone(log: PostgresLog, database: Connection) -> None:
    taken = save()
    await log.append(taken)
    await log.append(save(key=b"a"))
    given = {
        "stored": [save(), save(events=3), save(taken.stream_id, 2), save(key=b"b"), save(key=b"c", events=2)],
        "VersionTaken": [save(taken.stream_id, 1), save(taken.stream_id, 1, events=2, key=b"d")],
        "ReplyKept": [save(key=b"a"), save(key=b"a", events=2), save(taken.stream_id, 1, key=b"a")],
    }
    ordered = [(expected, one) for expected, saves in given.items() for one in saves]
    random.Random(3).shuffle(ordered)
    outcomes = await asyncio.gather(*(outcome(log, one) for _, one in ordered))
    stored = rows(database)
    for (expected, one), found in zip(ordered, outcomes, strict=True):
        if one.stream_id != taken.stream_id:
            assert found == expected
            assert (states(one) == stored.get(one.stream_id, [])) is (found == "stored")
    of_taken = [found for (_, one), found in zip(ordered, outcomes, strict=True) if one.stream_id == taken.stream_id]
    assert of_taken.count("stored") <= 1  # the first of them to come was tried
    assert await log.reply(b"d" * 32) is None


@pytest.mark.parametrize("events", [1, 2])
async def test_a_save_that_comes_too_late_for_its_version_leaves_no_reply(log: PostgresLog, events: int) -> None:
    taken = save()
    await log.append(taken)
    assert await outcome(log, save(taken.stream_id, 1, events=events, key=b"d")) == "VersionTaken"
    assert await log.reply(b"d" * 32) is None


async def test_of_many_that_want_the_same_version_one_gets_it(
    log: PostgresLog, database: Connection, database_url: str
) -> None:
    others = [PostgresLog(database_url) for _ in range(3)]
    for _ in range(20):
        stream = uuid4()
        rivals = [(one, save(stream, events=random.choice([1, 2]))) for one in (log, *others) for _ in range(5)]
        outcomes = await asyncio.gather(*(outcome(one, given) for one, given in rivals))
        assert sorted(outcomes) == ["VersionTaken"] * 19 + ["stored"]
        winner = rivals[outcomes.index("stored")][1]
        assert rows(database)[stream] == states(winner)
    for other in others:
        await other.close()


CUTS = ["the request", "the answer"]
KINDS = {
    "one event": lambda: [save()],
    "several events": lambda: [save(events=3)],
    "events and a reply": lambda: [save(events=2, key=b"k")],
    "a reply alone": lambda: [save(events=0, key=b"k")],
    "a batch of single events": lambda: [save() for _ in range(5)],
    "a mixed batch": lambda: [save(), save(events=2), save(key=b"k"), save(events=0, key=b"l")],
}


async def busy(log: PostgresLog, saves: Sequence[Save]) -> None:
    """Connected, prepared, and used to so many at once: a single one is then begun at once, others are flushed."""
    many = 1 if len(saves) == 1 else 10
    await asyncio.gather(*(log.append(save()) for _ in range(many)))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_is_lost_in_the_middle_of_a_save_leaves_it_stored_once(
    kind: str, cut: str, log: PostgresLog, proxy: Proxy, database: Connection
) -> None:
    saves = KINDS[kind]()
    await busy(log, saves)
    if cut == "the request":
        proxy.cut_request = lambda data: b"\0append" in data
    else:
        proxy.cut_answer = lambda _data: True
    positions = await asyncio.gather(*(log.append(one) for one in saves))
    assert proxy.cuts == 1
    stored = rows(database)
    for one, position in zip(saves, positions, strict=True):
        assert stored.get(one.stream_id, []) == states(one)
        last = database.execute(
            "SELECT max(notification_id) FROM stored_events WHERE originator_id = %s", (one.stream_id,)
        ).fetchone()
        assert last == (position or None,)
        if one.reply is not None:
            kept = await log.reply(one.reply.key_hash)
            assert kept is not None
            assert (kept.sealed, kept.position) == (one.reply.sealed, position)


RACES = {
    "the version": (save(STREAM), save(STREAM), "VersionTaken"),
    "the version, of several": (save(STREAM), save(STREAM, events=2), "VersionTaken"),
    "the request": (save(key=b"k"), save(events=2, key=b"k"), "ReplyKept"),
    "the request, without events": (save(events=0, key=b"k"), save(events=0, key=b"k"), "ReplyKept"),
}


@pytest.mark.parametrize(("rival", "given", "expected"), RACES.values(), ids=RACES)
async def test_what_was_taken_by_another_while_the_answer_was_lost_is_taken(
    rival: Save, given: Save, expected: str, log: PostgresLog, proxy: Proxy, database: Connection, database_url: str
) -> None:
    await log.append(save())
    other = PostgresLog(database_url)
    await other.append(rival)
    proxy.cut_answer = lambda _data: True
    assert await outcome(log, given) == expected
    assert rows(database).get(rival.stream_id, []) == states(rival)
    assert (given.stream_id in rows(database)) is (given.stream_id == rival.stream_id)
    await other.close()


FASTER = {
    "VersionTaken": """
        INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
        VALUES (%(stream)s, 2, 'follow.ended@1', '', %(owner)s, 1)
    """,
    "ReplyKept": """
        INSERT INTO kept_replies (key_hash, fingerprint, owner_id, sealed, position)
        VALUES (%(key)s, '', %(owner)s, '', 1)
    """,
}
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"


@pytest.mark.parametrize(("expected", "insert"), FASTER.items(), ids=FASTER)
async def test_whoever_lost_every_race_and_is_tried_alone_is_told_what_was_taken(
    expected: str,
    insert: LiteralString,
    log: PostgresLog,
    database: Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infra.event_store.postgres._RACES", 0)
    given = save(events=2, key=b"k")
    async with await AsyncConnection.connect(database_url) as faster:
        await faster.execute(insert, {"stream": given.stream_id, "owner": ANNA, "key": b"k" * 32})
        losing = asyncio.create_task(outcome(log, given))
        while database.execute(WAITING).fetchone() == (0,):
            await asyncio.sleep(0.01)
    assert await losing == expected
    assert len(rows(database).get(given.stream_id, [])) == (expected == "VersionTaken")
    assert (await log.reply(b"k" * 32) is None) is (expected == "VersionTaken")


async def test_whoever_is_tried_alone_while_the_connection_is_lost_is_told_that_nobody_knows(
    log: PostgresLog, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append(save())
    monkeypatch.setattr("infra.event_store.postgres._RACES", 0)
    proxy.cut_answer = lambda _data: True
    assert await outcome(log, save(events=2)) == "StoreUnavailable"


@pytest.mark.parametrize(("tries", "expected"), [(1, "stored"), (4, "StoreUnavailable")])
async def test_a_save_whose_answer_was_lost_is_looked_for_as_long_as_the_server_may_come_back_and_not_done_again(
    tries: int, expected: str, log: PostgresLog, proxy: Proxy, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.event_store.postgres._PAUSES", (0.0,) * 4)
    await log.append(save())
    opened, missed = log._channels._opened, 0

    async def away_for_some_tries() -> Channel:
        nonlocal missed
        missed += 1
        if missed <= tries:
            raise StoreUnavailable
        return await opened()

    monkeypatch.setattr(log._channels, "_opened", away_for_some_tries)
    proxy.cut_answer = lambda _data: True
    given = save()
    assert await outcome(log, given) == expected
    assert rows(database)[given.stream_id] == states(given)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_transaction_that_ends_after_it_was_looked_for_is_found_in_the_end(
    kind: str, proxy: Proxy, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, the first request still reaches the server, between the look and the second attempt."""
    log = PostgresLog(proxy.url)
    saves = KINDS[kind]()
    await busy(log, saves)
    proxy.late = asyncio.Event()
    proxy.cut_request = lambda data: b"\0append" in data
    settle = log._settle

    async def then_late(channel: Channel, todo: Mapping[int, Save], outcomes: dict[int, object]) -> dict[int, Save]:
        left = await settle(channel, todo, outcomes)  # type: ignore[arg-type]
        assert proxy.late is not None
        if not proxy.late.is_set():
            assert left == todo
            proxy.late.set()
            await asyncio.sleep(0.3)
        return left

    monkeypatch.setattr(log, "_settle", then_late)
    positions = await asyncio.gather(*(log.append(one) for one in saves))
    stored = rows(database)
    for one, position in zip(saves, positions, strict=True):
        assert stored.get(one.stream_id, []) == states(one)
        assert (position > 0) is bool(one.events)
    await log.close()


@pytest.mark.parametrize("versions", [(2, 1), (1, 2)])
async def test_of_two_snapshots_the_later_one_stays_whichever_comes_first(
    log: PostgresLog, versions: Sequence[int]
) -> None:
    given = save(events=3)
    await log.append(given)
    for version in versions:
        await log.snapshot(Row(version, given.stream_id, version, "state", b"%d" % version, ANNA))
    loaded = await log.load(given.stream_id, 0, "state")
    assert [(row.version, row.state) for row in loaded] == [(2, b"2"), (3, given.events[2][1])]


async def test_loads_survive_a_lost_connection(log: PostgresLog, proxy: Proxy) -> None:
    given = save(key=b"k")
    await log.append(given)
    await log.load(given.stream_id)
    for ask in (lambda: log.load(given.stream_id), lambda: log.reply(b"k" * 32)):
        proxy.cut_answer = lambda _data: True
        assert await ask()
    assert proxy.cuts == 2


async def test_while_the_server_is_away_it_is_said_so_and_afterwards_all_goes_on(
    log: PostgresLog, proxy: Proxy
) -> None:
    given = save()
    await log.append(given)
    await log.load(given.stream_id)
    pools = log._channels, log._reads
    url = log._channels._database_url
    for pool in pools:
        pool._database_url = "host=127.0.0.1 port=1"
    proxy.cut_request = lambda _data: True
    assert await outcome(log, save()) == "StoreUnavailable"
    proxy.cut_request = lambda _data: True
    with pytest.raises(StoreUnavailable):
        await log.load(given.stream_id)
    for pool in pools:
        pool._database_url = url
    assert await outcome(log, save()) == "stored"
    assert len(await log.load(given.stream_id)) == 1


async def test_a_caller_that_gives_up_disturbs_nobody(log: PostgresLog, database: Connection) -> None:
    for _ in range(20):
        saves = [save() for _ in range(30)]
        tasks = [asyncio.ensure_future(log.append(one)) for one in saves]
        await asyncio.sleep(random.random() * 0.003)
        for task in tasks[::3]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        stored = rows(database)
        for one, result in zip(saves, done, strict=True):
            if isinstance(result, int):
                assert stored[one.stream_id] == states(one)
            else:
                assert isinstance(result, asyncio.CancelledError)


async def test_who_closes_waits_for_what_is_under_way(database_url: str, database: Connection) -> None:
    log = PostgresLog(database_url)
    saves = [save(events=2) for _ in range(5)]
    appends = [asyncio.create_task(log.append(one)) for one in saves]
    await asyncio.sleep(0)
    await log.close()
    assert all(one.done() for one in appends)
    assert rows(database) == {one.stream_id: states(one) for one in saves}


async def test_what_the_server_refuses_is_unavailable_not_a_wrong_answer(
    log: PostgresLog, database: Connection
) -> None:
    database.execute("ALTER TABLE stored_events ADD CONSTRAINT no_ben CHECK (owner_id <> %s)" % f"'{BEN}'")  # noqa: UP031 # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        await log.append(Save(uuid4(), BEN, 1, ((TOPIC, b"{}"),)))
    assert await outcome(log, save()) == "stored"


async def test_answers_and_requests_larger_than_any_buffer_pass(log: PostgresLog) -> None:
    stream = uuid4()
    large = random.Random(5).randbytes(20_000_000)
    await log.append(Save(stream, ANNA, 1, ((TOPIC, large), (TOPIC, b""))))
    assert [row.state for row in await log.load(stream)] == [large, b""]
    loop = asyncio.get_running_loop()
    assert not any(loop.remove_writer(one._socket) for one in log._channels._idle), "what may send is not woken for it"


@pytest.mark.parametrize("name", [b"load", b"append", b"at_versions"])
def test_a_table_without_statistics_is_not_read_as_a_whole(name: bytes, database: Connection) -> None:
    database.execute("ALTER TABLE stored_events SET (autovacuum_enabled = off)")
    database.execute(
        "INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)"
        " SELECT gen_random_uuid(), 1, 't', repeat('x', 500)::bytea, gen_random_uuid(), 1"
        " FROM generate_series(1, 50000)"
    )
    for setting in _SETTINGS:
        database.execute(setting)
    parameters = {b"load": 3, b"append": 12, b"at_versions": 2}[name]
    database.execute(b"PREPARE asked AS " + {**WRITING, **READING}[name])
    plan = database.execute(f"EXPLAIN EXECUTE asked ({', '.join(['NULL'] * parameters)})".encode()).fetchall()
    assert "stored_events_pkey" in str(plan)
    assert "Seq Scan on stored_events" not in str(plan)
