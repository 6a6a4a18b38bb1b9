"""Rows out of a binary COPY."""

from uuid import UUID

import psycopg
import pytest
from psycopg import Connection
from psycopg.sql import SQL

from infra.event_store.copying import Ids, Lines
from tests.scenarios import ANNA, BEN, CARA


def test_what_the_server_fails_at_in_the_middle_of_a_page_is_not_said_to_be_its_absence(database: Connection) -> None:
    failing = SQL(
        "COPY (SELECT 8 / (900 - n), gen_random_uuid(), 1::int8, 'topic', ''::bytea, gen_random_uuid()"
        " FROM generate_series(1::int8, 1000) AS n) TO STDOUT (FORMAT BINARY)"
    )
    lines = Lines(database, failing.format())
    assert len(next(lines)) == 128
    with pytest.raises(psycopg.errors.DivisionByZero):
        list(lines)
    assert database.execute("SELECT 1").fetchone() == (1,)


def test_no_more_owners_are_kept_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.event_store.copying._OWNERS", 2)
    owners = Ids()
    for owner in (ANNA, BEN, CARA, ANNA):
        assert owners[owner.bytes] == UUID(bytes=owner.bytes)
        assert len(owners) <= 2
