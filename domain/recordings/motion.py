"""When a runner moved, how much they climbed, and how fast they were at their fastest."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain.measures import Sport
from domain.recordings.cleaning import CleanTrack
from domain.recordings.recording import Column, FloatColumn, Session

_MOVING_MPS: Final = {Sport.CYCLING: 1.0}
_MOVING_MPS_ELSE: Final = 0.5  # m/s, our choice: slower is standing, with the noise of GPS
_SLOWEST_MPS: Final = 0.2  # m/s, our choice, for a steep climb or a swim
_STANDING: Final = 0.1  # of the way: pauses of real files, by what noise adds in them, have 5 % at the most
_STILL_S: Final = 10.0  # a slow stretch is a pause from this length on
_CLIMB_WINDOW_S: Final = 11
_CLIMB_STEP_M: Final = 0.999  # a metre but for what sums are out by: devices tell heights in fifths of one, or wholes
_EVEN_SAMPLES: Final = 86_400  # of heights, for a climb: a second apart in a day, further in what is longer
_SPRINT_SAMPLES: Final = 5


def moving_time(session: Session, track: CleanTrack, distance: FloatColumn, gaps: Sequence[int] = ()) -> FloatColumn:
    """Seconds of each step between points in which the runner moved.

    By a rule of our own, checked against the timers of real devices: not in stretches slower than 0.5 m/s (cycling
    1 m/s) over 10 s, and not across a stop of the timer, unless the distance went on during it: a file's new segment
    may also be a gap in reception. Never on the way to one of the `gaps`, points to which nobody ran from the one
    before. Where such stretches make over a tenth of the way, they are no pauses but a slow sport, and the limit is
    0.2 m/s. Where they do by that one too, without any distance (a trainer), and for a swim without positions (lengths
    of a pool, rests among them), all time counts but the timer's stops, and no more than the timer.
    """
    if len(track.t) < 2 or not track.has_times:
        return np.zeros(max(0, len(track.t) - 1))
    steps, gained, way_m = np.diff(track.t), np.diff(distance), float(np.ptp(distance[track.timed_part]))
    pool = session.sport is Sport.SWIMMING and session.device.timer_s and np.isnan(track.lat).all()
    for limit in () if pool else (_MOVING_MPS.get(session.sport, _MOVING_MPS_ELSE), _SLOWEST_MPS):
        slow = _slow(session, track, distance, limit)
        if gained[slow].sum() < _STANDING * way_m:
            slow[np.array(gaps, np.int64) - 1] = True
            return np.where(slow, 0.0, steps)
    return _timed(session, steps)


def _slow(session: Session, track: CleanTrack, distance: FloatColumn, limit: float) -> NDArray[np.bool_]:
    """Which steps are of a stretch slower than this."""
    steps, gained, half = np.diff(track.t), np.diff(distance), _STILL_S / 2
    middle = track.t[:-1] + steps / 2
    ahead = np.interp(middle + half, track.t, distance) - np.interp(middle - half, track.t, distance)
    inside = (middle > half) & (middle < track.t[-1] - half)  # at the ends there is too little to judge by
    slow: NDArray[np.bool_] = inside & (ahead < limit * _STILL_S)
    alone = steps > _STILL_S
    alone[np.array(session.breaks, np.int64) - 1] = True
    slow[alone] = gained[alone] < limit * steps[alone]
    return slow


def _timed(session: Session, steps: FloatColumn) -> FloatColumn:
    """The steps without the timer's stops, shortened evenly to what the timer says if that is less."""
    counted = steps.copy()
    counted[np.array(session.breaks, np.int64) - 1] = 0.0
    total_s = float(counted.sum())
    return counted * min(1.0, (session.device.timer_s or total_s) / total_s) if total_s > 0 else counted


def climb(track: CleanTrack, gaps: Sequence[int] = ()) -> FloatColumn:
    """Metres climbed up to each point: a moving mean of 11 s, then rises between falls of a metre, against noise.

    Measured against the ascent that devices of 16 real sessions tell: half are within 13 %, and without the mean 24 %.
    Steps of two or three metres come nearer still, but low hills would be lost. In what is longer than a day, the mean
    is over as many longer steps. `gaps` are the points to which nobody climbed from the one before.
    """
    climbed = np.zeros(len(track.t))
    if not track.has_times:
        return climbed
    for begin, end in pairwise([0, *gaps, len(track.t)]):
        climbed[begin:end] = climbed[begin - 1] if begin else 0.0
        climbed[begin:end] += _climb(track.t[begin:end] - track.t[begin], track.altitude[begin:end])
    return climbed


def _climb(t: FloatColumn, altitude: FloatColumn) -> FloatColumn:
    known = ~np.isnan(altitude)
    if np.count_nonzero(known) < 2:
        return np.zeros(len(t))
    seconds = np.arange(0.0, int(t[-1]) + 1, 1 + int(t[-1]) // _EVEN_SAMPLES)
    even = np.interp(seconds, t[known], altitude[known])
    padded = np.pad(even, _CLIMB_WINDOW_S // 2, mode="edge")
    smooth = np.convolve(padded, np.full(_CLIMB_WINDOW_S, 1 / _CLIMB_WINDOW_S), mode="valid")
    return np.interp(t, seconds, _climbed(smooth))


def _climbed(heights: FloatColumn) -> FloatColumn:
    """Cumulative climb, from each low to the next high."""
    rises, turns = np.zeros(len(heights)), _turns(heights)
    for low, high in zip(turns[::2], turns[1::2], strict=True):
        rises[low + 1 : high + 1] = np.diff(np.maximum.accumulate(heights[low : high + 1]))
    return np.cumsum(rises)


def _turns(heights: FloatColumn) -> list[int]:
    """Where the lows and highs are, by turns, a low first and a high last: where it went a metre back from.

    The race-track method (Fuchs, Nelson, Burke and Toomay 1973): neither flats nor what is noise part a rise in two.
    """
    knots = np.unique(np.concatenate([[0], np.flatnonzero(np.diff(np.sign(np.diff(heights)))) + 1, [len(heights) - 1]]))
    turns, up, farthest, extreme = [], -1, 0, float(heights[0])
    for at, height in zip(knots.tolist(), heights[knots].tolist(), strict=True):
        onwards = up * (height - extreme)
        if onwards <= -_CLIMB_STEP_M:
            turns.append(farthest)
            up = -up
        if onwards > 0 or onwards <= -_CLIMB_STEP_M:
            farthest, extreme = at, height
    return [*turns, farthest] if up > 0 else turns


def max_speed(session: Session, track: CleanTrack, distance: FloatColumn) -> float | None:
    """Metres a second: the highest running median of five samples (Tukey 1977), for one glitch is no sprint.

    Without a speed channel a sample is the way between whole seconds, where there are points.
    """
    speed = session.columns.get(Column.SPEED)
    if speed is None:
        if not track.has_times or len(track.t) < 2 or distance[-1] <= 0:
            return None
        at = np.unique(np.floor(track.t))
        speed = np.diff(np.interp(at, track.t, distance)) / np.diff(at)
    known = speed[speed >= 0]  # NaN is not
    if len(known) == 0:
        return None
    if len(known) < _SPRINT_SAMPLES:
        return float(np.median(known))
    return float(np.median(np.lib.stride_tricks.sliding_window_view(known, _SPRINT_SAMPLES), axis=1).max())
