"""Projections whose rows fold one by one: a page is grouped by key, and its rows are read and written in sets."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, ClassVar, Generic, LiteralString, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct
from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from domain.events.event import Event, Recorded

Key = tuple[Any, ...]
R = TypeVar("R", bound=Struct)


class Table(Struct, Generic[R], frozen=True):
    """A row for each key, a column for each field. A `jsonb` column holds whatever msgspec can write."""

    name: LiteralString
    row: type[R]
    key: tuple[str, ...]
    types: Mapping[str, LiteralString]  # SQL type of each column, in the order of the row's fields
    indexes: tuple[LiteralString, ...] = ()  # statements; `{s}` is the schema


class Folded(ABC, Generic[R]):
    """A projection of one table. It says which rows an event touches, and what becomes of them."""

    name: ClassVar[str]
    version: ClassVar[int]
    table: Table[R]

    @abstractmethod
    def keys(self, event: Event) -> Iterable[Key]:
        """The rows that the event touches: each folds it once."""

    @abstractmethod
    def fold(self, key: Key, row: R | None, recorded: Recorded) -> R | None:
        """The row after the event; None: no row. No I/O, no clock: same events, same row."""

    def tables(self) -> Iterable[LiteralString]:
        """The table and its indexes."""
        columns = ", ".join(f"{name} {kind}" for name, kind in self.table.types.items())
        key = ", ".join(self.table.key)
        yield f"CREATE TABLE IF NOT EXISTS {{s}}.{self.table.name} ({columns}, PRIMARY KEY ({key}))"
        yield from self.table.indexes

    def apply(self, page: Sequence[Recorded], rows: Connection) -> None:
        """Fold the page's events into their rows, in order within each key."""
        touched: dict[Key, list[Recorded]] = {}
        for recorded in page:
            for key in self.keys(recorded.event):
                touched.setdefault(key, []).append(recorded)
        if not touched:
            return
        before = self._load(rows, list(touched))
        after: dict[Key, R | None] = {}
        for key, events in touched.items():
            row = before.get(key)
            for recorded in events:
                row = self.fold(key, row, recorded)
            after[key] = row
        self._delete(rows, [key for key, row in after.items() if row is None and key in before])
        self._upsert(rows, [row for key, row in after.items() if row is not None and row != before.get(key)])

    def _load(self, rows: Connection, keys: list[Key]) -> dict[Key, R]:
        found = rows.execute(
            SQL("SELECT {columns} FROM {table} WHERE ({key}) IN (SELECT * FROM unnest({arrays}))").format(
                columns=_names(self.table.types), **self._place()
            ),
            _columns(keys),
        )
        loaded = (
            msgspec.convert(dict(zip(self.table.types, values, strict=True)), self.table.row, strict=False)
            for values in found
        )
        return {tuple(getattr(row, name) for name in self.table.key): row for row in loaded}

    def _delete(self, rows: Connection, keys: list[Key]) -> None:
        if keys:
            rows.execute(
                SQL("DELETE FROM {table} WHERE ({key}) IN (SELECT * FROM unnest({arrays}))").format(**self._place()),
                _columns(keys),
            )

    def _upsert(self, rows: Connection, changed: list[R]) -> None:
        if not changed:
            return
        updates = [name for name in self.table.types if name not in self.table.key]
        rows.execute(
            SQL(
                "INSERT INTO {table} ({columns}) SELECT * FROM unnest({values}) ON CONFLICT ({key}) DO UPDATE SET {set}"
            ).format(
                columns=_names(self.table.types),
                values=_arrays(self.table.types.values()),
                set=SQL(", ").join(SQL("{0} = EXCLUDED.{0}").format(Identifier(name)) for name in updates),
                **self._place(),
            ),
            _columns([_stored(row, self.table.types) for row in changed]),
        )

    def _place(self) -> dict[str, Composed]:
        return {
            "table": SQL("{}.{}").format(Identifier(f"{self.name}_v{self.version}"), Identifier(self.table.name)),
            "key": _names(self.table.key),
            "arrays": _arrays(self.table.types[name] for name in self.table.key),
        }


def _names(names: Iterable[str]) -> Composed:
    return SQL(", ").join(Identifier(name) for name in names)


def _arrays(types: Iterable[LiteralString]) -> Composed:
    """A parameter for each column: JSON goes as text, which Postgres then parses."""
    return SQL(", ").join(SQL("%s::text[]::jsonb[]" if kind == "jsonb" else f"%s::{kind}[]") for kind in types)


def _columns(records: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*records, strict=True)]


def _stored(row: Struct, types: Mapping[str, str]) -> list[object]:
    plain = msgspec.to_builtins(row, builtin_types=(UUID, datetime, date))
    return [
        msgspec.json.encode(plain[name]).decode() if kind == "jsonb" else plain[name] for name, kind in types.items()
    ]
