"""Distance told from position, speed and time: what is stored of it is only where the device counted otherwise.

A device adds up its own smoothed steps. A sum of the steps between positions around a point, of speed times time, and
of the time itself comes close to them; its weights are fitted when the track is packed, and stored with it. All that
decoding computes are sums and products of whole numbers below 2^53, held in floats: exact in any order, the same on
every machine. So is the square root, which IEEE 754 rounds correctly.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from domain.recordings.recording import Column, FloatColumn
from infra.formats.track.blob import CorruptTrack

Known = Mapping[Column, FloatColumn]
Term = tuple[FloatColumn, int]

SOURCES: Final = (Column.LAT, Column.LON, Column.T, Column.SPEED)  # the first two are needed, the others help

_A_DEGREE: Final = 178_111_200.0  # sixteenths of a centimetre, of latitude
_NARROWING: Final = 2.0**14  # the cosine of the latitude, as a whole number
_TICKS: Final = 256.0  # of a second
_LONGEST: Final = 600.0  # seconds between two points
_MILLIMETRES: Final = 1_000.0
_MOST: Final = 1e7  # of any term: six kilometres between two points
_HEAD: Final = struct.Struct("<H")  # the cosine
_WEIGHT: Final = np.dtype("<i2")
_SCALE: Final = 2.0**15  # of the weights, to be whole
_MOST_WEIGHT: Final = 2**15 - 1  # 19 weighted terms stay far below 2^53
_STEPS: Final = (3, 5)  # that count: after a point and before it
_SPEEDS: Final = (2, 4)
_FITTED: Final = 1_024  # points, of a longer track; products of larger tables wake threads up, and take longer for it
_FEWEST: Final = 64
_BEYOND_REASON: Final = 1e6  # degrees, seconds, metres a second
_TURNS, _MANY_TURNS = 3, 20


def fit(counted: FloatColumn, known: Known, *, best: bool) -> tuple[bytes, FloatColumn] | None:
    """Weights by least squares, as they are stored, and what they tell; None when there is too little to fit them to.

    `counted` is the distance at every point, in the unit that it is stored in.
    """
    if len(counted) < _FEWEST or any(name not in known or np.isnan(known[name]).all() for name in SOURCES[:2]):
        return None
    if not all(np.fmax.reduce(np.abs(column), initial=0.0) <= _BEYOND_REASON for column in known.values()):
        return None
    narrowing = _narrowing(known[Column.LAT])
    terms = _terms(known, narrowing)
    rows = np.linspace(0, len(counted) - 1, min(len(counted), _FITTED)).astype(np.int64)
    table = np.concatenate([sliding_window_view(series, width)[rows] for series, width in terms], axis=1)
    wanted = _steps(counted)[rows]
    weights = _fitted(table, wanted, _MANY_TURNS if best else _TURNS)
    return _HEAD.pack(narrowing) + weights.tobytes(), _summed(terms, weights)


def told(raw: bytes, at: int, known: Known) -> tuple[FloatColumn, int]:
    """What the stored weights say that the distance is at every point, and where they end; `CorruptTrack`."""
    if any(len(known.get(name, ())) == 0 for name in SOURCES[:2]):
        raise CorruptTrack("the distance is told from positions, which the track has not")
    begin = at + _HEAD.size
    if begin > len(raw):
        raise CorruptTrack("the weights of the distance are cut")
    with np.errstate(all="ignore"):  # damage may say anything, and what it comes to does not matter
        terms = _terms(known, min(_HEAD.unpack_from(raw, at)[0], int(_NARROWING)))
        end = begin + _WEIGHT.itemsize * sum(width for _, width in terms)
        if end > len(raw):
            raise CorruptTrack("the weights of the distance are cut")
        return _summed(terms, np.frombuffer(raw[begin:end], _WEIGHT)), end


def _summed(terms: Sequence[Term], weights: NDArray[np.int16]) -> FloatColumn:
    exact, at = weights.astype(np.float64), 0
    series, width = terms[0]
    steps = np.zeros(len(series) - width + 1)
    for series, width in terms:
        steps += np.correlate(series, exact[at : at + width], "valid")
        at += width
    steps /= _SCALE
    return np.cumsum(np.rint(steps, out=steps), out=steps)


def _terms(known: Known, narrowing: int) -> Sequence[Term]:
    """Whole numbers of at most `_MOST`, from single operations, each of which IEEE 754 rounds in one way only."""
    north = _steps(_filled(known[Column.LAT]))
    east = _steps(_filled(known[Column.LON]))
    north *= _A_DEGREE
    east *= _A_DEGREE * narrowing / _NARROWING
    north *= north
    east *= east
    north += east
    terms = [_around(_whole(np.sqrt(north, out=north)), *_STEPS)]
    if Column.T in known:
        seconds = _steps(_filled(known[Column.T]))
        np.minimum(np.maximum(seconds, 0.0, out=seconds), _LONGEST, out=seconds)
        terms.append((_whole(seconds * _TICKS), 1))
        if Column.SPEED in known:
            seconds *= _filled(known[Column.SPEED])
            seconds *= _MILLIMETRES
            terms.append(_around(_whole(np.abs(seconds, out=seconds)), *_SPEEDS))
    return terms


def _whole(series: FloatColumn) -> FloatColumn:
    return np.minimum(np.floor(series, out=series), _MOST, out=series)


def _filled(column: FloatColumn) -> FloatColumn:
    """Each missing value as the last one before it, and in front of all as the first."""
    missing = np.isnan(column)
    if missing.any():
        if missing.all():
            return np.zeros(len(column))
        last = np.maximum.accumulate(np.where(missing, 0, np.arange(len(column))))
        last[: np.argmin(missing)] = np.argmin(missing)
        return column[last]
    return column


def _steps(column: FloatColumn) -> FloatColumn:
    steps = np.empty(len(column))
    steps[:1] = 0.0
    np.subtract(column[1:], column[:-1], out=steps[1:])
    return steps


def _around(series: FloatColumn, after: int, before: int) -> Term:
    """The series, longer by its ends, and how many of its values beside each other are added up."""
    longer = np.empty(before + len(series) + after)
    longer[before : before + len(series)] = series
    longer[:before], longer[before + len(series) :] = series[0], series[-1]
    return longer, before + 1 + after


def _narrowing(lat: FloatColumn) -> int:
    """Of a degree of longitude against one of latitude, in the track's middle."""
    middle = float(lat[~np.isnan(lat)].mean())
    return round(abs(math.cos(math.radians(middle))) * _NARROWING)


def _fitted(table: FloatColumn, wanted: FloatColumn, turns: int) -> NDArray[np.int16]:
    """By least squares, the rows that are told badly counting less each time: nearly the least sum of differences."""
    found: FloatColumn = np.zeros(table.shape[1])
    counts: FloatColumn = np.ones(len(wanted))
    for _ in range(turns):
        weighted = table * counts[:, None]
        squares: FloatColumn = weighted.T @ table
        squares += np.diag(np.full(len(squares), 1e-9 * np.trace(squares) + 1.0))  # also where somebody stood still
        found = np.asarray(np.linalg.solve(squares, weighted.T @ wanted), np.float64)
        counts = np.reciprocal(np.abs(wanted - table @ found) + 1.0)
    return np.clip(np.rint(found * _SCALE), -_MOST_WEIGHT, _MOST_WEIGHT).astype(_WEIGHT)
