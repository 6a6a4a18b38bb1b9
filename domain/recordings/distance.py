"""How far a session went, and which of its witnesses says so: the distance channel, the positions or the device."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain.measures import Sport
from domain.recordings.cleaning import CleanTrack, max_possible_speed, step_lengths, too_fast
from domain.recordings.recording import Column, FloatColumn, Session

_SANE_RATIO: Final = 4.0  # between the recorded distance and that of the positions, either way
_WORTH_COMPARING_M: Final = 100.0  # positions of a treadmill wander that far
_AT_THE_START_M: Final = 100.0  # what a channel may say at a session's first point
_FALLS: Final = 0.02  # of the distance: a channel that falls by more counts something else
_CATCHING_UP_S: Final = 10.0  # after a tunnel the channel adds what it missed at once
_OF_ONE_TIME_S: Final = 1_800.0  # our choice: a real file of two tracks has 13 km between them, and no times in one
_FEW: Final = 0.1  # of the steps: when more are too fast, the sport is named wrongly, and the way was made
_BEFORE: Final = 0.1  # of the last value: a channel that begins further on counts an earlier session too
_NOWHERE_MPS: Final = 100.0  # faster than any sport
# Our choice of what between two segments is a way that nobody recorded, a ride on a train: longer than a loss of
# reception or of a program that phones put to sleep, and further than to a shop and back. In real files with segments
# and times, they are far beyond it (over 10 minutes and 1.3 km) or far within (25 m).
_GAP_S, _GAP_M = 300.0, 500.0
# Our choice, near 0 and 1.2 % in real files: a channel with less of a way left it out, but for a few steps at its ends.
# What it has more of is in the distance, and so has to be in the time.
_COUNTED: Final = 0.1


class DistanceSource(StrEnum):
    """Which witness the distance was taken from, named as in answers."""

    RECORDED = "recorded"
    POSITIONS = "positions"
    DEVICE = "device"


@dataclass(frozen=True)
class Distance:
    """Metres covered up to each point, never falling; all zero when only the device knows."""

    column: FloatColumn
    source: DistanceSource
    leaps: int = 0  # steps that nobody could make, left out
    gaps: tuple[int, ...] = ()  # points that begin a segment far from the one before, the way there not counted
    fast: bool = False  # too fast all along for this sport; nothing was left out for it

    @property
    def total_m(self) -> float:
        """Metres from the first point to the last."""
        return float(self.column[-1]) if len(self.column) else 0.0


def distance_of(session: Session, track: CleanTrack) -> Distance:
    """The recorded channel when it is sane, else the way over the cleaned positions, else the device's total.

    Sane is a channel that hardly ever falls and that is within a factor of four of the positions, if those
    went anywhere: wheels and foot pods differ from GPS, but not by more. A channel says itself what of a pause counts;
    positions do not, and the way between two segments over 5 minutes and 500 m apart is nobody's run. Where the channel
    has less than a tenth of such a way, it is one that nobody ran too.
    """
    walked, recorded = _walked(session, track), _recorded(session, track)
    if recorded is not None and recorded.total_m > 0 and _agree(recorded.total_m, walked.total_m):
        return replace(recorded, gaps=_uncounted(walked.gaps, track, recorded.column))
    if walked.total_m > 0 or walked.leaps:
        return walked
    if recorded is not None and (recorded.total_m > 0 or recorded.leaps):
        return recorded
    if session.device.distance_m:
        return Distance(np.zeros(len(session)), DistanceSource.DEVICE, fast=_device_is_too_fast(session))
    return walked


def way_of(session: Session, track: CleanTrack, total_m: float) -> Distance:
    """As `distance_of`, of a track as it is kept, without its breaks, in an activity that went so far.

    Where the positions go further by a gap or more, or leap, what can be a gap is one.
    """
    found = distance_of(session, track)
    further = bool(found.leaps) or total_m < found.total_m - _GAP_M
    if found.source is not DistanceSource.POSITIONS or not (total_m > 0 and further):
        return found
    placed = np.flatnonzero(~np.isnan(track.lat) & ~np.isnan(track.lon))
    far = (step_lengths(track.lat[placed], track.lon[placed]) > _GAP_M) & (np.diff(track.t[placed]) > _GAP_S)
    parted = distance_of(replace(session, breaks=tuple(placed[1:][far].tolist())), track)
    return min(parted, found, key=lambda way: abs(way.total_m - total_m))


def gaps_of(session: Session, track: CleanTrack, total_m: float) -> tuple[int, ...]:
    """The points of a track as it is kept, in an activity that went so far, to which it came by a way left out of that.

    By the positions: a distance channel that leaves such a way out is not believed by who does not know of it.
    """
    columns: dict[Column, FloatColumn] = {**session.columns}
    columns.pop(Column.DISTANCE, None)
    return way_of(replace(session, columns=columns), track, total_m).gaps


def _device_is_too_fast(session: Session) -> bool:
    told = session.device
    longest_s = max(told.elapsed_s or 0.0, told.timer_s or 0.0)
    return longest_s > 0 and (told.distance_m or 0.0) > longest_s * max_possible_speed(session.sport)


def _agree(recorded_m: float, walked_m: float) -> bool:
    return walked_m < _WORTH_COMPARING_M or 1 / _SANE_RATIO < recorded_m / walked_m < _SANE_RATIO


def _walked(session: Session, track: CleanTrack) -> Distance:
    placed = np.flatnonzero(~np.isnan(track.lat) & ~np.isnan(track.lon))
    if len(placed) < 2:
        return Distance(np.zeros(len(session)), DistanceSource.POSITIONS)
    steps, seconds = step_lengths(track.lat[placed], track.lon[placed]), _most_seconds(track, placed)
    gaps = _gaps(session.breaks, track, placed, steps)
    steps[np.searchsorted(placed, gaps) - 1] = 0.0  # first, or a fast train would be a leap
    leaps, fast = _leaps(session.sport, steps, seconds, at_least_s=1.0)
    column = _covered(placed, np.where(leaps, 0.0, steps), len(track.t))
    return Distance(column, DistanceSource.POSITIONS, int(leaps.sum()), tuple(gaps.tolist()), fast)


def _gaps(
    breaks: tuple[int, ...], track: CleanTrack, placed: NDArray[np.int64], steps: FloatColumn
) -> NDArray[np.int64]:
    """Those of the breaks over which the runner came far in a long time."""
    after, first = np.unique(np.searchsorted(placed, np.array(breaks, np.int64)), return_index=True)
    within = (after > 0) & (after < len(placed))
    after, begun = after[within], np.array(breaks, np.int64)[first[within]]
    far = (steps[after - 1] > _GAP_M) & (track.t[placed[after]] - track.t[placed[after - 1]] > _GAP_S)
    begins: NDArray[np.int64] = begun[far]
    return begins


def _uncounted(gaps: tuple[int, ...], track: CleanTrack, reached: FloatColumn) -> tuple[int, ...]:
    """Those of the gaps over which this column has less than a tenth of the straight way."""
    if not gaps:
        return ()
    placed = np.flatnonzero(~np.isnan(track.lat) & ~np.isnan(track.lon))
    steps, counted = step_lengths(track.lat[placed], track.lon[placed]), np.diff(reached[placed])
    over = np.searchsorted(placed, gaps) - 1
    return tuple(np.array(gaps)[counted[over] < _COUNTED * steps[over]].tolist())


def _most_seconds(track: CleanTrack, placed: NDArray[np.int64]) -> FloatColumn:
    """How long each step between these points can have taken: between the times around it, for ever where one lacks.

    Where one lacks only because the track begins or ends with many points of the same time, not for ever: half an hour.
    """
    timed = np.flatnonzero(track.timed)
    begun = np.searchsorted(timed, placed[:-1], side="right") - 1
    ended = np.searchsorted(timed, placed[1:])
    told = (begun >= 0) & (ended < len(timed))
    known = track.timed[placed] | track.shared[placed]
    seconds = np.where(known[:-1] & known[1:], _OF_ONE_TIME_S, np.inf)
    seconds[told] = track.t[timed[ended[told]]] - track.t[timed[begun[told]]]
    return seconds


def _recorded(session: Session, track: CleanTrack) -> Distance | None:
    """The distance channel from its start, small falls left out; None when there is none, or it falls too far."""
    channel = session.columns.get(Column.DISTANCE, np.empty(0))
    known = np.flatnonzero(~np.isnan(channel))
    if len(known) < 2:
        return None
    reached = np.maximum.accumulate(channel[known])
    if -np.minimum(np.diff(channel[known]), 0.0).sum() > _FALLS * (reached[-1] - reached[0]):
        return None
    counts_on = _counts_on(float(reached[0]), float(reached[-1]), session.device.distance_m)
    if counts_on and known[0] > 0:
        return None  # nobody knows what it would have said at the start
    first = 0.0 if counts_on else max(0.0, float(reached[0]))
    steps, seconds = np.diff(reached), _most_seconds(track, known)
    leaps, fast = _leaps(session.sport, steps, seconds, _CATCHING_UP_S)
    column = first + _covered(known, np.where(leaps, 0.0, steps), len(track.t))
    return Distance(column, DistanceSource.RECORDED, int(leaps.sum()), fast=fast)


def _counts_on(first_m: float, last_m: float, told_m: float | None) -> bool:
    """Whether the channel began in an earlier session: at over a tenth of where it ended, or by the device's total."""
    if first_m <= _AT_THE_START_M:
        return False
    by_total = told_m is not None and abs(last_m - first_m - told_m) < abs(last_m - told_m)
    return by_total or first_m > _BEFORE * last_m


def _leaps(sport: Sport, steps: FloatColumn, seconds: FloatColumn, at_least_s: float) -> tuple[NDArray[np.bool_], bool]:
    """Which steps nobody could make; and whether all are too fast for this sport, so that only impossible ones are."""
    leaps = too_fast(seconds, steps, sport, at_least_s)
    fast = bool(leaps.mean() > _FEW)
    return (steps > np.maximum(seconds, at_least_s) * _NOWHERE_MPS if fast else leaps), fast


def _covered(known: NDArray[np.int64], steps: FloatColumn, points: int) -> FloatColumn:
    """Steps between known points summed up, and in between evenly."""
    covered: FloatColumn = np.interp(np.arange(points), known, np.concatenate([[0.0], np.cumsum(steps)]))
    return covered
