"""What a session amounts to: distance, times, climb, splits, best efforts, and how we know."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
from msgspec import Struct

from domain.events.measured import DeviceTotals, Measured
from domain.measures import Sport
from domain.recordings.averages import mean
from domain.recordings.believing import BELIEVABLE
from domain.recordings.cleaning import CleanTrack, clean, max_possible_speed
from domain.recordings.distance import Distance, DistanceSource, distance_of
from domain.recordings.motion import climb, max_speed, moving_time
from domain.recordings.preview import Route, bounding_box
from domain.recordings.recording import LONGEST, Column, FloatColumn, Session
from domain.recordings.recording import DeviceTotals as DeviceSaid
from domain.recordings.stretches import KILOMETRE_M, MILE_M, Split, Sums, best_efforts, splits

_FASTEST_ON_FOOT: Final = max_possible_speed(Sport.RUNNING)
_LEAST_SHORT_S: Final = 5.0  # our choice: real devices that are right tell up to 2 s less than their points span
_UNTIMED: Final = 0.01  # our choice: of the way, less goes unsaid
_NO_CLOCK_BEFORE: Final = datetime(1999, 1, 1, tzinfo=UTC)  # no such device existed: its clock was never set


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
    previews: Sequence[str] = ()  # encoded polylines of at most 60, 250 and 1,000 vertices, for maps without the track


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
    device, doubt = _believed(session, track)
    if doubt is not None:
        session, warnings = replace(session, device=device), (*warnings, doubt)
    distance = distance_of(session, track)
    moving = moving_time(session, track, distance.column, distance.gaps)
    climbed = climb(track, distance.gaps)
    elapsed_s = _elapsed(session, track)
    only_device = distance.source is DistanceSource.DEVICE
    total_m = float(session.device.distance_m or 0.0) if only_device else distance.total_m
    by_timer = only_device or len(session) == 0
    moving_s = min(elapsed_s, (session.device.timer_s or elapsed_s) if by_timer else float(moving.sum()))
    moved = np.concatenate([[0.0], np.cumsum(moving)])[: len(track.t)]
    route = Route(track.lat, track.lon)
    whole = Sums(track.t, distance.column, moved, climbed, session.columns.get(Column.HEART_RATE))
    sums = whole.within(_lasted(session, track, elapsed_s))
    return Analysis(
        distance_m=round(total_m, 2),
        elapsed_s=round(elapsed_s, 3),
        moving_s=round(moving_s, 3),
        elevation_gain_m=round(_ascent(session.device, track, climbed), 1),
        measured=_measured(session, track, route, distance, total_m, moving_s, warnings),
        details=Details(
            splits_km=splits(sums, KILOMETRE_M),
            splits_mi=splits(sums, MILE_M),
            laps=[LapSeen(lap.started_at, lap.elapsed_s, lap.distance_m) for lap in session.laps],
            previews=route.previews(),
        ),
    )


def _believed(session: Session, track: CleanTrack) -> tuple[DeviceSaid, str | None]:
    """The device's totals but those that its own points refute, and a warning about these.

    A session is no shorter than its points, by more than seconds; longer it may be: it was paused before it was
    stopped. Of a device that tells less than half of it, or weeks, nothing is believed. A timer that is as short
    without pauses to account for it goes with the time.
    """
    device, told = session.device, _told_elapsed(session.device)
    if told is None or not track.has_times:
        return device, None
    span_s = _span(session, track)
    if not span_s / 2 <= told <= LONGEST.total_seconds():
        far = "device-totals: the device's own time is far from its points', and its totals were left out"
        return DeviceSaid(), far
    if told >= span_s - _LEAST_SHORT_S:
        return device, None
    paused_s = float(np.diff(track.t)[np.array(session.breaks, np.int64) - 1].sum())
    ran = device.timer_s is not None and device.timer_s >= span_s - paused_s - _LEAST_SHORT_S
    left = replace(device, elapsed_s=None, timer_s=device.timer_s if ran else None)
    return left, "device-totals: the device's own time is shorter than its points', and was left out"


def _span(session: Session, track: CleanTrack) -> float:
    """Seconds from the first point to the last one that tells more than its time: some devices end with an empty one.

    Of a clock that went back, what its times span where that is less.
    """
    last = _last_telling(session)
    known = session.columns[Column.T][: last + 1]
    known = known[~np.isnan(known)]
    return min(float(track.t[last]), float(np.ptp(known))) if len(known) else 0.0


def _last_telling(session: Session) -> int:
    """The last point that tells more than its time; where none does, their times are all that there is."""
    telling = [~np.isnan(column) for name, column in session.columns.items() if name is not Column.T]
    tells = np.logical_or.reduce(telling, initial=False)
    return int(np.flatnonzero(tells)[-1]) if tells.any() else len(session) - 1


def _lasted(session: Session, track: CleanTrack, elapsed_s: float) -> slice:
    """The part of the track that has times, without points that tell no more than their time and are after its end."""
    part, ended = track.timed_part, int(np.searchsorted(track.t, elapsed_s, side="right"))
    return slice(part.start, min(part.stop, max(ended, _last_telling(session) + 1)))


def _told_elapsed(device: DeviceSaid) -> float | None:
    """The session's own time, unless it is shorter than its timer: then the device took one for the other."""
    told, timer = device.elapsed_s, device.timer_s
    return float(told) if told and told > 0 and (timer is None or told >= timer - 1.0) else None


def _measured(
    session: Session,
    track: CleanTrack,
    route: Route,
    distance: Distance,
    total_m: float,
    moving_s: float,
    warnings: Sequence[str],
) -> Measured:
    device, missing = session.device, np.empty(0)
    heart_rate, cadence = (session.columns.get(name, missing) for name in (Column.HEART_RATE, Column.CADENCE))
    average, rates = mean(heart_rate, track.t), heart_rate[heart_rate > 0]  # NaN is not
    told = _heart_rate(device.avg_heart_rate_bpm), _heart_rate(device.max_heart_rate_bpm)
    fastest, timed_m = max_speed(session, track, distance.column), total_m - _untimed(track, distance)
    trusted = not distance.leaps and not distance.fast
    return Measured(
        points=len(session),
        distance_source=distance.source,
        avg_speed_mps=round(timed_m / moving_s, 3) if moving_s >= 0.001 and timed_m > 0 else None,
        max_speed_mps=None if fastest is None else round(fastest, 3),
        avg_heart_rate_bpm=average if len(rates) else told[0],
        max_heart_rate_bpm=round(float(rates.max()), 1) if len(rates) else told[1],
        avg_cadence_spm=mean(cadence, track.t),
        calories_kcal=device.calories_kcal,
        polyline=route.preview(),
        bbox=bounding_box(track.lat, track.lon),
        best_efforts=best_efforts(track, distance.column, _FASTEST_ON_FOOT, distance.gaps) if trusted else (),
        device=DeviceTotals(
            distance_m=device.distance_m, elapsed_s=device.elapsed_s, timer_s=device.timer_s, ascent_m=device.ascent_m
        ),
        warnings=(*warnings, *_warnings(session, track, distance)),
    )


def _untimed(track: CleanTrack, distance: Distance) -> float:
    """Metres before the first time and after the last; of what has no times at all, none."""
    timed = distance.column[track.timed_part]
    return float(np.ptp(distance.column) - np.ptp(timed)) if len(timed) else 0.0


def _elapsed(session: Session, track: CleanTrack) -> float:
    """The session's own time when its points leave it one, else from first to last point."""
    told = _told_elapsed(session.device)
    if told is not None:
        return told
    if track.has_times:
        return float(track.t[-1])
    return max(0.0, float(session.device.timer_s or session.device.elapsed_s or 0.0))


def _ascent(device: DeviceSaid, track: CleanTrack, climbed: FloatColumn) -> float:
    """By the heights; by the device where it recorded none."""
    if np.isnan(track.altitude).all():
        return float(device.ascent_m or 0.0)
    return float(climbed[-1])


def _heart_rate(told: float | None) -> float | None:
    """The device's, if it is one."""
    return told if told and told <= BELIEVABLE[Column.HEART_RATE][1] else None


def _warnings(session: Session, track: CleanTrack, distance: Distance) -> list[str]:
    found, leaps = [], track.outliers + distance.leaps
    if not track.has_times:
        found.append("no-times: the points have no times, so there is no duration and no speed")
    if _untimed(track, distance) > _UNTIMED * distance.total_m:
        found.append("no-times: the points at an end have no times, so duration, speed and splits are of the others")
    if np.isnan(track.lat).all():
        found.append("no-positions: there is no map")
    if session.started_at is not None and session.started_at < _NO_CLOCK_BEFORE:
        found.append("clock-unset: the device's clock was not set; times are as it told them")
    if track.clock_jumps:
        found.append(f"clock-jump: {track.clock_jumps} steps of the clock backwards or over a day were left out")
    if leaps:
        found.append(f"teleport: {leaps} jumps that nobody could make were left out")
    if distance.gaps:
        found.append(f"gap: {len(distance.gaps)} long ways between segments, which nobody recorded, were left out")
    if distance.fast:
        found.append(f"too-fast: faster than {session.sport} can be, so there are no best efforts")
    if len(session) == 0:
        found.append("no-points: only the device's totals are known")
    return found
