"""Distance told from positions: what is stored of it is only where the device counted otherwise.

A device adds up smoothed steps of its own. A weighted sum of the steps between positions around a point comes close to
them; the weights are fitted when the track is packed, and stored with it. (Speed and time beside them gained nothing.)
Decoding computes single sums, products and square roots of floats, each of which IEEE 754 rounds in one way only, and
sums of products of whole numbers below 2^53, which are exact in any order: the same on every machine.
"""

import math
import struct
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from domain.recordings.recording import Column, FloatColumn
from infra.formats.track.blob import CorruptTrack

Known = Mapping[Column, FloatColumn]
Weights = NDArray[np.int16]

SOURCES: Final = (Column.LAT, Column.LON)

_NARROWING: Final = 2.0**14  # the cosine of the latitude, as a whole number
_HEAD: Final = struct.Struct("<H")  # it
_BEFORE, _AFTER = 4, 2  # a point, steps that count
_COUNT: Final = _BEFORE + 1 + _AFTER + 1  # of weights: the last is a constant's
_STORED: Final = np.dtype("<i2")
_SCALE: Final = 2.0**15  # of the weights, to be whole
_MOST_WEIGHT: Final = 2**15 - 1
_CONSTANT: Final = 256.0  # of which the last weight is for
_A_DEGREE: Final = 178_111_200.0  # sixteenths of a centimetre, of latitude
_MOST: Final = 1e7  # of them in a step: six kilometres. Weighted, eight stay far below 2^53
_BEYOND_REASON: Final = 1e3  # degrees
_FITTED: Final = 1_024  # points, of a longer track; products of larger tables wake threads up, and take longer for it
_FEWEST: Final = 64
_TURNS, _MANY_TURNS = 5, 30


def fit(counted: FloatColumn, known: Known, *, best: bool) -> tuple[bytes, FloatColumn] | None:
    """Weights, as they are stored, and what they tell; None when there is too little to fit them to.

    `counted` is the distance at every point, in the unit that it is stored in.
    """
    if len(counted) < _FEWEST or not all(name in known and _is_usual(known[name]) for name in SOURCES):
        return None
    narrowing = _narrowing(known[Column.LAT])
    moved = _moved(known, narrowing)
    rows = np.linspace(0, len(counted) - 1, min(len(counted), _FITTED)).astype(np.int64)
    windows = sliding_window_view(moved, _BEFORE + 1 + _AFTER)[rows]
    table = np.column_stack([windows, np.full(len(rows), _CONSTANT)])
    weights = _fitted(table, _steps(counted)[rows], _MANY_TURNS if best else _TURNS)
    return _HEAD.pack(narrowing) + weights.astype(_STORED).tobytes(), _summed(moved, weights)


def told(raw: bytes, at: int, known: Known) -> tuple[FloatColumn, int]:
    """What the stored weights say that the distance is at every point, and where they end; `CorruptTrack`."""
    end = at + _HEAD.size + _COUNT * _STORED.itemsize
    if end > len(raw) or any(len(known.get(name, ())) == 0 for name in SOURCES):
        raise CorruptTrack("the distance is told from positions, which the track has not, or by weights that are cut")
    (narrowing,) = _HEAD.unpack_from(raw, at)
    weights = np.frombuffer(raw, _STORED, offset=at + _HEAD.size, count=_COUNT)
    return _summed(_moved(known, narrowing), weights), end


def _summed(moved: FloatColumn, weights: Weights) -> FloatColumn:
    exact = weights.astype(np.float64)
    steps = np.correlate(moved, exact[:-1], "valid")
    steps += exact[-1] * _CONSTANT
    steps /= _SCALE
    return np.cumsum(np.rint(steps, out=steps), out=steps)


def _moved(known: Known, narrowing: int) -> FloatColumn:
    """The length of each step, a whole number of at most `_MOST`, with the first and the last repeated at the ends."""
    north, east = _steps(_filled(known[Column.LAT])), _steps(_filled(known[Column.LON]))
    north *= _A_DEGREE
    east *= _A_DEGREE * narrowing / _NARROWING
    north *= north
    east *= east
    moved = np.empty(_BEFORE + len(north) + _AFTER)
    steps = moved[_BEFORE : _BEFORE + len(north)]
    np.sqrt(np.add(north, east, out=steps), out=steps)
    np.minimum(np.floor(steps, out=steps), _MOST, out=steps)
    moved[:_BEFORE], moved[_BEFORE + len(north) :] = steps[0], steps[-1]
    return moved


def _filled(column: FloatColumn) -> FloatColumn:
    """Each missing value as the last one before it, and in front of all as the first."""
    missing = np.isnan(column)
    if not missing.any():
        return column
    if missing.all():
        return np.zeros(len(column))
    last = np.maximum.accumulate(np.where(missing, 0, np.arange(len(column))))
    last[: np.argmin(missing)] = np.argmin(missing)
    return column[last]


def _steps(column: FloatColumn) -> FloatColumn:
    steps = np.empty(len(column))
    steps[:1] = 0.0
    np.subtract(column[1:], column[:-1], out=steps[1:])
    return steps


def _is_usual(column: FloatColumn) -> bool:
    """Whether the column has values, all of them angles."""
    return 0 <= float(np.fmax.reduce(np.abs(column), initial=-1.0)) <= _BEYOND_REASON


def _narrowing(lat: FloatColumn) -> int:
    """Of a degree of longitude against one of latitude, in the track's middle."""
    middle = float(lat[~np.isnan(lat)].mean())
    return round(abs(math.cos(math.radians(middle))) * _NARROWING)


def _fitted(table: FloatColumn, wanted: FloatColumn, turns: int) -> Weights:
    """By least squares, the rows that are told badly counting less each time: nearly the least sum of differences."""
    found: FloatColumn = np.zeros(table.shape[1])
    counts: FloatColumn = np.ones(len(wanted))
    for _ in range(turns):
        weighted = table * counts[:, None]
        squares: FloatColumn = weighted.T @ table
        squares += np.diag(np.full(len(squares), 1e-9 * np.trace(squares) + 1.0))  # also where somebody stood still
        found = np.asarray(np.linalg.solve(squares, weighted.T @ wanted), np.float64)
        counts = np.reciprocal(np.abs(wanted - table @ found) + 1.0)
    return np.clip(np.rint(found * _SCALE), -_MOST_WEIGHT, _MOST_WEIGHT).astype(np.int16)
