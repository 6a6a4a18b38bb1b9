"""What a sensor said on the average over time, however often it was recorded."""

from typing import Final

import numpy as np

from domain.recordings.recording import FloatColumn

_LONGEST_S: Final = 10.0  # our choice of how long none may lack: watches that leave points out leave out fewer
_SHORTEST_S: Final = 0.001  # times are kept to the millisecond; and without times, each value weighs the same


def held(column: FloatColumn, t: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
    """Seconds for which each value held before its point, and after it: halfway to those beside it, 5 s at the most.

    Both ways, or the last value before legs rest, often a slow one or a sprint, would stand for the rest too. None for
    what is missing, and none for zeros: a strap says them that lost contact, and legs that rest.
    """
    said, seconds = np.flatnonzero(~np.isnan(column)), np.zeros((2, len(column)))
    at = t[said]
    halves = np.clip(np.diff(at, prepend=at[:1], append=at[-1:]), _SHORTEST_S, _LONGEST_S) / 2
    seconds[:, said] = halves[:-1], halves[1:]
    before, after = np.where(column > 0, seconds, 0.0)
    return before, after


def mean(column: FloatColumn, t: FloatColumn) -> float | None:
    """The average of the values over the time that they held, to a tenth; None without any."""
    seconds = np.add(*held(column, t))
    return round(float(np.average(np.nan_to_num(column), weights=seconds)), 1) if seconds.any() else None
