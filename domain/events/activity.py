"""Facts about one activity. The stream is the id that the phone gave it."""

from datetime import date, datetime
from typing import ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from domain.events.event import Event
from domain.measures import ActivityId, Sport, UserId, Visibility


class Tally(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an activity adds to sums, and under which day and sport. Undoing takes exactly this away."""

    sport: Sport
    local_date: date  # in the runner's zone, fixed when decided: a fold has no table of time zones
    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float = 0.0


class BestEffort(Struct, frozen=True, omit_defaults=True, gc=False):
    """The fastest stretch of a standard distance within one activity."""

    name: str
    distance_m: float
    elapsed_s: float
    start_s: float  # from the activity's start


class Source(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where an activity came from: enough to find its bytes and to know them again."""

    format: str
    sha256: str  # of the decoded bytes, hexadecimal
    device: str | None = None
    session: int | None = None  # index, when the file holds several sessions


class DeviceTotals(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the device concluded itself: kept beside our figures, never mixed with them."""

    distance_m: float | None = None
    elapsed_s: float | None = None
    timer_s: float | None = None
    ascent_m: float | None = None


class Measured(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What analysis found besides the tally. None: the recording does not say."""

    points: int = 0
    distance_source: str = "unknown"
    avg_speed_mps: float | None = None
    max_speed_mps: float | None = None
    avg_heart_rate_bpm: float | None = None
    max_heart_rate_bpm: float | None = None
    avg_cadence_spm: float | None = None
    calories_kcal: float | None = None
    polyline: str | None = None  # Google's encoding, precision 5, simplified
    bbox: tuple[float, float, float, float] | None = None  # south, west, north, east; degrees
    best_efforts: tuple[BestEffort, ...] = ()
    device: DeviceTotals = DeviceTotals()
    warnings: tuple[str, ...] = ()


NOTHING_MEASURED: Final = Raw(b"{}")


def as_stored(measured: Measured) -> Raw:
    """As an event has it."""
    return Raw(msgspec.json.encode(measured))


class ActivityRecorded(Event, frozen=True, kw_only=True):
    """A recording was taken in and analysed. Its points are in the object store, never here."""

    TOPIC: ClassVar[str] = "activity.recorded@1"
    PRIVATE: ClassVar[frozenset[str]] = frozenset({"title", "measured"})  # a route, a heart
    user_id: UserId
    activity_id: ActivityId
    title: str = ""
    visibility: Visibility
    started_at: datetime
    utc_offset_s: int
    tally: Tally
    # `Measured` as JSON, handed on as it is: two thirds of the event, which no decision and no fold looks into.
    measured: Raw = NOTHING_MEASURED
    source: Source


class ActivityEdited(Event, frozen=True, kw_only=True):
    """What the runner may change, whole, as it is from now on. `tally` is what counted before."""

    TOPIC: ClassVar[str] = "activity.edited@2"
    PRIVATE: ClassVar[frozenset[str]] = frozenset({"title", "notes"})
    user_id: UserId
    activity_id: ActivityId
    title: str = ""
    notes: str = ""
    visibility: Visibility
    sport: Sport
    tally: Tally


class ActivityDeleted(Event, frozen=True, kw_only=True):
    """The activity is gone; `tally` is what it takes away."""

    TOPIC: ClassVar[str] = "activity.deleted@1"
    user_id: UserId
    activity_id: ActivityId
    tally: Tally
