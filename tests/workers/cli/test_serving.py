"""`cairn migrate` on servers of the operator's own that it cannot use: told in one line."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from infra.faults import Fault
from tests.workers.cli.commands import running
from workers.cli.serving import migrate_command


@pytest.fixture
def empty(database: Connection) -> str:
    """A database without tables."""
    name = f"test_{uuid4().hex}"
    database.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    return make_conninfo(database.info.dsn, dbname=name)


@pytest.mark.parametrize("tables", ["missing", "of another"])
def test_a_user_who_may_not_make_tables_is_told_what_it_must_be(
    database: Connection, empty: str, fresh_database: Callable[[], str], tables: str, tmp_path: Path
) -> None:
    user = f"reader_{uuid4().hex}"
    database.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(user)))
    url = make_conninfo(empty if tables == "missing" else fresh_database(), user=user)
    refused = running(migrate_command, url, tmp_path)()
    database.execute(SQL("DROP ROLE {}").format(Identifier(user)))
    assert isinstance(refused.exception, Fault)
    assert str(refused.exception).startswith("the Postgres of DATABASE_URL cannot be used: permission denied for ")
    assert "make it the owner of the database" in str(refused.exception)
    assert "\n" not in str(refused.exception)


def test_nothing_is_made_in_a_database_of_another_encoding(database: Connection, tmp_path: Path) -> None:
    name = f"test_{uuid4().hex}"
    database.execute(
        SQL("CREATE DATABASE {} ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0").format(Identifier(name))
    )
    url = make_conninfo(database.info.dsn, dbname=name)
    refused = running(migrate_command, url, tmp_path)()
    assert isinstance(refused.exception, Fault)
    assert "the encoding of the database is SQL_ASCII" in str(refused.exception)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('stored_events')").fetchone() == (None,)
