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
_INT2: Final = struct.Struct("!Ih")
_INT4: Final = struct.Struct("!Ii")
_INT8: Final = struct.Struct("!Iq")
_UUID_LENGTH: Final = _LENGTH.pack(16)

# of pg_type.dat; the types of the elements, which never change
_BYTEA, _INT8_TYPE, _INT2_TYPE, _INT4_TYPE, _TEXT, _UUID_TYPE = 17, 20, 21, 23, 25, 2950


def _array(kind: int, elements: list[bytes]) -> bytes:
    return _HEADER.pack(1, 0, kind, len(elements), 1) + b"".join(elements)


def uuids(values: Iterable[UUID]) -> bytes:
    """`uuid[]`"""
    return _array(_UUID_TYPE, [_UUID_LENGTH + value.bytes for value in values])


def int8s(values: Iterable[int]) -> bytes:
    """`bigint[]`"""
    return _array(_INT8_TYPE, [_INT8.pack(8, value) for value in values])


def int4s(values: Iterable[int]) -> bytes:
    """`integer[]`"""
    return _array(_INT4_TYPE, [_INT4.pack(4, value) for value in values])


def int2s(values: Iterable[int]) -> bytes:
    """`smallint[]`"""
    return _array(_INT2_TYPE, [_INT2.pack(2, value) for value in values])


def texts(values: Iterable[str]) -> bytes:
    """`text[]`"""
    return _counted(_TEXT, [value.encode() for value in values])


def byteas(values: Iterable[bytes]) -> bytes:
    """`bytea[]`"""
    return _counted(_BYTEA, values)


def _counted(kind: int, values: Iterable[bytes]) -> bytes:
    return _array(kind, [_LENGTH.pack(len(value)) + value for value in values])
