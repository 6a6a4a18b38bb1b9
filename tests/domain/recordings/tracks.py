"""Sessions made up column by column."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from domain.measures import Metres, Seconds, Sport
from domain.recordings.recording import Column, DeviceTotals, FloatColumn, Session

STARTED = datetime(2026, 5, 1, 7, tzinfo=UTC)
NAN = float("nan")
METRES_A_DEGREE = 111_319.49079327357  # along the equator on WGS 84


def along_equator(metres: FloatColumn) -> FloatColumn:
    """Degrees of longitude so far from Greenwich."""
    return metres / METRES_A_DEGREE


def made(
    t: Sequence[float] | FloatColumn | None = None,
    *,
    places_m: Sequence[float] | FloatColumn | None = None,
    sport: Sport = Sport.RUNNING,
    device: DeviceTotals | None = None,
    breaks: tuple[int, ...] = (),
    started_at: datetime | None = STARTED,
    **columns: Sequence[float] | FloatColumn,
) -> Session:
    """A session with these columns (by name), on the equator when `places_m` are given."""
    found = {Column(name): np.array(values, float) for name, values in columns.items()}
    if t is not None:
        found[Column.T] = np.array(t, float)
    if places_m is not None:
        found[Column.LON] = along_equator(np.array(places_m, float))
        found[Column.LAT] = np.where(np.isnan(found[Column.LON]), np.nan, 0.0)
    return Session(sport, started_at, found, device=device or DeviceTotals(), breaks=breaks)


def totals(
    distance_m: float | None = None, elapsed_s: float | None = None, timer_s: float | None = None
) -> DeviceTotals:
    """What a device wrote in its summary."""
    return DeviceTotals(
        distance_m=None if distance_m is None else Metres(distance_m),
        elapsed_s=None if elapsed_s is None else Seconds(elapsed_s),
        timer_s=None if timer_s is None else Seconds(timer_s),
    )


def seconds(count: int) -> FloatColumn:
    """0, 1, 2 and so on."""
    return np.arange(count, dtype=np.float64)
