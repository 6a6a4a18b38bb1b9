"""Distance told from position, speed and time: what is stored of it is only where the device counted otherwise.

A device adds up its own smoothed steps. A sum of the steps between positions around a point, of speed times time, and
of the time itself comes close to them; its weights are fitted when the track is packed, and stored with it. All that
decoding computes are sums and products of whole numbers below 2^53, held in floats: exact in any order, the same on
every machine. So is the square root, which IEEE 754 rounds correctly.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from domain.recordings.recording import Column, FloatColumn
from infra.formats.track.blob import CorruptTrack, from_varint, to_varint
from infra.formats.track.codecs import Whole

Known = Mapping[Column, FloatColumn]

SOURCES: Final = (Column.LAT, Column.LON, Column.T, Column.SPEED)  # the first two are needed, the others help

_A_DEGREE: Final = 178_111_200.0  # sixteenths of a centimetre, of latitude
_NARROWING: Final = 2.0**14  # the cosine of the latitude, as a whole number
_TICKS: Final = 256.0  # of a second
_LONGEST: Final = 600 * _TICKS
_MOST: Final = 1e7  # of any term: six kilometres between two points
_SCALE: Final = 2.0**18  # of the weights, to be whole
_MOST_WEIGHT: Final = 2**21  # 19 weighted terms stay below 2^53
_STEPS: Final = (3, 5)  # that count: after a point and before it
_SPEEDS: Final = (2, 4)
_ALONE: Final = (0, 0)
_FITTED: Final = 4_096  # points, of a longer track
_FEWEST: Final = 64
_BEYOND_REASON: Final = 1e6  # degrees, seconds, metres a second
_USUAL: Final = 0.99


def fit(counted: Whole, known: Known) -> bytes | None:
    """Weights by least squares, as they are stored; None when there is too little to fit them to.

    `counted` is the distance at every point, in the unit that it is stored in.
    """
    if len(counted) < _FEWEST or any(name not in known or np.isnan(known[name]).all() for name in SOURCES[:2]):
        return None
    narrowing = round(float(np.cos(np.radians(np.nanmedian(known[Column.LAT])))) * _NARROWING)
    rows = np.linspace(0, len(counted) - 1, min(len(counted), _FITTED)).astype(np.int64)
    table = np.concatenate([_windows(*term)[rows] for term in _terms(known, abs(narrowing))], axis=1)
    wanted = np.diff(counted, prepend=counted[:1])[rows].astype(np.float64)
    usual = np.abs(wanted) <= np.quantile(np.abs(wanted), _USUAL)
    weights = _solved(table[usual], wanted[usual])
    return b"".join(to_varint(number) for number in (abs(narrowing), *(one << 1 ^ one >> 63 for one in weights)))


def told(raw: bytes, at: int, known: Known) -> tuple[Whole, int]:
    """What the stored weights say that the distance is at every point, and where they end; `CorruptTrack`."""
    if any(name not in known for name in SOURCES[:2]):
        raise CorruptTrack("the distance is told from positions, which the track has not")
    narrowing, at = from_varint(raw, at)
    if narrowing > _NARROWING:
        raise CorruptTrack("a cosine is above one")
    steps = np.zeros(len(known[Column.LAT]))
    for series, around in _terms(known, narrowing):
        weights = []
        for _ in range(sum(around) + 1):
            folded, at = from_varint(raw, at)
            weights.append(float(max(-_MOST_WEIGHT, min(_MOST_WEIGHT, folded >> 1 ^ -(folded & 1)))))
        steps += np.correlate(_padded(series, around), np.array(weights), "valid")
    return np.cumsum(np.rint(steps / _SCALE).astype(np.int64)), at


def _terms(known: Known, narrowing: int) -> Iterator[tuple[FloatColumn, tuple[int, int]]]:
    """Series of whole numbers of at most `_MOST`, and how many values of each after and before a point count."""
    north = np.clip(_steps(_filled(known[Column.LAT]), _A_DEGREE), -_MOST, _MOST)
    east = np.clip(_steps(_filled(known[Column.LON]), _A_DEGREE), -_MOST, _MOST)
    east = np.floor(east * (narrowing / _NARROWING))
    yield np.minimum(np.floor(np.sqrt(north * north + east * east)), _MOST), _STEPS
    yield np.abs(north), _ALONE
    yield np.abs(east), _ALONE
    if Column.T in known:
        ticks = np.clip(_steps(_filled(known[Column.T]), _TICKS), 0.0, _LONGEST)
        yield ticks, _ALONE
        if Column.SPEED in known:
            speed = np.clip(np.rint(_filled(known[Column.SPEED]) * 1_000), 0.0, _MOST)
            yield np.minimum(np.floor(speed * ticks / _TICKS), _MOST), _SPEEDS


def _filled(column: FloatColumn) -> FloatColumn:
    """Each missing value as the last one before it, and in front of all as the first. Nothing beyond reason."""
    missing = np.isnan(column)
    if missing.any():
        last = np.maximum.accumulate(np.where(missing, 0, np.arange(len(column))))
        column = np.where(np.isnan(column[last]), column[np.argmin(missing)], column[last])
    return np.clip(np.nan_to_num(column), -_BEYOND_REASON, _BEYOND_REASON)


def _steps(column: FloatColumn, scale: float) -> FloatColumn:
    whole = np.rint(column * scale)
    return np.diff(whole, prepend=whole[:1])


def _padded(series: FloatColumn, around: tuple[int, int]) -> FloatColumn:
    after, before = around
    return np.concatenate([np.full(before, series[0]), series, np.full(after, series[-1])]) if sum(around) else series


def _windows(series: FloatColumn, around: tuple[int, int]) -> FloatColumn:
    return sliding_window_view(_padded(series, around), sum(around) + 1)


def _solved(table: FloatColumn, wanted: FloatColumn) -> list[int]:
    squares = table.T @ table
    squares += np.eye(len(squares)) * (1e-9 * np.trace(squares) + 1.0)  # solvable, also where somebody stood still
    weights = np.linalg.solve(squares, table.T @ wanted)
    return [int(weight) for weight in np.clip(np.rint(weights * _SCALE), -_MOST_WEIGHT, _MOST_WEIGHT)]
