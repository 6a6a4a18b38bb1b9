"""Whose bytes are whose, in a real Postgres."""

import hashlib
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from psycopg import Connection

from domain.measures import ActivityId, UserId
from infra import migrations
from infra.claims import PostgresClaims
from infra.views import ReadModels

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


async def test_what_was_claimed_before_rows_were_made_smaller_is_claimed_still(
    database_url: str, database: Connection, claims: PostgresClaims
) -> None:
    holder = uuid4()
    for statement in (
        "DROP TABLE recording_claims",
        """CREATE TABLE recording_claims (
            user_id uuid NOT NULL, sha256 bytea NOT NULL, activity_id uuid NOT NULL, PRIMARY KEY (user_id, sha256))""",
        "UPDATE alembic_version SET version_num = '0006'",
    ):
        database.execute(statement)
    database.execute("INSERT INTO recording_claims VALUES (%s, %s, %s)", (ANNA, bytes.fromhex(BYTES), holder))
    migrations.upgrade(database_url)
    assert await claims.holder(ANNA, BYTES) == holder
    assert await claims.holder(ANNA, OTHERS) is None
