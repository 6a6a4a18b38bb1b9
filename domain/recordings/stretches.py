"""Parts of a run: its kilometres and miles, and the fastest stretch of each standard distance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Self

import numpy as np
from msgspec import Struct

from domain.events.measured import BestEffort
from domain.recordings.averages import held
from domain.recordings.cleaning import CleanTrack
from domain.recordings.recording import FloatColumn

KILOMETRE_M: Final = 1_000.0
MILE_M: Final = 1_609.344
_EFFORTS: Final = (
    ("400 m", 400.0),
    ("1/2 mile", MILE_M / 2),
    ("1 km", KILOMETRE_M),
    ("1 mile", MILE_M),
    ("5 km", 5_000.0),
    ("10 km", 10_000.0),
    ("half marathon", 21_097.5),  # World Athletics, Technical Rule 55
    ("marathon", 42_195.0),
)
_MOST_SPLITS: Final = 5_000  # nobody goes so far in one session: the channel is broken
_ROUNDED_M: Final = 1e-6  # what sums of steps are out by: a rest exactly at the end of a stretch is not in it
_SHORTEST_M: Final = 1.0  # what is left after the last mark, to be a split


class Split(Struct, frozen=True, omit_defaults=True):
    """One kilometre or mile; the last one is what is left, with less than a metre in the one before."""

    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float = 0.0
    avg_heart_rate_bpm: float | None = None


@dataclass(frozen=True)
class Sums:
    """Columns of one length that only grow, and the heart rate if there is one."""

    t: FloatColumn
    distance: FloatColumn
    moved: FloatColumn
    climbed: FloatColumn
    heart_rate: FloatColumn | None

    def within(self, part: slice) -> Self:
        """Of these points alone; the distance is from the first of them, if that is not where it began."""
        distance, rate = self.distance[part], self.heart_rate
        return replace(
            self,
            t=self.t[part],
            distance=distance - distance[0] if part.start else distance,
            moved=self.moved[part],
            climbed=self.climbed[part],
            heart_rate=None if rate is None else rate[part],
        )


def splits(sums: Sums, length_m: float) -> Sequence[Split]:
    """Stretches of this length from the start, cut between points by interpolation, and the rest to the last point:
    who came to stand there stood in that one.
    """
    if len(sums.t) < 2 or sums.t[-1] <= 0 or sums.distance[-1] <= 0:
        return []
    total = float(sums.distance[-1])
    if total / length_m > _MOST_SPLITS:
        return []
    marks = np.arange(0.0, total, length_m)
    marks = np.append(marks[marks <= total - _SHORTEST_M], total)
    at, points = _reached(marks, sums.distance), np.arange(len(sums.t))
    at[-1] = points[-1]
    t, moved, climbed = (np.interp(at, points, column) for column in (sums.t, sums.moved, sums.climbed))
    rows = zip(*(np.diff(column).tolist() for column in (marks, t, moved, climbed)), strict=True)
    return [
        Split(
            distance_m=round(distance, 2),
            elapsed_s=round(elapsed, 3),
            moving_s=round(moving, 3),
            elevation_gain_m=round(gain, 1),
            avg_heart_rate_bpm=heart_rate,
        )
        for (distance, elapsed, moving, gain), heart_rate in zip(rows, _means(sums, at), strict=True)
    ]


def _reached(marks: FloatColumn, distance: FloatColumn) -> FloatColumn:
    """The (fractional) index at which each distance was reached first, on the last step there, after a rest before."""
    enough = marks - _ROUNDED_M
    after = np.searchsorted(distance, enough)
    before = np.maximum(after - 1, 0)
    way = distance[after] - distance[before]
    return before + np.divide(enough - distance[before], way, out=np.zeros(len(marks)), where=way > 0)


def _means(sums: Sums, at: FloatColumn) -> list[float | None]:
    """The mean heart rate between each two of these indices, over time; None of less than a millisecond."""
    if sums.heart_rate is None:
        return [None] * (len(at) - 1)
    (before, after), points = held(sums.heart_rate, sums.t), np.arange(len(sums.t))
    beats, seconds = (
        np.diff(np.interp(at, points, np.cumsum((before + after) * weight) - after * weight)).tolist()
        for weight in (np.nan_to_num(sums.heart_rate), np.ones(len(points)))
    )
    return [round(beat / time, 1) if round(time, 3) else None for beat, time in zip(beats, seconds, strict=True)]


def best_efforts(
    track: CleanTrack, distance: FloatColumn, fastest_mps: float, gaps: Sequence[int] = ()
) -> tuple[BestEffort, ...]:
    """The fastest stretch of each standard distance, ending or starting at a point, by interpolation.

    Elapsed time, pauses inside included: it begins when the runner leaves a place, not when they came to stand there,
    and ends when they reach one. Nothing faster than `fastest_mps` counts: there the clock stood still. Only between
    the first and the last point that have a time of their own, and over none of the `gaps` (points that begin anew).
    """
    begin, end = track.timed_part.start, track.timed_part.stop
    if end - begin < 2:
        return ()
    ends = [begin, *(gap for gap in gaps if begin < gap < end), end]
    found = []
    for name, length in _EFFORTS:
        tried = [_fastest(distance[a:b], track.t[a:b], length, fastest_mps) for a, b in pairwise(ends)]
        if all(elapsed is None for elapsed, _ in tried):
            break
        elapsed, began = min((np.inf if elapsed is None else elapsed, began) for elapsed, began in tried)
        if np.isfinite(elapsed):
            found.append(BestEffort(name, length, round(elapsed, 2), round(max(0.0, began), 2)))
    return tuple(found)


def _fastest(reached: FloatColumn, t: FloatColumn, length: float, fastest_mps: float) -> tuple[float | None, float]:
    """The least time for this length, infinite where the clock stood still, None where it is longer than the way; and
    when that began.
    """
    d, enough = reached - reached[0], length - _ROUNDED_M
    if d[-1] < enough:
        return None, 0.0
    ends, starts = d >= enough, d[-1] - d >= enough
    began = np.concatenate([np.interp(d[ends] - enough, d, t), t[starts]])  # of equal `d`, interp takes the last
    ended = np.concatenate([t[ends], -np.interp(-d[starts] - enough, -d[::-1], -t[::-1])])  # and here the first
    elapsed = ended - began
    elapsed[elapsed < length / fastest_mps] = np.inf
    best = int(np.argmin(elapsed))
    return float(elapsed[best]), float(began[best])
