"""Whose bytes are whose, in a real Postgres."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from psycopg import Connection

from domain.measures import ActivityId, UserId
from domain.recordings.similarity import Span
from infra import migrations
from infra.claims import PostgresClaims
from infra.views import ReadModels
from tests.scenarios import MAY_1

ANNA, BEN = UserId(uuid4()), UserId(uuid4())
BYTES, OTHERS = (hashlib.sha256(name).hexdigest() for name in (b"a run", b"another"))


@pytest.fixture
async def claims(database_url: str) -> AsyncIterator[PostgresClaims]:
    models = ReadModels(database_url, connections=1)
    await models.open()
    yield PostgresClaims(models)
    await models.close()


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


async def test_what_was_noted_before_rows_were_made_smaller_is_known_still(
    database_url: str, database: Connection, claims: PostgresClaims
) -> None:
    holder, activity_id = uuid4(), uuid4()
    for statement in (
        "DROP TABLE recording_claims",
        """CREATE TABLE recording_claims (
            user_id uuid NOT NULL, sha256 bytea NOT NULL, activity_id uuid NOT NULL, PRIMARY KEY (user_id, sha256))""",
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
