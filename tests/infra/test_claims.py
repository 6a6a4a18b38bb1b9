"""Whose bytes are whose, in a real Postgres."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from psycopg import Connection

from domain.errors import StoreUnavailable
from domain.measures import ActivityId, UserId
from domain.recordings.similarity import Span
from domain.uploads import Fault, Manifest, Verdict
from infra import migrations
from infra.channels import Channels
from infra.claims import PostgresAttempts, PostgresClaims, PostgresSessions, bookkeeping
from tests.scenarios import MAY_1

ANNA, BEN = UserId(uuid4()), UserId(uuid4())
BYTES, OTHERS = (hashlib.sha256(name).hexdigest() for name in (b"a run", b"another"))


@pytest.fixture
async def channels(database_url: str) -> AsyncIterator[Channels]:
    opened = bookkeeping(database_url)
    yield opened
    opened.close()


@pytest.fixture
def claims(channels: Channels) -> PostgresClaims:
    return PostgresClaims(channels)


def verdict(fault: Fault | None = None) -> Verdict:
    return Verdict(status="failed" if fault else "ready", fault=fault)


def manifest(activity_id: ActivityId) -> Manifest:
    return Manifest(activity_id=activity_id, user_id=ANNA, sha256=BYTES, size=1, received_at=MAY_1)


async def test_the_first_upload_has_the_bytes_of_its_runner_until_it_hands_them_over(claims: PostgresClaims) -> None:
    first, second, third = (ActivityId(uuid4()) for _ in range(3))
    assert await claims.holder(ANNA, BYTES) is None
    assert await claims.claim(ANNA, BYTES, first) == first
    assert await claims.claim(ANNA, BYTES, second) == first
    assert await claims.claim(BEN, BYTES, second) == second
    assert await claims.claim(ANNA, OTHERS, third) == third
    assert await claims.hand_over(ANNA, BYTES, first, second) == second
    assert await claims.hand_over(ANNA, BYTES, first, third) == second  # another was faster
    assert await claims.holder(ANNA, BYTES) == second


async def test_activities_at_the_same_time_are_found_each_once(claims: PostgresClaims) -> None:
    run, late = Span(MAY_1, 3_600.5, 10_000.25), Span(MAY_1 + timedelta(hours=1), 60.0, 200.0)
    one, other, third = (ActivityId(uuid4()) for _ in range(3))
    for activity_id, span in ((one, run), (other, run), (one, run), (third, late)):
        await claims.mark(ANNA, activity_id, span)
    around = await claims.around(ANNA, Span(MAY_1 + timedelta(minutes=59), 30.0, 100.0))
    assert sorted(around) == sorted([(one, run), (other, run)])
    assert await claims.around(BEN, run) == []


async def test_one_is_alone_with_a_runners_recordings_and_the_next_waits(claims: PostgresClaims) -> None:
    order = []

    async def take(name: str, user_id: UserId) -> None:
        async with claims.alone(user_id):
            order.append(f"{name} begins")
            await asyncio.sleep(0.05)
            order.append(f"{name} ends")

    await asyncio.gather(take("one", ANNA), take("two", ANNA))
    assert [line.partition(" ")[2] for line in order] == ["begins", "ends"] * 2
    order.clear()
    await asyncio.gather(take("one", ANNA), take("two", BEN))
    assert [line.partition(" ")[2] for line in order] == ["begins"] * 2 + ["ends"] * 2


async def test_who_is_at_a_runners_recordings_for_long_is_waited_for_two_seconds(
    claims: PostgresClaims, database_url: str
) -> None:
    frozen = bookkeeping(database_url)
    async with PostgresClaims(frozen).alone(ANNA):
        async with claims.alone(ANNA) as alone, claims.alone(BEN) as other:
            assert (alone, other) == (False, True)
        assert await claims.holder(ANNA, BYTES) is None  # the connections are as they were
    async with claims.alone(ANNA) as alone:
        assert alone
    frozen.close()


async def test_who_gives_up_waiting_for_the_lock_does_not_get_it_later(
    claims: PostgresClaims, database: Connection
) -> None:
    async def take() -> None:
        async with claims.alone(ANNA):
            pass

    locks = "SELECT count(*) FILTER (WHERE granted), count(*) FROM pg_locks WHERE locktype = 'advisory'"
    async with claims.alone(ANNA):
        waiting = asyncio.create_task(take())
        async with asyncio.timeout(10):
            while database.execute(locks).fetchone() != (1, 2):
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(10):
        while database.execute(locks).fetchone() != (0, 0):
            await asyncio.sleep(0.01)


async def test_an_upload_is_tried_by_one_at_a_time_and_by_the_next_when_that_one_is_gone(
    channels: Channels, database: Connection
) -> None:
    attempts, activity_id = PostgresAttempts(channels), ActivityId(uuid4())

    async def hold_until_the_connection_is_gone() -> None:
        async with attempts.alone(activity_id) as alone:
            async with attempts.alone(activity_id) as two, attempts.alone(ActivityId(uuid4())) as other:
                assert (alone, two, other) == (True, False, True)
            database.execute(_END_HOLDERS)

    with pytest.raises(StoreUnavailable):
        await hold_until_the_connection_is_gone()
    async with attempts.alone(activity_id) as alone:
        assert alone
    with pytest.raises(KeyError):
        async with attempts.alone(activity_id):
            raise KeyError
    async with attempts.alone(activity_id) as alone:
        assert alone


async def test_tries_are_counted_and_what_was_given_up_is_kept_with_the_reason(
    channels: Channels, database: Connection
) -> None:
    attempts, activity_id = PostgresAttempts(channels), ActivityId(uuid4())
    dead = "SELECT user_id, code, reason, attempts, received_at FROM dead_letters"
    assert [await attempts.begin(activity_id) for _ in range(3)] == [1, 2, 3]
    await attempts.take_back(activity_id)
    await attempts.failed(activity_id, "OSError: a\0b\udcff" + "c" * 600)
    await attempts.end(manifest(activity_id), verdict(Fault("processing-failed", "It failed.")))
    ((user_id, code, reason, tries, received_at),) = database.execute(dead).fetchall()
    assert (user_id, code, tries, received_at) == (ANNA, "processing-failed", 2, MAY_1)
    assert reason.startswith("OSError: ab?ccc")
    assert await attempts.begin(activity_id) == 1
    await attempts.end(manifest(activity_id), verdict())
    assert database.execute(dead).fetchall() == []
    assert await attempts.begin(activity_id) == 1
    await attempts.end(manifest(activity_id), verdict(Fault("empty-recording", "Nothing in it.")))
    assert database.execute(dead).fetchall() == [(ANNA, "empty-recording", "Nothing in it.", 1, MAY_1)]
    await attempts.let_go(activity_id)
    assert database.execute(dead).fetchall() == []


async def test_a_session_had_ended_once_no_difference_of_clocks_explains_it(
    channels: Channels, database: Connection
) -> None:
    """The API's says when an upload came, and Postgres's when the session ended."""
    sessions, ended, open_still = PostgresSessions(channels), uuid4(), uuid4()
    database.execute("INSERT INTO sessions VALUES (%s, %s, %s, %s)", (ended, ANNA, MAY_1, MAY_1 + timedelta(hours=1)))
    database.execute("INSERT INTO sessions VALUES (%s, %s, %s)", (open_still, ANNA, MAY_1))
    times = [MAY_1 + timedelta(minutes=minutes) for minutes in (59, 61, 65, 66)]
    assert [await sessions.had_ended(ended, at) for at in times] == [False, False, False, True]
    assert not await sessions.had_ended(open_still, times[-1])


async def test_a_server_that_is_away_is_said_to_be(claims: PostgresClaims) -> None:
    away = PostgresClaims(bookkeeping("host=127.0.0.1 port=1"))
    with pytest.raises(StoreUnavailable):
        await away.claim(ANNA, BYTES, ActivityId(uuid4()))
    with pytest.raises(StoreUnavailable):
        async with away.alone(ANNA):
            pass
    async with claims.alone(ANNA):
        pass


async def test_what_was_noted_before_rows_were_made_smaller_is_known_still(
    database_url: str, database: Connection, claims: PostgresClaims
) -> None:
    holder, activity_id = uuid4(), uuid4()
    for statement in (
        "DROP TABLE recording_claims",
        """CREATE TABLE recording_claims (
            user_id uuid NOT NULL, sha256 bytea NOT NULL, activity_id uuid NOT NULL, PRIMARY KEY (user_id, sha256))""",
        "DROP INDEX refresh_tokens_spent",
        "DROP TABLE recorded_spans",
        """CREATE TABLE recorded_spans (
            user_id uuid NOT NULL, started_at timestamptz NOT NULL, activity_id uuid NOT NULL,
            elapsed_s double precision NOT NULL, distance_m double precision NOT NULL,
            PRIMARY KEY (user_id, started_at, activity_id))""",
        "UPDATE alembic_version SET version_num = '0006'",
    ):
        database.execute(statement)
    database.execute("INSERT INTO recording_claims VALUES (%s, %s, %s)", (ANNA, bytes.fromhex(BYTES), holder))
    database.execute("INSERT INTO recorded_spans VALUES (%s, %s, %s, 60.5, 200)", (ANNA, MAY_1, activity_id))
    migrations.upgrade(database_url)
    assert await claims.holder(ANNA, BYTES) == holder
    assert await claims.holder(ANNA, OTHERS) is None
    assert await claims.around(ANNA, Span(MAY_1, 10.0, 0.0)) == [(activity_id, Span(MAY_1, 60.5, 200.0))]


_END_HOLDERS = """
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND datname = current_database()
"""
