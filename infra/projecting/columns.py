"""Fields of rows as columns: their SQL types, and their values in Postgres' binary form.

An element of an array and a field of a binary COPY look the same there: a length and the value, or the length -1 for
NULL (PostgreSQL manual, COPY, "Binary Format"; `array_send` in its source). So one packer serves both.
"""

import struct
import types
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Any, Final, LiteralString, NewType, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from msgspec import Raw, Struct
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format

_HEADER: Final = struct.Struct("!IIIII")
_LENGTH: Final = struct.Struct("!I")
_INT8: Final = struct.Struct("!Iq")
_FLOAT8: Final = struct.Struct("!Id")
_INT4: Final = struct.Struct("!Ii")
_NULL: Final = b"\xff\xff\xff\xff"
_TRUE, _FALSE = b"\0\0\0\1\1", b"\0\0\0\1\0"
_UUID_LENGTH: Final = _LENGTH.pack(16)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)  # of Postgres' timestamps and dates
_EPOCH_DAY: Final = date(2000, 1, 1).toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)


class Column(Struct, frozen=True):
    """A field as it is stored."""

    name: str
    sql: LiteralString
    oid: int  # of pg_type.dat: fixed for ever
    nullable: bool
    pack: Callable[[Any], bytes]  # with its length
    load: Callable[[Any], Any] | None  # from psycopg's value; None: as it is


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
    pack = column.pack
    if column.nullable:
        elements = [_NULL if value is None else pack(value) for value in values]
    else:
        elements = [pack(value) for value in values]
    header = _HEADER.pack(1, int(column.nullable), column.oid, len(elements), 1)
    return Packed(header + b"".join(elements))


def row_packer(columns: tuple[Column, ...]) -> Callable[[Struct], bytes]:
    """A function that makes a row's line of a binary COPY."""
    head = struct.pack("!H", len(columns))
    plan = [(column.name, column.pack, column.nullable) for column in columns]

    def pack(row: Struct) -> bytes:
        parts = [head]
        for name, packed, nullable in plan:
            value = getattr(row, name)
            parts.append(_NULL if nullable and value is None else packed(value))
        return b"".join(parts)

    return pack


def _column(name: str, hint: object) -> Column:
    kind, nullable = _stripped(hint)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Column(name, "text", 25, nullable, _text, kind)
    if kind in _PLAIN:
        sql, oid, pack = _PLAIN[kind]
        return Column(name, sql, oid, nullable, pack, None)
    if isinstance(kind, type) and issubclass(kind, Struct):
        return Column(name, "json", 114, nullable, _json, msgspec.json.Decoder(kind).decode)
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


def _uuid(value: UUID) -> bytes:
    return _UUID_LENGTH + value.bytes


def _text(value: str) -> bytes:
    data = value.encode()
    return _LENGTH.pack(len(data)) + data


def _json(value: Struct) -> bytes:
    data = msgspec.json.encode(value)
    return _LENGTH.pack(len(data)) + data


def _raw(value: Raw) -> bytes:
    data = bytes(value)
    return _LENGTH.pack(len(data)) + data


def _int(value: int) -> bytes:
    return _INT8.pack(8, value)


def _float(value: float) -> bytes:
    return _FLOAT8.pack(8, value)


def _bool(value: bool) -> bytes:  # noqa: FBT001 - a value among values
    return _TRUE if value else _FALSE


def _timestamp(value: datetime) -> bytes:
    return _INT8.pack(8, (value - _EPOCH) // _MICROSECOND)


def _date(value: date) -> bytes:
    return _INT4.pack(4, value.toordinal() - _EPOCH_DAY)


_PLAIN: Final[dict[Any, tuple[LiteralString, int, Callable[[Any], bytes]]]] = {
    UUID: ("uuid", 2950, _uuid),
    str: ("text", 25, _text),
    int: ("bigint", 20, _int),
    float: ("double precision", 701, _float),
    bool: ("boolean", 16, _bool),
    datetime: ("timestamptz", 1184, _timestamp),
    date: ("date", 1082, _date),
    Raw: ("json", 114, _raw),
}
