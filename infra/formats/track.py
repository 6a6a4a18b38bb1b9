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
from collections.abc import Collection, Mapping
from typing import Final

import msgspec
import numpy as np
import zstandard
from msgspec import Struct
from numpy.typing import NDArray

from domain.recordings.recording import Column, FloatColumn

_MAGIC: Final = b"CRNT"
_VERSION: Final = 1
_PREFIX: Final = struct.Struct("<4sBII")
_LEVEL: Final = 9
_SEMICIRCLES: Final = 2**31 / 180  # FIT's own unit of angles
_EXACT: Final = 0.0  # no scale: the bits of the float itself
_SCALES: Final[Mapping[Column, tuple[float, ...]]] = {
    Column.T: (1, 10, 1_000),
    Column.LAT: (1e5, 1e6, 1e7, _SEMICIRCLES),
    Column.LON: (1e5, 1e6, 1e7, _SEMICIRCLES),
    Column.ALTITUDE: (1, 5, 10, 100, 1_000),
    Column.DISTANCE: (1, 16, 100, 1_000),
    Column.SPEED: (1, 10, 100, 1_000),
}
_SCALES_ELSE: Final = (1, 10, 128, 1_000)
_MAX_BYTES: Final = 64 * 1024 * 1024  # of a payload, inflated


class CorruptTrack(Exception):
    """The blob is not what was written: a checksum, the magic or a length does not fit."""


class _Column(Struct, array_like=True):
    name: Column
    scale: float
    offset: int
    length: int
    crc: int


class _Header(Struct, array_like=True):
    points: int
    columns: list[_Column]


def encode(columns: Mapping[Column, FloatColumn]) -> bytes:
    """Columns of one length as a blob. Every value comes back as it was, and NaN as NaN."""
    points = len(next(iter(columns.values()), ()))
    payloads, described, offset = [], [], 0
    for name, values in columns.items():
        scale = _scale(name, values)
        payload = _packed(values, scale)
        described.append(_Column(name, scale, offset, len(payload), zlib.crc32(payload)))
        payloads.append(payload)
        offset += len(payload)
    header = msgspec.msgpack.encode(_Header(points, described))
    return b"".join([_PREFIX.pack(_MAGIC, _VERSION, len(header), zlib.crc32(header)), header, *payloads])


def decode(
    blob: bytes, columns: Collection[Column] | None = None, max_points: int | None = None
) -> dict[Column, FloatColumn]:
    """The columns asked for that the blob has (None: all), thinned out evenly, the first and the last point kept."""
    header, begin = _header(blob)
    wanted = [column for column in header.columns if columns is None or column.name in columns]
    kept = _kept(header.points, max_points)
    return {column.name: _values(blob, begin, column, header.points)[kept] for column in wanted}


def _scale(name: Column, values: FloatColumn) -> float:
    known = values[~np.isnan(values)]
    for scale in _SCALES.get(name, _SCALES_ELSE):
        whole = np.rint(known * scale)
        if np.abs(whole).max(initial=0.0) < 2**52 and np.array_equal(whole / scale, known):
            return float(scale)
    return _EXACT


def _packed(values: FloatColumn, scale: float) -> bytes:
    present = ~np.isnan(values)
    known = values[present]
    whole = known.view(np.int64) if scale == _EXACT else np.rint(known * scale).astype(np.int64)
    steps = np.diff(whole, prepend=np.int64(0))
    bitmap = b"" if present.all() else np.packbits(present).tobytes()
    planes = steps.astype("<i8").view(np.uint8).reshape(-1, 8).T.tobytes()
    return zstandard.ZstdCompressor(level=_LEVEL).compress(struct.pack("<I", len(bitmap)) + bitmap + planes)


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
        return msgspec.msgpack.decode(raw, type=_Header), _PREFIX.size + length
    except msgspec.DecodeError as error:
        raise CorruptTrack("the header cannot be read") from error


def _values(blob: bytes, begin: int, column: _Column, points: int) -> FloatColumn:
    payload = blob[begin + column.offset : begin + column.offset + column.length]
    if zlib.crc32(payload) != column.crc:
        raise CorruptTrack(f"column {column.name} does not match its checksum")
    raw = zstandard.ZstdDecompressor().decompress(payload, max_output_size=_MAX_BYTES)
    (size,) = struct.unpack_from("<I", raw)
    bitmap, planes = raw[4 : 4 + size], np.frombuffer(raw, np.uint8, offset=4 + size)
    steps = planes.reshape(8, -1).T.copy().view("<i8")[:, 0]
    whole = np.cumsum(steps, dtype=np.int64)
    known: FloatColumn = whole.view(np.float64) if column.scale == _EXACT else whole / column.scale
    if not bitmap:
        return known
    values = np.full(points, np.nan)
    values[np.unpackbits(np.frombuffer(bitmap, np.uint8), count=points).astype(bool)] = known
    return values


def _kept(points: int, max_points: int | None) -> NDArray[np.int64]:
    if max_points is None or points <= max_points:
        return np.arange(points)
    return np.rint(np.linspace(0, points - 1, max_points)).astype(np.int64)
