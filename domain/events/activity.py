"""Facts about one activity. The stream is the id that the phone gave it."""

from datetime import date, datetime
from typing import ClassVar

from msgspec import Struct

from domain.events.event import Event
from domain.events.packing import NOTHING
from domain.measures import ActivityId, Sport, UserId, Visibility


class Tally(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an activity adds to sums, and under which day and sport. Undoing takes exactly this away."""

    sport: Sport
    local_date: date  # in the runner's zone, fixed when decided: a fold has no table of time zones
    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float = 0.0


class Source(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where an activity came from: enough to find its bytes and to know them again."""

    format: str
    sha256: str  # of the decoded bytes, hexadecimal
    device: str | None = None
    session: int | None = None  # index, when the file holds several sessions


class ActivityRecorded(Event, frozen=True, kw_only=True):
    """A recording was taken in and analysed. Its points are in the object store, never here."""

    TOPIC: ClassVar[str] = "activity.recorded@2"
    PRIVATE: ClassVar[frozenset[str]] = frozenset({"title", "measured"})  # a route, a heart
    user_id: UserId
    activity_id: ActivityId
    title: str = ""
    visibility: Visibility
    started_at: datetime
    utc_offset_s: int
    tally: Tally
    measured: bytes = NOTHING  # packed: most of the event, which no decision and no fold looks into
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
