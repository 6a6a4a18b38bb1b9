"""Bytes a point of stored tracks, and points a second in and out of them, beside other ways to keep the same points."""

import gzip
import importlib
import importlib.util
import io
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Final

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from domain.recordings.recording import DECIMALS, Column, FloatColumn
from infra.faults import Fault
from infra.formats.track import Key, check, decode, encode, seal
from infra.formats.track.numbers import Measured, measured
from infra.keys import UserCipher
from workers.cli.bench.measure import Bench, Contender, Goal
from workers.cli.bench.recordings import Recording

Columns = Mapping[Column, FloatColumn]

_WRITTEN: Final = "ours, as written"
_COLD: Final = "ours, recompacted"
_GZIP: Final = "the file, gzip -9"
_ZSTD: Final = "the file, zstd -19"
_JSON: Final = "JSON rows, gzip -9"
_PARQUET: Final = "Parquet, whole numbers, delta and zstd -19"
_PCODEC: Final = "pcodec alone, whole numbers"
_ENCODE: Final = "ours, pack and seal"
_DECODE: Final = "ours, open and unpack"
_POSITIONS: Final = "ours, open and unpack positions"
_PCODEC_ENCODE: Final = "pcodec alone, whole numbers to bytes"
_PCODEC_DECODE: Final = "pcodec alone, bytes to whole numbers"

SIZE_GOALS: Final = (
    Goal("track_bytes_per_point", _WRITTEN, None, 4.15, at_most=True),
    Goal("track_bytes_per_point_cold", _COLD, None, 4.0, at_most=True),
    Goal("track_bytes_to_file_gzip", _WRITTEN, _GZIP, None),
    Goal("track_bytes_to_file_zstd", _WRITTEN, _ZSTD, None),
    Goal("track_bytes_to_json_gzip", _WRITTEN, _JSON, None),
    Goal("track_bytes_to_parquet", _WRITTEN, _PARQUET, None),
    Goal("track_bytes_to_pcodec", _WRITTEN, _PCODEC, None),
)
SPEED_GOALS: Final = (
    Goal("track_encode", _ENCODE, None, 900_000.0),
    Goal("track_decode", _DECODE, None, 10_000_000.0),
    Goal("track_positions", _POSITIONS, None, 30_000_000.0),
    Goal("track_encode_to_pcodec", _ENCODE, _PCODEC_ENCODE, None),
    Goal("track_decode_to_pcodec", _DECODE, _PCODEC_DECODE, None),
)

_KEY: Final = Key(UserCipher(b"k" * 32), b"the place of each track, as long as those of stored ones")
_POSITION_COLUMNS: Final = (Column.LAT, Column.LON)
_PCODEC_CONFIG: Final = ChunkConfig(compression_level=8)


class Tracks:
    """All that both benches need of the recordings."""

    def __init__(self, recordings: Sequence[Recording], seconds: float) -> None:
        self._recordings = recordings
        self._seconds = seconds
        self._tracks = [columns for recording in recordings for columns in recording.tracks]
        self._points = sum(recording.points for recording in recordings)
        self._blobs = [_written(columns) for columns in self._tracks]
        self._whole = [
            _whole(one) for columns in self._tracks for one in _counted(columns).values() if len(one.numbers)
        ]

    def sizes(self) -> Bench:
        """Bytes a point. They are the same in each round, and are counted once; every value is compared on the way."""
        ways: dict[str, Callable[[], int]] = {
            _WRITTEN: lambda: self._size_of_ours(_written),
            _COLD: lambda: self._size_of_ours(_recompacted),
            _GZIP: lambda: sum(len(gzip.compress(one.body, 9, mtime=0)) for one in self._recordings),
            _ZSTD: lambda: sum(len(zstandard.compress(one.body, 19)) for one in self._recordings),
            _JSON: lambda: sum(len(gzip.compress(_json_rows(columns), 9, mtime=0)) for columns in self._tracks),
            _PCODEC: lambda: sum(len(standalone.simple_compress(one, _PCODEC_CONFIG)) for one in self._whole),
        }
        if importlib.util.find_spec("pyarrow"):  # a tool of development, which an installation has not
            ways[_PARQUET] = lambda: sum(_parquet_size(columns) for columns in self._tracks)
        contenders = [Contender(name, cache(partial(self._a_point, way))) for name, way in ways.items()]
        goals = [goal for goal in SIZE_GOALS if goal.reference in {None, *ways}]
        return Bench("track sizes", "bytes a point", contenders, goals)

    def speeds(self) -> Bench:
        """Points a second of one core's time."""
        packed = [standalone.simple_compress(one, _PCODEC_CONFIG) for one in self._whole]
        ways: dict[str, Callable[[], object]] = {
            _ENCODE: lambda: [_written(columns) for columns in self._tracks],
            _DECODE: lambda: [decode(blob, key=_KEY) for blob in self._blobs],
            _POSITIONS: lambda: [decode(blob, _POSITION_COLUMNS, key=_KEY) for blob in self._blobs],
            _PCODEC_ENCODE: lambda: [standalone.simple_compress(one, _PCODEC_CONFIG) for one in self._whole],
            _PCODEC_DECODE: lambda: [standalone.simple_decompress(one) for one in packed],
        }
        contenders = [Contender(name, partial(self._rate, way)) for name, way in ways.items()]
        return Bench("track speeds", "points/s", contenders, SPEED_GOALS)

    def _a_point(self, size: Callable[[], int]) -> float:
        return size() / self._points

    def _rate(self, work: Callable[[], object]) -> float:
        began, turns = time.process_time(), 0
        while (spent := time.process_time() - began) < self._seconds or not turns:
            work()
            turns += 1
        return turns * self._points / spent

    def _size_of_ours(self, write: Callable[[Columns], bytes]) -> int:
        size = 0
        for columns in self._tracks:
            blob = write(columns)
            check(blob)
            compare(decode(blob, key=_KEY), columns)
            size += len(blob)
        return size


def _written(columns: Columns) -> bytes:
    return seal(encode(columns), _KEY)


def _recompacted(columns: Columns) -> bytes:
    return min(seal(encode(columns, best=True), _KEY), _written(columns), key=len)  # never replaced by a larger one


def compare(found: Columns, columns: Columns) -> None:
    """`Fault` unless every value is the same to the bit, but for which of its many NaN a missing value is."""
    for name, values in columns.items():
        known = ~np.isnan(values)
        same = found.keys() == columns.keys() and np.array_equal(~np.isnan(found[name]), known)
        if not same or not np.array_equal(found[name][known].view(np.int64), values[known].view(np.int64)):
            raise Fault(f"a track did not come back as it was: {name} of {len(values)} points differs.")


def _counted(columns: Columns) -> Mapping[Column, Measured]:
    return {name: measured(name, values) for name, values in columns.items()}


def _whole(one: Measured) -> NDArray[np.signedinteger]:
    limits = np.iinfo(np.int32)
    fits = limits.min <= one.numbers.min() and one.numbers.max() <= limits.max
    return one.numbers.astype(np.int32) if fits else one.numbers


def _json_rows(columns: Columns) -> bytes:
    listed = []
    for name, values in columns.items():
        row = np.round(values, DECIMALS[name]).astype(object)
        row[np.isnan(values)] = None
        listed.append(row.tolist())
    return msgspec.json.encode([dict(zip(columns, row, strict=True)) for row in zip(*listed, strict=True)])


def _parquet_size(columns: Columns) -> int:
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    arrays = {}
    for name, one in _counted(columns).items():
        values = np.zeros(len(columns[name]), np.int64)
        values[~np.isnan(columns[name])] = one.numbers
        arrays[str(name)] = arrow.array(values, mask=np.isnan(columns[name]))
    written = io.BytesIO()
    parquet.write_table(
        arrow.table(arrays),
        written,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        column_encoding=dict.fromkeys(arrays, "DELTA_BINARY_PACKED"),
    )
    return len(written.getvalue())
