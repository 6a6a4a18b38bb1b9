"""What makes a database unusable is refused at start, with the reason and what to do."""

from pathlib import Path
from typing import Final, LiteralString
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.postgres import PostgresApplicationRecorder
from msgspec.structs import replace
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from redis.asyncio import Redis

from infra.away import watched
from infra.object_store import FolderObjects
from infra.projecting.builds import Registry
from infra.server_checks import MigrationMissing, ServerChecks, UnsafeServer, check_server, is_lent, require_session
from infra.vault import Vault, WrongMasterKey
from projections import PROJECTIONS
from projections.summaries import SUMMARIES
from tests.infra.event_store.test_library import datastore_of

VAULT = Vault([b"m" * 32])


def test_a_sound_server_passes_each_time(database: Connection) -> None:
    check_server(database, VAULT)
    check_server(database, VAULT)


def test_settings_that_lose_acked_writes_are_refused(database: Connection) -> None:
    database.execute("SET synchronous_commit = off")
    with pytest.raises(UnsafeServer, match=r"synchronous_commit = off, which loses acked writes: set it to on"):
        check_server(database, VAULT)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_name_is_refused(database: Connection, encoding: str) -> None:
    name = f"test_{uuid4().hex}"
    made = "CREATE DATABASE {} ENCODING {} LOCALE 'C' TEMPLATE template0"
    database.execute(SQL(made).format(Identifier(name), encoding))
    url = watched(make_conninfo(database.info.dsn, dbname=name))
    with psycopg.connect(url) as connection, pytest.raises(UnsafeServer, match=f"{encoding}.*ENCODING 'UTF8' TEMPLATE"):
        check_server(connection, VAULT)


def test_a_session_of_ones_own_passes_each_time(database_url: str) -> None:
    for _ in range(2):
        require_session(database_url)


@pytest.mark.parametrize(
    ("answering", "holding", "lent"),
    [
        ([1, 1], 2, False),  # each connection has a server process of its own
        ([1], 1, True),  # the process of the one answers the other, and none is left that could answer the one again
        ([1, 3], 2, True),  # another than before answers it
    ],
)
def test_a_pooler_that_lends_sessions_is_known_by_who_answers(
    answering: list[int], holding: int, *, lent: bool
) -> None:
    assert is_lent(iter(answering).__next__, lambda: holding) == lent


def test_a_cached_sequence_is_refused(database: Connection) -> None:
    database.execute("ALTER SEQUENCE stored_events_notification_id_seq CACHE 20")
    with pytest.raises(UnsafeServer, match=r"20 positions at once.*ALTER SEQUENCE stored_events_notification_id_seq"):
        check_server(database, VAULT)


def test_the_librarys_functions_are_refused(database: Connection, database_url: str) -> None:
    with datastore_of(database_url) as datastore:
        recorder = PostgresApplicationRecorder(datastore, events_table_name="stored_events")
        recorder.create_table()
    with pytest.raises(UnsafeServer, match=r"es_insert_events_uuid\(.*CREATE_TABLE=no"):
        check_server(database, VAULT)


def test_tables_of_another_version_are_told_with_the_command(database: Connection) -> None:
    database.execute("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(MigrationMissing, match=r"of version 0001, this code needs .*: run cairn migrate"):
        check_server(database, VAULT)
    database.execute("DROP TABLE alembic_version")
    with pytest.raises(MigrationMissing, match="are missing"):
        check_server(database, VAULT)


def test_another_master_key_is_refused(database: Connection) -> None:
    check_server(database, VAULT)
    with pytest.raises(WrongMasterKey, match=r"master\.key from your backup"):
        check_server(database, Vault([b"w" * 32]))
    check_server(database, Vault([b"n" * 32, b"m" * 32]))  # during a rotation


async def test_a_server_says_itself_what_is_wrong_with_it(
    database: Connection, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    name = Identifier(database.info.dbname)
    checks = ServerChecks(database_url, redis := Redis.from_url(redis_url), VAULT, FolderObjects(tmp_path))
    await checks.look()
    assert checks.missing() == {}
    database.execute(SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    await checks.look()
    assert checks.missing() == {"postgres": "takes no writes: reads go on, commands are refused"}
    database.execute(SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
    database.execute("ALTER TABLE key_checks RENAME TO away")
    await checks.look()
    assert checks.missing() == {"postgres": 'relation "key_checks" does not exist'}
    assert checks.fatal is None
    await redis.aclose()


async def test_what_is_read_in_a_version_that_this_code_does_not_declare_is_told(
    database: Connection, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    Registry(database).register()
    redis = Redis.from_url(redis_url)
    older = [replace(one, version=0) if one is SUMMARIES else one for one in PROJECTIONS]
    checks = ServerChecks(database_url, redis, VAULT, FolderObjects(tmp_path), older)
    await checks.look()
    assert checks.missing() == {
        "projections": "summaries v1: read in a version that this code does not declare: run code that does"
    }
    database.execute(_STANDBY)
    await checks.look()
    assert checks.missing() == {}
    await redis.aclose()


# as after a cutover of code that came later
_STANDBY: Final[LiteralString] = """
    WITH old AS (
        INSERT INTO projection_builds (schema_name, name, version, build, fingerprint, state)
        VALUES ('summaries_v0', 'summaries', 0, 1, '', 'standby') RETURNING schema_name
    )
    UPDATE projection_pointers SET standby = old.schema_name FROM old WHERE name = 'summaries'
"""
