"""What a session amounts to: distance, times, climb, splits, best efforts, and how we know."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from domain.events.activity import BestEffort, DeviceTotals, Measured
from domain.measures import Sport
from domain.recordings.cleaning import CleanTrack, clean, step_lengths, too_fast
from domain.recordings.preview import bounding_box, preview
from domain.recordings.recording import Column, FloatColumn, Lap, Session

_MILE_M: Final = 1609.344
_EFFORTS: Final = (
    ("400 m", 400.0),
    ("1/2 mile", _MILE_M / 2),
    ("1 km", 1_000.0),
    ("1 mile", _MILE_M),
    ("5 km", 5_000.0),
    ("10 km", 10_000.0),
    ("half marathon", 21_097.5),  # World Athletics, Technical Rule 55
    ("marathon", 42_195.0),
)
_ON_FOOT: Final = (Sport.RUNNING, Sport.WALKING, Sport.HIKING)
_MOVING_MPS: Final = {Sport.CYCLING: 1.0}
_MOVING_MPS_ELSE: Final = 0.5  # slower is standing, with the noise of GPS
_STILL_S: Final = 10.0  # a slow stretch is a pause from this length on
_CLIMB_WINDOW_S: Final = 11  # research: the moving mean and the hysteresis that come closest to devices' own ascent
_CLIMB_STEP_M: Final = 1.0
_LONGEST_CLIMB_S: Final = 7 * 86_400
_SANE_RATIO: Final = 4.0  # between the recorded distance and that of the positions, either way


class Split(Struct, frozen=True, omit_defaults=True):
    """One kilometre or mile; the last one is what is left."""

    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float = 0.0
    avg_heart_rate_bpm: float | None = None


class LapSeen(Struct, frozen=True):
    """A lap as the device marked it."""

    started_at: datetime | None
    elapsed_s: float | None
    distance_m: float | None


class Details(Struct, frozen=True):
    """What the activity screen shows beside the summary."""

    splits_km: Sequence[Split]
    splits_mi: Sequence[Split]
    laps: Sequence[LapSeen]


class Analysis(Struct, frozen=True, kw_only=True):
    """The sums of a session. Never negative, never NaN."""

    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float
    measured: Measured
    details: Details


def analyse(session: Session, warnings: Sequence[str] = ()) -> Analysis:
    """Sum a session up. `warnings` of the file come first among the activity's."""
    track = clean(session)
    distance, source, torn = _distance(session, track)
    moving = _moving(session, track, distance)
    climb = _climb(track)
    total = float(distance[-1]) if len(distance) else 0.0
    if source == "device":
        total = float(session.device.distance_m or 0.0)
    elapsed = _elapsed(session, track)
    moving_s = min(elapsed, (session.device.timer_s or elapsed) if source == "device" else float(moving.sum()))
    sums = _Sums(track.t, distance, moving, climb, session.columns.get(Column.HEART_RATE))
    efforts = _efforts(track, distance) if session.sport in _ON_FOOT and not torn else ()
    return Analysis(
        distance_m=_rounded(total),
        elapsed_s=_rounded(elapsed, 3),
        moving_s=_rounded(moving_s, 3),
        elevation_gain_m=_rounded(float(climb[-1]) if len(climb) else 0.0, 1),
        measured=Measured(
            points=len(session),
            distance_source=source,
            avg_speed_mps=_rounded(total / moving_s, 3) if moving_s > 0 and total > 0 else None,
            max_speed_mps=_max_speed(session, track, distance),
            avg_heart_rate_bpm=_mean(session.columns.get(Column.HEART_RATE)),
            max_heart_rate_bpm=_max(session.columns.get(Column.HEART_RATE)),
            avg_cadence_spm=_mean(session.columns.get(Column.CADENCE)),
            calories_kcal=session.device.calories_kcal,
            polyline=preview(track.lat, track.lon),
            bbox=bounding_box(track.lat, track.lon),
            best_efforts=efforts,
            device=DeviceTotals(
                distance_m=session.device.distance_m,
                elapsed_s=session.device.elapsed_s,
                timer_s=session.device.timer_s,
                ascent_m=session.device.ascent_m,
            ),
            warnings=(*warnings, *_warnings(session, track, torn)),
        ),
        details=Details(sums.splits(1_000.0), sums.splits(_MILE_M), [_lap(lap) for lap in session.laps]),
    )


def _distance(session: Session, track: CleanTrack) -> tuple[FloatColumn, str, int]:
    """Metres covered up to each point, where they come from, and how many steps no runner could make.

    The recorded channel when it is sane, else the way over the cleaned positions, else the device's total.
    """
    walked, torn = _walked(track, session)
    recorded = _recorded(session.columns.get(Column.DISTANCE))
    if recorded is not None and _agree(recorded[-1], walked[-1] if len(walked) else 0.0):
        return recorded, "recorded", 0
    if len(walked) and walked[-1] > 0:
        return walked, "positions", torn
    if session.device.distance_m and not (recorded is not None and recorded[-1] > 0):
        return np.zeros(len(session)), "device", 0
    return (recorded, "recorded", 0) if recorded is not None else (np.zeros(len(session)), "positions", torn)


def _walked(track: CleanTrack, session: Session) -> tuple[FloatColumn, int]:
    placed = np.flatnonzero(~np.isnan(track.lat) & ~np.isnan(track.lon))
    if len(placed) < 2:
        return np.zeros(len(track.t)), 0
    steps = step_lengths(track.lat[placed], track.lon[placed])
    timed = track.timed[placed]
    torn = too_fast(track.t[placed], steps, session.sport) & timed[1:] & timed[:-1]
    covered = np.concatenate([[0.0], np.cumsum(np.where(torn, 0.0, steps))])
    return np.interp(np.arange(len(track.t)), placed, covered), int(torn.sum())


def _recorded(channel: FloatColumn | None) -> FloatColumn | None:
    """The distance channel from its start, small falls left out; None when there is none, or it falls too far."""
    if channel is None:
        return None
    known = np.flatnonzero(~np.isnan(channel))
    if len(known) < 2:
        return None
    reached = np.maximum.accumulate(channel[known])
    if -np.minimum(np.diff(channel[known]), 0.0).sum() > 0.02 * (reached[-1] - reached[0]):
        return None
    counts_on = reached[0] > max(100.0, 0.1 * reached[-1])  # from an earlier session
    if counts_on and known[0] > 0:
        return None  # nobody knows what it would have said at the start
    covered = reached - reached[0] if counts_on else np.maximum(reached, 0.0)
    return np.interp(np.arange(len(channel)), known, covered)


def _agree(recorded: float, walked: float) -> bool:
    """Whether the recorded distance can be right beside the positions': wheels and foot pods differ, not by much."""
    if recorded <= 0:
        return False
    return walked < 100.0 or 1 / _SANE_RATIO < recorded / walked < _SANE_RATIO


def _elapsed(session: Session, track: CleanTrack) -> float:
    """The session's own time when it can be one (not shorter than its timer), else from first to last point."""
    told, timer = session.device.elapsed_s, session.device.timer_s
    if told and told > 0 and (timer is None or told >= timer - 1.0):
        return float(told)
    if track.has_times:
        return float(track.t[-1])
    return float(timer or told or 0.0)


def _moving(session: Session, track: CleanTrack, distance: FloatColumn) -> FloatColumn:
    """Seconds of each step in which the runner moved: not across a stop of the timer, and not in slow stretches.

    Without any distance (a trainer) all time but the timer's stops counts.
    """
    if len(track.t) < 2 or not track.has_times:
        return np.zeros(max(0, len(track.t) - 1))
    steps = np.diff(track.t)
    counted = steps.copy()
    for index in session.breaks:
        counted[index - 1] = 0.0
    if distance[-1] <= 0:
        return counted
    limit = _MOVING_MPS.get(session.sport, _MOVING_MPS_ELSE)
    half = _STILL_S / 2
    middle = track.t[:-1] + steps / 2
    ahead = np.interp(middle + half, track.t, distance) - np.interp(middle - half, track.t, distance)
    slow = ahead / _STILL_S < limit
    long = steps > _STILL_S
    slow[long] = np.diff(distance)[long] / steps[long] < limit
    slow &= (middle > half) & (middle < track.t[-1] - half) | long
    return np.where(slow, 0.0, counted)


def _climb(track: CleanTrack) -> FloatColumn:
    """Metres climbed up to each point: a moving mean of 11 s, then steps of a metre (hysteresis) against noise."""
    nothing = np.zeros(len(track.t))
    if not track.has_times or track.t[-1] > _LONGEST_CLIMB_S:
        return nothing
    known = ~np.isnan(track.altitude)
    if np.count_nonzero(known) < 2:
        return nothing
    seconds = np.arange(int(track.t[-1]) + 1, dtype=np.float64)
    even = np.interp(seconds, track.t[known], track.altitude[known])
    padded = np.pad(even, _CLIMB_WINDOW_S // 2, mode="edge")
    smooth = np.convolve(padded, np.full(_CLIMB_WINDOW_S, 1 / _CLIMB_WINDOW_S), mode="valid")
    return np.interp(track.t, seconds, _hysteresis(smooth))


def _hysteresis(heights: FloatColumn) -> FloatColumn:
    """Cumulative climb, counting a rise once it has passed a metre above the last low."""
    turning = np.flatnonzero(np.diff(np.sign(np.diff(heights)))) + 1
    knots = np.unique(np.concatenate([[0], turning, [len(heights) - 1]]))
    climbed, low, gains = 0.0, float(heights[0]), [0.0]
    for index in knots[1:]:
        height = float(heights[index])
        if height - low >= _CLIMB_STEP_M:
            climbed, low = climbed + height - low, height
        elif height < low:
            low = height
        gains.append(climbed)
    return np.interp(np.arange(len(heights)), knots, gains)


class _Sums:
    """Cumulative columns, cut where a split ends."""

    def __init__(
        self, t: FloatColumn, distance: FloatColumn, moving: FloatColumn, climb: FloatColumn, rate: FloatColumn | None
    ) -> None:
        self._t = t
        self._distance = distance
        self._moved = np.concatenate([[0.0], np.cumsum(moving)]) if len(t) else t
        self._climb = climb
        self._rate = rate

    def splits(self, length_m: float) -> list[Split]:
        """Stretches of this length, and the rest."""
        if len(self._t) < 2 or self._distance[-1] <= 0 or self._t[-1] <= 0:
            return []
        total = float(self._distance[-1])
        if total / length_m > 10_000:
            return []  # no device moves so far: the channel is broken
        marks = np.append(np.arange(0.0, total, length_m), total)
        at = _place_of(marks, self._distance)
        points = np.arange(len(self._t))
        t, moved, climb = (np.interp(at, points, column) for column in (self._t, self._moved, self._climb))
        return [
            Split(
                distance_m=_rounded(float(marks[i + 1] - marks[i])),
                elapsed_s=_rounded(float(t[i + 1] - t[i])),
                moving_s=_rounded(float(moved[i + 1] - moved[i])),
                elevation_gain_m=_rounded(float(climb[i + 1] - climb[i]), 1),
                avg_heart_rate_bpm=_mean(None if self._rate is None else self._rate[int(at[i]) : int(at[i + 1]) + 1]),
            )
            for i in range(len(marks) - 1)
            if marks[i + 1] - marks[i] >= 1.0
        ]


def _place_of(marks: FloatColumn, distance: FloatColumn) -> FloatColumn:
    """The (fractional) index at which each distance was reached first."""
    rising = np.flatnonzero(np.diff(distance, prepend=-1.0) > 0)
    return np.interp(marks, distance[rising], rising.astype(np.float64))


def _efforts(track: CleanTrack, distance: FloatColumn) -> tuple[BestEffort, ...]:
    """The fastest stretch of each standard distance, ending or starting at a point, by interpolation."""
    if not track.has_times or len(distance) < 2:
        return ()
    rising = np.flatnonzero(np.diff(distance, prepend=-1.0) > 0)
    d, t = distance[rising], track.t[rising]
    found = []
    for name, length in _EFFORTS:
        if d[-1] - d[0] < length:
            break
        ends = d - d[0] >= length
        starts = d[-1] - d >= length
        started = np.concatenate([np.interp(d[ends] - length, d, t), t[starts]])
        elapsed = np.concatenate([t[ends], np.interp(d[starts] + length, d, t)]) - started
        best = int(np.argmin(elapsed))
        if elapsed[best] > 0:
            found.append(BestEffort(name, length, _rounded(float(elapsed[best])), _rounded(float(started[best]))))
    return tuple(found)


def _max_speed(session: Session, track: CleanTrack, distance: FloatColumn) -> float | None:
    """The fastest of five samples' medians: one glitch is no sprint."""
    speed = session.columns.get(Column.SPEED)
    if speed is None:
        if not track.has_times or len(track.t) < 2 or distance[-1] <= 0:
            return None
        steps = np.diff(track.t)
        speed = (np.diff(distance) / np.maximum(steps, 1.0))[steps > 0]
    known = speed[~np.isnan(speed) & (speed >= 0)]
    if len(known) == 0:
        return None
    if len(known) < 5:
        return _rounded(float(np.median(known)), 3)
    return _rounded(float(np.median(np.lib.stride_tricks.sliding_window_view(known, 5), axis=1).max()), 3)


def _above_zero(column: FloatColumn | None) -> NDArray[np.float64]:
    return np.empty(0) if column is None else column[column > 0]  # NaN is not


def _mean(column: FloatColumn | None) -> float | None:
    known = _above_zero(column)
    return _rounded(float(known.mean()), 1) if len(known) else None


def _max(column: FloatColumn | None) -> float | None:
    known = _above_zero(column)
    return _rounded(float(known.max()), 1) if len(known) else None


def _warnings(session: Session, track: CleanTrack, torn: int) -> list[str]:
    found = []
    if not track.has_times:
        found.append("no-times: the points have no times, so there is no duration and no speed")
    if np.isnan(track.lat).all():
        found.append("no-positions: there is no map")
    if track.clock_jumps:
        found.append(f"clock-jump: {track.clock_jumps} steps of the clock backwards or over a day were left out")
    if track.outliers or torn:
        found.append(f"teleport: {track.outliers + torn} jumps that nobody could make were left out")
    if len(session) == 0:
        found.append("no-points: only the device's totals are known")
    return found


def _lap(lap: Lap) -> LapSeen:
    return LapSeen(lap.started_at, lap.elapsed_s, lap.distance_m)


def _rounded(value: float, digits: int = 2) -> float:
    return round(value, digits)
