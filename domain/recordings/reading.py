"""A recording as ingest takes it in: parsed, analysed, and its track packed for keeping."""

from dataclasses import dataclass
from datetime import datetime

from domain.errors import DomainError
from domain.events.measured import Measured
from domain.measures import Sport


@dataclass(frozen=True)
class SessionRead:
    """One session, ready to become an activity. `details` is JSON: what screens show beside the summary."""

    sport: Sport
    title: str | None
    started_at: datetime | None
    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float
    measured: Measured
    details: bytes
    track: bytes


@dataclass(frozen=True)
class Reading:
    """A whole file."""

    format: str
    device: str | None
    utc_offset_s: int | None  # what the file says of the local time
    sessions: tuple[SessionRead, ...]


class ReaderFailed(Exception):
    """Reading a recording crashed, hung or took too much memory."""


class TrackDamaged(DomainError):
    """The stored track is gone, or does not match its checksum. The recording as it was sent is kept."""

    code = "track-damaged"
