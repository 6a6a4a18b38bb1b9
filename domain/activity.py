"""One activity: recorded or entered once, edited by its owner, deleted by its owner."""

import re
from datetime import datetime
from typing import ClassVar, Final, Self
from uuid import uuid5

from msgspec import Struct
from msgspec.structs import replace

from domain.errors import DomainError, UnknownEvent
from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded, Source, Tally
from domain.events.event import Event
from domain.measures import ActivityId, Sport, UserId, Visibility

MANUAL: Final = "manual"  # the format of a source that is no file: somebody entered the figures


def session_activity_id(upload_id: ActivityId, session: int) -> ActivityId:
    """The activity of one of several sessions in a file: the same file sent again meets the same activities."""
    return ActivityId(uuid5(upload_id, str(session)))


class Activity(Struct, frozen=True):
    """Only what the rules need. What screens need is a projection."""

    STATE: ClassVar[str] = "activity@2"

    user_id: UserId | None = None  # None: nothing recorded yet
    activity_id: ActivityId | None = None
    source: Source | None = None
    title: str = ""
    notes: str = ""
    visibility: Visibility = Visibility.PRIVATE
    tally: Tally | None = None
    deleted: bool = False

    def record(self, recorded: ActivityRecorded) -> list[Event]:
        """Take the recording in. The same bytes again change nothing, also after the run was deleted."""
        if self.user_id is None:
            return [recorded]
        if self.user_id != recorded.user_id or not _same_bytes(self.source, recorded.source):
            raise RecordingDiffers
        return []

    def enter(self, recorded: ActivityRecorded, notes: str) -> list[Event]:
        """Take in a run without a recording. The same figures again change nothing, also after it was deleted."""
        if self.user_id not in (None, recorded.user_id):
            raise ActivityMissing
        events = self.record(recorded)
        if not events or not notes:
            return events
        return [*events, *self.evolve(recorded).edit(recorded.user_id, recorded.at, notes=notes)]

    def require_room(self, user_id: UserId, sha256: str | None) -> None:
        """`RecordingDiffers` when something else than a recording of these bytes is here; None: than any recording.

        `ActivityMissing` when another runner's is: that there is one is not for everybody to know.
        """
        if self.user_id not in (None, user_id):
            raise ActivityMissing
        if self.source is not None and (self.source.format == MANUAL or sha256 not in (None, self.source.sha256)):
            raise RecordingDiffers

    def edit(
        self,
        user_id: UserId,
        at: datetime,
        *,
        title: str | None = None,
        notes: str | None = None,
        visibility: Visibility | None = None,
        sport: Sport | None = None,
    ) -> list[Event]:
        """Change what is given. What is already so changes nothing."""
        activity_id, tally = self._owned_by(user_id)
        edited = ActivityEdited(
            user_id=user_id,
            activity_id=activity_id,
            title=self.title if title is None else title,
            notes=self.notes if notes is None else notes,
            visibility=visibility or self.visibility,
            sport=sport or tally.sport,
            tally=tally,
            at=at,
        )
        before = self.title, self.notes, self.visibility, tally.sport
        return [] if (edited.title, edited.notes, edited.visibility, edited.sport) == before else [edited]

    def delete(self, user_id: UserId, at: datetime) -> list[Event]:
        """Remove it from everything. Removing twice changes nothing."""
        if self.deleted and self.user_id == user_id:
            return []
        activity_id, tally = self._owned_by(user_id)
        return [ActivityDeleted(user_id=user_id, activity_id=activity_id, tally=tally, at=at)]

    def _owned_by(self, user_id: UserId) -> tuple[ActivityId, Tally]:
        if self.user_id != user_id or self.deleted or self.activity_id is None or self.tally is None:
            raise ActivityMissing
        return self.activity_id, self.tally

    def evolve(self, event: Event) -> Self:
        """The activity after `event`."""
        match event:
            case ActivityRecorded():
                return replace(
                    self,
                    user_id=event.user_id,
                    activity_id=event.activity_id,
                    source=event.source,
                    title=event.title,
                    visibility=event.visibility,
                    tally=event.tally,
                )
            case ActivityEdited(title=title, notes=notes, visibility=visibility, sport=sport, tally=tally):
                counted = replace(tally, sport=sport)
                return replace(self, title=title, notes=notes, visibility=visibility, tally=counted)
            case ActivityDeleted():
                return replace(self, deleted=True)
            case _:
                raise UnknownEvent(self, event)


def _same_bytes(one: Source | None, other: Source) -> bool:
    """A later parser may name the device otherwise: the bytes decide."""
    return one is not None and (one.sha256, one.session) == (other.sha256, other.session)


_DAYTIMES: Final = ((5, "Night"), (11, "Morning"), (14, "Lunch"), (17, "Afternoon"), (22, "Evening"), (24, "Night"))
_NOUNS: Final = {
    Sport.RUNNING: "run",
    Sport.WALKING: "walk",
    Sport.HIKING: "hike",
    Sport.CYCLING: "ride",
    Sport.SWIMMING: "swim",
    Sport.ROWING: "row",
    Sport.SKIING: "ski",
    Sport.SKATING: "skate",
    Sport.TRANSITION: "transition",
    Sport.FITNESS: "workout",
    Sport.OTHER: "activity",
}


def usual_title(sport: Sport, local: datetime) -> str:
    """Such as "Morning run": what a runner would say who is not asked to name it."""
    daytime = next(name for until, name in _DAYTIMES if local.hour < until)
    return f"{daytime} {_NOUNS[sport]}"


# As services name what nobody named: "Morning Trail Run" (Strava, and ours), "Running 6/1/26 7:12 am" (Runkeeper).
_DAYTIME: Final = re.compile(
    r"^(?:early morning|morning|lunch|midday|afternoon|evening|late night|night) "
    r"(?=(?:(?:trail|treadmill|virtual|indoor|mountain bike|gravel|e-bike|alpine|nordic|backcountry|ice|inline) )?"
    r"(?:" + "|".join([*_NOUNS.values(), "jog", "skiing", "skating", "training"]) + r")$)",
    re.IGNORECASE,
)
_DATED: Final = re.compile(
    r"((?:(?:[a-z-]+ )?[a-z-]+ing )?(?:\d{4}-\d\d-\d\d|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}))[t ,]+\d{1,2}:\d\d"
    r"(?: ?[ap]m|:\d\d(?:\.\d+)?(?:z|[+-]\d\d:?\d\d))?",
    re.ASCII | re.IGNORECASE,
)


def without_hour(title: str) -> str:
    """The title for those who are not told the hour: "Run" of a usual one, "Running 6/1/26" of one that a date and a
    time were put to; what a runner wrote besides is theirs to tell.
    """
    if (dated := _DATED.fullmatch(title)) is not None:
        return dated[1]
    rest = _DAYTIME.sub("", title, count=1)
    return title if rest == title else rest[0].upper() + rest[1:]


class ActivityMissing(DomainError):
    """There is no such activity, or it is another runner's, or it was deleted: all the same from outside."""

    code = "not-found"


class RecordingDiffers(DomainError):
    """This activity id already has another recording or entry: a new run needs a new id."""

    code = "recording-differs"
