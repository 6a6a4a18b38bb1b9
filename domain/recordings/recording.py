"""A recording as every format gives it: sessions of columns, with what the device itself concluded."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain.errors import DomainError
from domain.measures import Metres, Seconds, Sport

FloatColumn = NDArray[np.float64]

LONGEST: Final = timedelta(days=15)  # longer than any recording may be


class Format(StrEnum):
    """A file format that can be taken in, named as in answers."""

    FIT = "fit"
    GPX = "gpx"
    TCX = "tcx"
    JSON = "json"


class Column(StrEnum):
    """A channel of a track, named as in answers. Units are in the name, or here."""

    T = "t"  # seconds since the session's `started_at`, to the millisecond
    LAT = "lat"  # degrees, WGS 84
    LON = "lon"
    ALTITUDE = "altitude_m"
    DISTANCE = "distance_m"  # as the device counted it, from 0
    HEART_RATE = "heart_rate_bpm"
    CADENCE = "cadence_spm"  # steps (or pedal strokes) a minute, both feet
    POWER = "power_w"
    SPEED = "speed_mps"
    TEMPERATURE = "temperature_c"


# Decimals that are kept: a centimetre on the ground, and finer than any device measures. What a file says beyond is
# noise of its number format, rounded when it is parsed.
DECIMALS: Final[Mapping[Column, int]] = {
    Column.T: 3,
    Column.LAT: 7,
    Column.LON: 7,
    Column.ALTITUDE: 2,
    Column.DISTANCE: 2,
    Column.HEART_RATE: 1,
    Column.CADENCE: 2,
    Column.POWER: 1,
    Column.SPEED: 3,
    Column.TEMPERATURE: 1,
}


@dataclass(frozen=True, slots=True)
class DeviceTotals:
    """What the device wrote in its own summary. Kept beside ours, in whose place it is where no point tells.

    None: not said.
    """

    distance_m: Metres | None = None
    elapsed_s: Seconds | None = None
    timer_s: Seconds | None = None
    ascent_m: Metres | None = None
    avg_heart_rate_bpm: float | None = None
    max_heart_rate_bpm: float | None = None
    avg_cadence_spm: float | None = None
    max_speed_mps: float | None = None
    calories_kcal: float | None = None


@dataclass(frozen=True, slots=True)
class Lap:
    """A lap as the device marked it."""

    started_at: datetime | None
    elapsed_s: Seconds | None
    distance_m: Metres | None


@dataclass(frozen=True, slots=True)
class Session:
    """One sport from start to stop. `columns` are of one length, NaN where a point lacks the value."""

    sport: Sport
    started_at: datetime | None  # aware, UTC; None: the file has no times at all
    columns: Mapping[Column, FloatColumn]
    device: DeviceTotals = field(default_factory=DeviceTotals)
    laps: tuple[Lap, ...] = ()
    title: str | None = None
    breaks: tuple[int, ...] = ()  # indices of points that begin a new segment (GPX trkseg, pauses of the timer)

    def __len__(self) -> int:
        return max((len(column) for column in self.columns.values()), default=0)


def from_first_time(session: Session) -> Session:
    """The session begun when its first point with a time was: times count from there."""
    t = session.columns[Column.T]
    begin = float(t[~np.isnan(t)][0])
    columns = {**session.columns, Column.T: np.round(t - begin, DECIMALS[Column.T])}
    started_at = None if session.started_at is None else session.started_at + timedelta(seconds=begin)
    return replace(session, started_at=started_at, columns=columns)


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole file. `warnings` are public codes with a sentence: what was wrong and what was done about it."""

    format: Format
    sessions: tuple[Session, ...]
    device_name: str | None = None
    utc_offset_s: int | None = None  # local time minus UTC, when the file says so
    warnings: tuple[str, ...] = ()


class UnreadableRecording(DomainError):
    """The bytes are no recording, or hold no point. `reason` says what is wrong and what to do about it."""

    code = "recording-unreadable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EmptyRecording(UnreadableRecording):
    """The file is whole and holds no track point and no totals."""

    code = "recording-empty"
