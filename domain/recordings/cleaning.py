"""Making a track fit for sums: time that never runs backwards, positions without outliers, steps in metres."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pyproj import Geod

from domain.measures import Sport
from domain.recordings.believing import BELIEVABLE, CLOCK_JUMP_S
from domain.recordings.recording import Column, FloatColumn, Session

_WGS84: Final = Geod(ellps="WGS84")
_A: Final = 6_378_137.0  # semi-major axis of WGS 84, metres
_E2: Final = 6.694379990141316e-3  # its first eccentricity, squared
_LONG_STEP_M: Final = 10_000.0  # beyond this, radii at the middle latitude are no longer a centimetre right

_MAX_SPEED: Final = {Sport.RUNNING: 12.5, Sport.WALKING: 12.5, Sport.HIKING: 12.5, Sport.SWIMMING: 5.0}
_MAX_SPEED_ELSE: Final = 40.0  # m/s: a descent on a bicycle, a ski
_SHORTEST_S: Final = 0.001  # times are kept to the millisecond
_MOST_AT_ONCE: Final = 10  # points of one time: receivers measure ten times a second, and some files have whole seconds


@dataclass(frozen=True)
class CleanTrack:
    """Columns of one length. `t` is NaN-free and never falls; positions are NaN where they are missing or outliers."""

    t: FloatColumn  # seconds from the first point
    timed: NDArray[np.bool_]  # whether the point has a time of its own, not one that over ten in a row share
    shared: NDArray[np.bool_]  # whether it has no time of its own only because others in a row have the same
    lat: FloatColumn
    lon: FloatColumn
    altitude: FloatColumn
    has_times: bool
    clock_jumps: int
    outliers: int  # positions that were left out

    @property
    def timed_part(self) -> slice:
        """From the first to the last point that has a time of its own; nothing without times."""
        timed = np.flatnonzero(self.timed)
        return slice(int(timed[0]), int(timed[-1]) + 1) if len(timed) else slice(0, 0)


def clean(session: Session) -> CleanTrack:
    """The session's times and positions, repaired as far as they can be, and counted where they could not."""
    missing = np.full(len(session), np.nan)
    given = session.columns.get(Column.T, missing)
    t, has_times, clock_jumps = _times(given)
    shared = _shared(given) & has_times
    timed = ~np.isnan(given) & ~shared & has_times
    lat = session.columns.get(Column.LAT, missing).copy()
    lon = session.columns.get(Column.LON, missing).copy()
    altitude = session.columns.get(Column.ALTITUDE, missing)
    lowest, highest = BELIEVABLE[Column.ALTITUDE]
    return CleanTrack(
        t=t,
        timed=timed,
        shared=shared,
        outliers=_drop_outliers(t, timed, lat, lon, session.sport),
        lat=lat,
        lon=lon,
        altitude=np.where((altitude >= lowest) & (altitude <= highest), altitude, np.nan),
        has_times=has_times,
        clock_jumps=clock_jumps,
    )


def _times(given: FloatColumn) -> tuple[FloatColumn, bool, int]:
    """Steps backwards count as none, steps over a day too; missing times lie evenly between their neighbours.

    Where fewer than half of the points have a time, there is none to go by.
    """
    known = np.flatnonzero(~np.isnan(given))
    if len(known) < max(2, len(given) / 2):
        return np.zeros(len(given)), False, 0
    steps = np.diff(given[known], prepend=given[known[0]])
    wrong = (steps < 0) | (steps > CLOCK_JUMP_S)
    elapsed = np.cumsum(np.where(wrong, 0.0, steps))
    if elapsed[-1] < _SHORTEST_S:
        return np.zeros(len(given)), False, int(wrong.sum())
    return np.interp(np.arange(len(given)), known, elapsed), True, int(wrong.sum())


def _shared(given: FloatColumn) -> NDArray[np.bool_]:
    """Which points have another one's time: of many in a row with the same, all but one. A program gave it to points
    without one, as our own FIT does, or the clock is coarse. The one is the first, and at the track's start the last.
    """
    begun = np.flatnonzero(np.diff(given, prepend=np.nan) != 0)
    alike = np.diff(begun, append=len(given))
    shared = np.repeat(alike > _MOST_AT_ONCE, alike)
    shared[np.where(begun == 0, alike - 1, begun)] = False
    return shared


def _drop_outliers(t: FloatColumn, timed: NDArray[np.bool_], lat: FloatColumn, lon: FloatColumn, sport: Sport) -> int:
    """Take out points that can only be reached and left faster than the sport allows; their number.

    The first and the last too, which have one step only: a receiver may begin where it was switched off.
    """
    dropped = 0
    for _ in range(3):  # neighbours of an outlier may be outliers too
        known = np.flatnonzero(~np.isnan(lat) & ~np.isnan(lon))
        placed = known[timed[known]]
        if len(placed) < 3:
            break
        fast = too_fast(np.diff(t[placed]), step_lengths(lat[placed], lon[placed]), sport)
        first = placed[0] == known[0] and not fast[1]  # whether its one step is its own fault, not its neighbour's
        last = placed[-1] == known[-1] and not fast[-2]
        outliers = placed[np.append(first, fast) & np.append(fast, last)]
        if len(outliers) == 0 or len(outliers) > len(placed) / 10:  # a whole track that is fast is no outlier
            break
        lat[outliers] = lon[outliers] = np.nan
        dropped += len(outliers)
    return dropped


def max_possible_speed(sport: Sport) -> float:
    """Metres a second that nobody exceeds in this sport: on foot, Bolt's fastest 20 m of 2009 (12.4 m/s)."""
    return _MAX_SPEED.get(sport, _MAX_SPEED_ELSE)


def too_fast(seconds: FloatColumn, metres: FloatColumn, sport: Sport, at_least_s: float = 1.0) -> NDArray[np.bool_]:
    """Which steps nobody could make in this sport, each given this much time at the least."""
    return metres > np.maximum(seconds, at_least_s) * max_possible_speed(sport)


def step_lengths(lat: FloatColumn, lon: FloatColumn) -> FloatColumn:
    """Metres between neighbours on WGS 84, by its radii of curvature at the middle latitude.

    Within a centimetre of the geodesic for steps up to 10 km; longer ones are computed as geodesics (Karney 2013).
    """
    middle = np.radians((lat[1:] + lat[:-1]) / 2)
    w2 = 1 - _E2 * np.sin(middle) ** 2
    meridian, normal = _A * (1 - _E2) / w2**1.5, _A / np.sqrt(w2)  # Snyder 1987, (4-18) and (4-20)
    turn = (np.diff(lon) + 180) % 360 - 180  # over the date line, the short way
    steps: FloatColumn = np.hypot(np.radians(np.diff(lat)) * meridian, np.radians(turn) * normal * np.cos(middle))
    long = np.flatnonzero(steps > _LONG_STEP_M)
    if len(long):
        steps[long] = _WGS84.inv(lon[long], lat[long], lon[long + 1], lat[long + 1])[2]
    return steps
