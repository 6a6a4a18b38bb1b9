"""What a sensor said on the average over time, however often it was recorded."""

from typing import Final

import numpy as np

from domain.recordings.recording import FloatColumn

_LONGEST_S: Final = 10.0  # our choice of how long a value holds: watches that leave points out leave out fewer
_SHORTEST_S: Final = 0.001  # times are kept to the millisecond; and without times, each value weighs the same


def held(column: FloatColumn, t: FloatColumn) -> FloatColumn:
    """Seconds for which each value held: until the sensor spoke again, at most 10 s.

    None for what is missing, and none for zeros: a strap says them that lost contact, and legs that rest.
    """
    seconds, said = np.zeros(len(column)), np.flatnonzero(~np.isnan(column))
    seconds[said] = np.clip(np.diff(t[said], append=t[-1:]), _SHORTEST_S, _LONGEST_S)
    return np.where(column > 0, seconds, 0.0)


def mean(column: FloatColumn, t: FloatColumn) -> float | None:
    """The average of the values over the time that they held, to a tenth; None without any."""
    seconds = held(column, t)
    return round(float(np.average(np.nan_to_num(column), weights=seconds)), 1) if seconds.any() else None
