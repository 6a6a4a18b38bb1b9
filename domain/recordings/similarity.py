"""Whether two recordings are of one run: two devices on one runner, or two exports of one file."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from domain.recordings.cleaning import step_lengths
from domain.recordings.recording import FloatColumn

LEAST_OVERLAP: Final = 0.6  # of the longer one's time: less is a part of a run, which counts by itself
_LEAST_OVERLAP_UNPLACED: Final = 0.9  # where only times and distances can be compared
_MOST_DISTANCE_DIFFERENCE: Final = 0.15  # of the larger, then: foot pods and treadmills are that far apart
_SAMPLES: Final = 64
_CLOCKS_S: Final = 90.0  # between the clocks of two devices
_MOST_AROUND: Final = 181  # places compared with one: a second apart where a track has more, maybe millions
_NEAR_M: Final = 75.0  # between two receivers among high houses
_SHARE_NEAR: Final = 0.8


@dataclass(frozen=True)
class Span:
    """When an activity was, and how far it went."""

    started_at: datetime
    elapsed_s: float
    distance_m: float


@dataclass(frozen=True)
class Path:
    """Where a runner was when: seconds since the activity's start, degrees. NaN-free, `t` never falls."""

    t: FloatColumn
    lat: FloatColumn
    lon: FloatColumn

    @classmethod
    def of(cls, t: FloatColumn, lat: FloatColumn, lon: FloatColumn) -> "Path | None":
        """Of columns as recorded; None when hardly a point has time and place."""
        known = ~(np.isnan(t) | np.isnan(lat) | np.isnan(lon))
        order = np.argsort(t[known], kind="stable")
        path = cls(t[known][order], lat[known][order], lon[known][order])
        return path if len(path.t) >= 2 else None


def overlap(one: Span, other: Span) -> float:
    """The time that both share, as a share of the longer one's."""
    shift = (other.started_at - one.started_at).total_seconds()
    common = min(one.elapsed_s, shift + other.elapsed_s) - max(0.0, shift)
    longer = max(one.elapsed_s, other.elapsed_s)
    return max(0.0, common) / longer if longer > 0 else 0.0


def same_run(one: Span, one_path: Path | None, other: Span, other_path: Path | None) -> bool:
    """Whether both are of one run.

    By positions where both have them: at most of 64 instants of their common time, one was within 75 m of where the
    other was within a minute and a half. Else by nearly equal times and distances.
    """
    shared = overlap(one, other)
    if shared < LEAST_OVERLAP:
        return False
    if one_path is None or other_path is None:
        larger = max(one.distance_m, other.distance_m)
        difference = abs(one.distance_m - other.distance_m)
        return shared >= _LEAST_OVERLAP_UNPLACED and difference <= larger * _MOST_DISTANCE_DIFFERENCE
    shift = (other.started_at - one.started_at).total_seconds()
    moved = Path(other_path.t + shift, other_path.lat, other_path.lon)
    begin, end = max(one_path.t[0], moved.t[0]), min(one_path.t[-1], moved.t[-1])
    if begin >= end:
        return False
    instants = np.linspace(begin, end, _SAMPLES)
    near = [_distance(one_path, moved, at) <= _NEAR_M for at in instants]
    return float(np.mean(near)) >= _SHARE_NEAR


def _distance(one: Path, other: Path, at: float) -> float:
    """Metres from where one was at an instant to the nearest place where the other was around it."""
    lat, lon = np.interp(at, one.t, one.lat), np.interp(at, one.t, one.lon)
    first, last = np.searchsorted(other.t, at - _CLOCKS_S), np.searchsorted(other.t, at + _CLOCKS_S, side="right")
    many = last - first > _MOST_AROUND
    around = np.append(
        np.linspace(at - _CLOCKS_S, at + _CLOCKS_S, _MOST_AROUND) if many else other.t[first:last],
        at,
    )
    lats, lons = np.interp(around, other.t, other.lat), np.interp(around, other.t, other.lon)
    pairs_lat, pairs_lon = np.empty(2 * len(around)), np.empty(2 * len(around))
    pairs_lat[::2], pairs_lat[1::2] = lat, lats
    pairs_lon[::2], pairs_lon[1::2] = lon, lons
    return float(step_lengths(pairs_lat, pairs_lon)[::2].min())
