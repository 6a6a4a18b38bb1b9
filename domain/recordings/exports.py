"""A kept track as a session again, to draw or to write as a file, with its totals; why some can be written as none."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from msgspec import Struct

from domain.errors import DomainError
from domain.measures import Sport
from domain.recordings.recording import Column, Session


class Totals(Struct, frozen=True):
    """What an activity says of itself, beside its points. A device's word is in it, which these need not add up to."""

    distance_m: float
    elapsed_s: float
    moving_s: float
    calories_kcal: float | None = None
    utc_offset_s: int | None = None
    elevation_gain_m: float | None = None
    avg_heart_rate_bpm: float | None = None
    max_heart_rate_bpm: float | None = None


class ExportNeedsTimes(DomainError):
    """A FIT file needs times from 1990 to 2125, which this activity lacks. Export it as GPX."""

    code = "export-needs-times"


class ExportNeedsPositions(DomainError):
    """A GPX file is made of positions, which this activity lacks. Export it as FIT."""

    code = "export-needs-positions"


def session_of(
    sport: Sport, started_at: datetime, columns: Mapping[str, Sequence[float | None]], title: str | None = None
) -> Session:
    """The session that these columns are of. Without a column of times, when it started says nothing of its points."""
    return Session(
        sport=sport,
        started_at=started_at if Column.T in columns else None,
        columns={Column(name): np.array(values, np.float64) for name, values in columns.items()},
        title=title,
    )
