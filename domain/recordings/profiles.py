"""Height and speed along the way, as curves of a few hundred values: what a picture of an activity shows."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from domain.recordings.cleaning import CleanTrack, clean
from domain.recordings.distance import way_of
from domain.recordings.motion import moving_time
from domain.recordings.recording import FloatColumn, Session

_SAMPLES: Final = 300
_LEAST_WAY_M: Final = 1.0  # less is noise, which has no curve
_LEAST_WINDOW_M: Final = 60.0  # a speed over less is the noise of GPS
_WINDOWS: Final = 50  # into a whole activity: the speed at a place is that over a fiftieth of the way
_SLOWEST, _FASTEST = 0.4, 2.5  # of the median speed; beyond is a walk to the tap, or a leap of the positions


@dataclass(frozen=True)
class Curve:
    """Values along the way, none of them NaN, distances rising evenly from 0."""

    metres: FloatColumn
    values: FloatColumn


def elevation_curve(session: Session, total_m: float) -> Curve | None:
    """Metres above the sea; None without heights or without a way. `total_m` is how far the activity went: what is
    left of a thinned track cuts its corners.
    """
    track = clean(session)
    along, known = _along(session, track, total_m), ~np.isnan(track.altitude)
    if along is None or np.count_nonzero(known) < 2:
        return None
    places = np.linspace(0.0, along[-1], _SAMPLES)
    return Curve(places, np.interp(places, along[known], track.altitude[known]))


def speed_curve(session: Session, total_m: float) -> Curve | None:
    """Metres a second while moving, each over a window of the way; None without times or without a way.

    Pauses take no part: the way ends a window, not the time, and only moving time counts in it. What is left of
    extremes is held within 0.4 and 2.5 of the median.
    """
    track = clean(session)
    along = _along(session, track, total_m)
    if along is None or not track.has_times:
        return None
    moved = np.concatenate([[0.0], np.cumsum(moving_time(session, track, along))])
    half = max(_LEAST_WINDOW_M, along[-1] / _WINDOWS) / 2
    places = np.linspace(0.0, along[-1], _SAMPLES)
    begin, end = np.maximum(places - half, 0.0), np.minimum(places + half, along[-1])
    seconds = np.interp(end, along, moved) - np.interp(begin, along, moved)
    known = seconds > 0
    if not known.any():
        return None
    speeds = np.interp(places, places[known], (end - begin)[known] / seconds[known])
    middle = float(np.median(speeds))
    return Curve(places, np.clip(speeds, _SLOWEST * middle, _FASTEST * middle))


def _along(session: Session, track: CleanTrack, total_m: float) -> FloatColumn | None:
    """Metres from the start to each point, stretched to the total; None when there is no way."""
    found = way_of(session, track, total_m)
    total_m = total_m or found.total_m
    if min(total_m, found.total_m) < _LEAST_WAY_M:
        return None
    stretched: FloatColumn = found.column * (total_m / found.total_m)
    return stretched
