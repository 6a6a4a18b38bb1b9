"""A projection's tables in one schema: making them, reading rows by key, writing rows in sets, copying them in."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from itertools import islice
from operator import attrgetter
from typing import Any, Final, LiteralString
from uuid import UUID

from msgspec import Struct
from psycopg import Connection
from psycopg.sql import SQL, Composable, Composed, Identifier

from infra.projecting.columns import Column, Packed, PackedDumper, RawLoader, columns_of, packed_array, packed_rows
from projections.projection import Key, Projection, Table

_COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, flags, no extension: the manual's "Binary Format"
_COPY_END: Final = b"\xff\xff"
_COPY_CHUNK: Final = 500  # rows

_SETTINGS: Final = ("SET timezone = 'UTC'",)
_LIVE_SETTINGS: Final = (
    # Of a table that was never analysed the planner guesses that reading all of it is best: each lookup here is by an
    # index from few rows to few.
    "SET enable_seqscan = off",
    "SET enable_mergejoin = off",
    # What a crash of the server takes are the last rows together with their position: they are folded again.
    "SET synchronous_commit = off",
)


def prepare(connection: Connection, *, live: bool = False) -> Connection:
    """Make the connection take packed values; with `live`, plan for lookups by key."""
    connection.adapters.register_dumper(Packed, PackedDumper)
    connection.adapters.register_loader("json", RawLoader)
    for setting in (*_SETTINGS, *_LIVE_SETTINGS) if live else _SETTINGS:
        connection.execute(setting)
    return connection


def fingerprint(projection: Projection) -> bytes:
    """Of the shape: names, types, keys and indexes. It says nothing about how events fold."""
    lines = []
    for table in sorted(projection.tables, key=lambda table: table.name):
        lines += [f"table {table.name} key {table.key} owner {table.owner}", *table.indexes]
        lines += [f"{column.name} {column.sql} {column.nullable}" for column in columns_of(table.row)]
    return hashlib.sha256("\n".join(lines).encode()).digest()


def make_tables(connection: Connection, projection: Projection, schema: str, *, indexed: bool) -> None:
    """The schema and what is missing in it."""
    connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(schema)))
    for table in projection.tables:
        columns = SQL(", ").join(
            SQL("{} {}{}").format(Identifier(column.name), SQL(column.sql), SQL("" if column.nullable else " NOT NULL"))
            for column in columns_of(table.row)
        )
        connection.execute(SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(Identifier(schema, table.name), columns))
        if indexed:
            index_table(connection, table, schema)


def index_table(connection: Connection, table: Table[Any], schema: str) -> None:
    """Its key and its indexes, where they are missing; statistics for the planner."""
    place = Identifier(schema, table.name)
    made = connection.execute(
        "SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'p'", (place.as_string(None),)
    )
    if made.fetchone() is None:
        connection.execute(SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(place, _names(table.key)))
    for number, index in enumerate(table.indexes, 1):
        name = Identifier(f"{table.name}_{number}")
        connection.execute(SQL("CREATE INDEX IF NOT EXISTS {} ON {} {}").format(name, place, SQL(index)))
    connection.execute(SQL("ANALYZE {}").format(place))


class Store:
    """One table in one schema."""

    def __init__(self, table: Table[Any], schema: str) -> None:
        self.table = table
        self.columns = columns_of(table.row)
        self._row = table.row
        self._loads = [(i, column.load, column.nullable) for i, column in enumerate(self.columns) if column.load]
        self._names = [column.name for column in self.columns]
        self._by_name = {column.name: column for column in self.columns}
        self.key_of: Callable[[Any], Key] = _tuple_of(table.key)
        self.owner_of: Callable[[Any], UUID] = attrgetter(table.owner)
        place: dict[str, Composable] = {
            "table": Identifier(schema, table.name),
            "key": _names(table.key),
            "columns": _names(self._names),
            "keys": _arrays(self._by_name[name] for name in table.key),
            "values": _arrays(self.columns),
            "owner": Identifier(table.owner),
            "on": SQL(" AND ").join(SQL("t.{0} = k.{0}").format(Identifier(name)) for name in table.key),
            "t_columns": SQL(", ").join(SQL("t.{}").format(Identifier(name)) for name in self._names),
            "set": _set(name for name in self._names if name not in table.key),
        }
        self._find, self._delete, self._upsert, self._of_owners, self._of_partitions, self._copy = (
            SQL(text).format(**place).as_bytes(None) for text in _STATEMENTS
        )

    def find(self, rows: Connection, keys: Sequence[Key]) -> dict[Key, Any]:
        """The rows of these keys that there are."""
        return {self.key_of(row): row for row in self._read(rows, self._find, self._packed_keys(keys))}

    def of_owners(self, rows: Connection, owners: Sequence[UUID]) -> list[Any]:
        """All rows that belong to these."""
        return self._read(rows, self._of_owners, [list(owners)])

    def of_partitions(self, rows: Connection, partitions: Collection[int]) -> dict[Key, Any]:
        """All rows of these of the log's partitions. Reads the whole table."""
        return {self.key_of(row): row for row in self._read(rows, self._of_partitions, [list(partitions)])}

    def delete(self, rows: Connection, keys: Sequence[Key]) -> None:
        """Delete the rows of these keys."""
        if keys:
            rows.execute(self._delete, self._packed_keys(keys), prepare=True)

    def upsert(self, rows: Connection, changed: Sequence[Struct]) -> None:
        """Write the rows, over what has their keys."""
        if changed:
            values = [packed_array(column, map(attrgetter(column.name), changed)) for column in self.columns]
            rows.execute(self._upsert, values, prepare=True)

    def copy(self, rows: Connection, new: Iterable[Struct]) -> int:
        """Add rows whose keys are not there yet, by COPY; how many."""
        count, left = 0, iter(new)
        with rows.cursor() as cursor, cursor.copy(self._copy) as copy:
            copy.write(_COPY_HEAD)
            while chunk := list(islice(left, _COPY_CHUNK)):
                copy.write(packed_rows(self.columns, chunk))
                count += len(chunk)
            copy.write(_COPY_END)
        return count

    def _read(self, rows: Connection, statement: bytes, parameters: Sequence[object]) -> list[Any]:
        with rows.cursor(binary=True) as cursor:
            found = cursor.execute(statement, parameters, prepare=True).fetchall()
        names, row, loads = self._names, self._row, self._loads
        made = []
        for values in found:
            if loads:
                changed = list(values)
                for i, load, nullable in loads:
                    if not nullable or values[i] is not None:
                        changed[i] = load(values[i])
                made.append(row(**dict(zip(names, changed, strict=True))))
            else:
                made.append(row(**dict(zip(names, values, strict=True))))
        return made

    def _packed_keys(self, keys: Sequence[Key]) -> list[Packed]:
        return [
            packed_array(self._by_name[name], column)
            for name, column in zip(self.table.key, zip(*keys, strict=True), strict=True)
        ]


@cache
def stores(projection: Projection, schema: str) -> dict[str, Store]:
    """By the tables' names."""
    return {table.name: Store(table, schema) for table in projection.tables}


_STATEMENTS: Final[tuple[LiteralString, ...]] = (
    "SELECT {t_columns} FROM unnest({keys}) AS k ({key}) JOIN {table} t ON {on}",
    "DELETE FROM {table} t USING unnest({keys}) AS k ({key}) WHERE {on}",
    "INSERT INTO {table} ({columns}) SELECT * FROM unnest({values}) ON CONFLICT ({key}) DO {set}",
    "SELECT {columns} FROM {table} WHERE {owner} = ANY(%s)",
    "SELECT {columns} FROM {table} WHERE get_byte(uuid_send({owner}), 15) = ANY(%s)",
    "COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)",
)


def _set(names: Iterable[str]) -> Composable:
    updates = [SQL("{0} = EXCLUDED.{0}").format(Identifier(name)) for name in names]
    return SQL("UPDATE SET {}").format(SQL(", ").join(updates)) if updates else SQL("NOTHING")


def _names(names: Iterable[str]) -> Composed:
    return SQL(", ").join(Identifier(name) for name in names)


def _arrays(columns: Iterable[Column]) -> Composed:
    return SQL(", ").join(SQL(f"%s::{column.sql}[]") for column in columns)


def _tuple_of(names: Sequence[str]) -> Callable[[Any], Key]:
    found = attrgetter(*names)
    return found if len(names) > 1 else lambda row: (found(row),)
