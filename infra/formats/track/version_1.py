"""The track blob: columns of integers, each compressed and checked by itself, in one self-describing container.

Version 1, all numbers little-endian:

    magic "CRNT" · version 1 (one byte) · length of the header (u32) · CRC-32 of the header (u32) · header · payloads

The header is MessagePack: `points`, and for each column its name, scale, offset and length of the payload from the
header's end, and the payload's CRC-32. A payload is a zstd frame of: a bitmap of which points have a value (empty
when all do), the first value and then differences as i64, byte planes apart (shuffled), which compresses better.
A value is integer / scale: for each column the first of its declared scales that gives every value back exactly.
"""

import struct
import zlib
from collections.abc import Collection
from typing import Final

import msgspec
import numpy as np
import zstandard
from msgspec import Struct

from domain.recordings.recording import Column, FloatColumn
from infra.formats.track.blob import MOST_POINTS, CorruptTrack

_MAGIC: Final = b"CRNT"
_VERSION: Final = 1
_PREFIX: Final = struct.Struct("<4sBII")
_EXACT: Final = 0.0  # no scale: the bits of the float itself


class _Column(Struct, array_like=True):
    name: Column
    scale: float
    offset: int
    length: int
    crc: int


class _Header(Struct, array_like=True):
    points: int
    columns: list[_Column]


def decode(blob: bytes, columns: Collection[Column] | None) -> tuple[int, dict[Column, FloatColumn]]:
    """How many points, and the columns asked for that the blob has (None: all); `CorruptTrack`."""
    header, begin = _header(blob)
    wanted = [column for column in header.columns if columns is None or column.name in columns]
    return header.points, {column.name: _values(blob, begin, column, header.points) for column in wanted}


def _header(blob: bytes) -> tuple[_Header, int]:
    if len(blob) < _PREFIX.size:
        raise CorruptTrack("the blob is too short")
    magic, version, length, crc = _PREFIX.unpack_from(blob)
    raw = blob[_PREFIX.size : _PREFIX.size + length]
    if magic != _MAGIC or version != _VERSION:
        raise CorruptTrack(f"no track blob of version {_VERSION}")
    if zlib.crc32(raw) != crc:
        raise CorruptTrack("the header does not match its checksum")
    try:
        header = msgspec.msgpack.decode(raw, type=_Header)
    except msgspec.DecodeError as error:
        raise CorruptTrack("the header cannot be read") from error
    if not 0 <= header.points <= MOST_POINTS:
        raise CorruptTrack("the blob has more points than any recording")
    return header, _PREFIX.size + length


def _values(blob: bytes, begin: int, column: _Column, points: int) -> FloatColumn:
    payload = blob[begin + column.offset : begin + column.offset + column.length]
    if zlib.crc32(payload) != column.crc:
        raise CorruptTrack(f"column {column.name} does not match its checksum")
    try:
        return _unpacked(payload, column, points)
    except (struct.error, ValueError, zstandard.ZstdError) as error:
        raise CorruptTrack(f"column {column.name} cannot be unpacked") from error


def _unpacked(payload: bytes, column: _Column, points: int) -> FloatColumn:
    raw = zstandard.ZstdDecompressor().stream_reader(payload).read(8 * points + points // 8 + 8)
    (size,) = struct.unpack_from("<I", raw)
    bitmap, planes = raw[4 : 4 + size], np.frombuffer(raw, np.uint8, offset=4 + size)
    steps = np.ascontiguousarray(planes.reshape(8, -1).T).view("<i8")[:, 0]
    whole = np.cumsum(steps, dtype=np.int64)
    known: FloatColumn = whole.view(np.float64) if column.scale == _EXACT else whole / column.scale
    if not bitmap and len(known) == points:
        return known
    values = np.full(points, np.nan)
    values[np.unpackbits(np.frombuffer(bitmap, np.uint8), count=points).astype(bool)] = known
    return values
