"""`cairn migrate` on servers of the operator's own that it cannot use: told in one line."""

from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from infra.faults import Fault
from tests.workers.cli.commands import running
from workers.cli.serving import migrate_command


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
