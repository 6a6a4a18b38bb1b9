"""Fields of rows as columns: their SQL types, and their values in Postgres' binary form.

An element of an array and a field of a binary COPY look the same there: a length and the value, or the length -1 for
NULL (PostgreSQL manual, COPY, "Binary Format"; `array_send` in its source). So one packer serves both.
"""

import struct
import types
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from enum import Enum
from itertools import chain, groupby, repeat
from operator import attrgetter
from typing import Any, Final, LiteralString, NewType, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from msgspec import Raw, Struct
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format

from infra.timestamps import EPOCH, MICROSECOND

_HEADER: Final = struct.Struct("!IIIII")
_LENGTH: Final = struct.Struct("!I")
_COUNT: Final = struct.Struct("!H")
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH_DAY: Final = EPOCH.date().toordinal()


class Fixed(Struct, frozen=True):
    """A kind of values that are all of one length: as `struct` has it, and how values become what that takes."""

    code: str
    length: int
    plain: Callable[[Iterable[Any]], Iterable[Any]]

    def pack(self, values: Iterable[Any]) -> list[bytes]:
        """Values, each with its length."""
        return list(map(struct.Struct(f"!I{self.code}").pack, repeat(self.length), self.plain(values)))


class Column(Struct, frozen=True):
    """A field as it is stored."""

    name: str
    sql: LiteralString
    oid: int  # of pg_type.dat: fixed for ever
    nullable: bool
    pack: Callable[[Iterable[Any]], list[bytes]]  # values, each with its length
    load: Callable[[Any], Any] | None  # from psycopg's value; None: as it is
    fixed: Fixed | None = None

    def packed(self, values: Iterable[Any]) -> list[bytes]:
        """Values in binary form, with their lengths; those that are None as NULL."""
        if not self.nullable:
            return self.pack(values)
        given = list(values)
        there = iter(self.pack(value for value in given if value is not None))
        return [_NULL if value is None else next(there) for value in given]


class Packed(Struct, frozen=True):
    """A value that is in binary form already."""

    data: bytes


class PackedDumper(Dumper):
    """Hands it on. The statement says what it is, by a cast."""

    format = Format.BINARY
    oid = 0

    def dump(self, obj: Packed) -> bytes:
        """The bytes as they are."""
        return obj.data


class RawLoader(Loader):
    """JSON as it is stored."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Raw:
        """The bytes, not looked into."""
        return Raw(bytes(data))


def columns_of(row: type[Struct]) -> tuple[Column, ...]:
    """The columns of a row's fields, in their order. `TypeError` for a type that no column has."""
    hints = get_type_hints(row)
    return tuple(_column(name, hints[name]) for name in row.__struct_fields__)


def packed_array(column: Column, values: Iterable[Any]) -> Packed:
    """An array of the column's type, with NULLs where the values are None."""
    elements = column.packed(values)
    header = _HEADER.pack(1, int(column.nullable), column.oid, len(elements), 1)
    return Packed(header + b"".join(elements))


def packed_rows(columns: Sequence[Column], rows: Sequence[Struct]) -> bytes:
    """The rows' lines of a binary COPY.

    Neighbours of fixed length are packed by one call for each row: a call for each value takes longer than its work.
    """
    pieces: list[Iterable[bytes]] = [repeat(_COUNT.pack(len(columns)), len(rows))]
    for fixed, group in groupby(columns, lambda column: column.fixed is not None and not column.nullable):
        if fixed:
            pieces.append(_packed_together(list(group), rows))
        else:
            pieces += [column.packed(map(attrgetter(column.name), rows)) for column in group]
    return b"".join(chain.from_iterable(zip(*pieces, strict=True)))


def _packed_together(columns: Sequence[Column], rows: Sequence[Struct]) -> Iterable[bytes]:
    kinds = [(column.name, column.fixed) for column in columns if column.fixed is not None]
    pack = struct.Struct("!" + "".join(f"I{fixed.code}" for _, fixed in kinds)).pack
    values = ((repeat(fixed.length), fixed.plain(map(attrgetter(name), rows))) for name, fixed in kinds)
    return map(pack, *chain.from_iterable(values))


def _column(name: str, hint: object) -> Column:
    kind, nullable = _stripped(hint)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Column(name, "text", 25, nullable, _texts, kind)
    if kind is Raw:
        return Column(name, "json", 114, nullable, _raws, None)
    if kind is str:
        return Column(name, "text", 25, nullable, _texts, None)
    if kind is bytes:
        return Column(name, "bytea", 17, nullable, _packed, None)
    if kind in _FIXED:
        sql, oid, fixed = _FIXED[kind]
        return Column(name, sql, oid, nullable, fixed.pack, None, fixed)
    if isinstance(kind, type) and issubclass(kind, Struct):
        return Column(name, "json", 114, nullable, _jsons, msgspec.json.Decoder(kind).decode)
    raise TypeError(f"{name}: no column holds a {kind!r}")


def _stripped(hint: object) -> tuple[Any, bool]:
    """Without NewType and `| None`; whether it may be None."""
    if isinstance(hint, NewType):
        return _stripped(hint.__supertype__)
    if get_origin(hint) in {Union, types.UnionType}:
        some = [kind for kind in get_args(hint) if kind is not type(None)]
        if len(some) == 1:
            return _stripped(some[0])[0], True
    return hint, False


def _texts(values: Iterable[str]) -> list[bytes]:
    pack = _LENGTH.pack
    return [pack(len(data)) + data for data in [value.encode() for value in values]]


def _jsons(values: Iterable[Struct]) -> list[bytes]:
    pack = _LENGTH.pack
    return [pack(len(data)) + data for data in map(msgspec.json.encode, values)]


def _raws(values: Iterable[Raw]) -> list[bytes]:
    return _packed(map(bytes, values))


def _packed(values: Iterable[bytes]) -> list[bytes]:
    pack = _LENGTH.pack
    return [pack(len(data)) + data for data in values]


def _bytes(values: Iterable[UUID]) -> Iterable[bytes]:
    return [value.int.to_bytes(16) for value in values]


def _microseconds(values: Iterable[datetime]) -> Iterable[int]:
    epoch, microsecond = EPOCH, MICROSECOND
    return [(value - epoch) // microsecond for value in values]


def _days(values: Iterable[date]) -> Iterable[int]:
    epoch = _EPOCH_DAY
    return [value.toordinal() - epoch for value in values]


_FIXED: Final[dict[Any, tuple[LiteralString, int, Fixed]]] = {
    UUID: ("uuid", 2950, Fixed("16s", 16, _bytes)),
    int: ("bigint", 20, Fixed("q", 8, iter)),
    float: ("double precision", 701, Fixed("d", 8, iter)),
    bool: ("boolean", 16, Fixed("?", 1, iter)),
    datetime: ("timestamptz", 1184, Fixed("q", 8, _microseconds)),
    date: ("date", 1082, Fixed("i", 4, _days)),
}
