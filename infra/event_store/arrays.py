"""Arrays in Postgres' binary form: a save of hundreds of rows is six parameters, packed without a step per type.

The layout is that of `array_send` (PostgreSQL source, src/backend/utils/adt/arrayfuncs.c): dimensions, a flag for
NULLs, the element's type, then the length and lower bound of the one dimension, then each element after its length.
"""

import struct
from collections.abc import Iterable
from typing import Final
from uuid import UUID

_HEADER: Final = struct.Struct("!IIIII")
_LENGTH: Final = struct.Struct("!I")

# of pg_type.dat; the types of the elements, which never change
_BYTEA, _INT8_TYPE, _INT2_TYPE, _TEXT, _UUID_TYPE = 17, 20, 21, 25, 2950


def uuids(values: Iterable[UUID]) -> bytes:
    """`uuid[]`"""
    return _fixed(_UUID_TYPE, 16, [value.int.to_bytes(16) for value in values])  # `bytes` is a call of Python


def int8s(values: Iterable[int]) -> bytes:
    """`bigint[]`"""
    return _fixed(_INT8_TYPE, 8, [value.to_bytes(8, signed=True) for value in values])


def int2s(values: Iterable[int]) -> bytes:
    """`smallint[]`"""
    return _fixed(_INT2_TYPE, 2, [value.to_bytes(2, signed=True) for value in values])


def texts(values: Iterable[str]) -> bytes:
    """`text[]`"""
    return _counted(_TEXT, [value.encode() for value in values])


def byteas(values: Iterable[bytes]) -> bytes:
    """`bytea[]`"""
    return _counted(_BYTEA, values)


def _fixed(kind: int, length: int, values: list[bytes]) -> bytes:
    return _array(kind, len(values), _LENGTH.pack(length).join([b"", *values]))


def _counted(kind: int, values: Iterable[bytes]) -> bytes:
    elements = [_LENGTH.pack(len(value)) + value for value in values]
    return _array(kind, len(elements), b"".join(elements))


def _array(kind: int, count: int, elements: bytes) -> bytes:
    return _HEADER.pack(1, 0, kind, count, 1) + elements
