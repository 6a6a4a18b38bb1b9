"""Units and identities as types, so that a distance is never taken for a duration."""

from enum import StrEnum
from hashlib import sha1
from typing import Final, NewType
from uuid import UUID

from msgspec import convert, to_builtins

UserId = NewType("UserId", UUID)
ActivityId = NewType("ActivityId", UUID)
GoalId = NewType("GoalId", UUID)

Metres = NewType("Metres", float)
Seconds = NewType("Seconds", float)


class Sport(StrEnum):
    """What a session was. Anything that no rule of ours treats apart is `other`."""

    RUNNING = "running"
    WALKING = "walking"
    HIKING = "hiking"
    CYCLING = "cycling"
    SWIMMING = "swimming"
    ROWING = "rowing"
    SKIING = "skiing"
    SKATING = "skating"
    TRANSITION = "transition"
    FITNESS = "fitness"
    OTHER = "other"


ON_FOOT: Final = frozenset({Sport.RUNNING, Sport.WALKING, Sport.HIKING})


class Visibility(StrEnum):
    """Who may see an activity besides its owner."""

    PUBLIC = "public"
    FOLLOWERS = "followers"
    PRIVATE = "private"


class GoalMetric(StrEnum):
    """What a goal counts: metres, seconds, activities, metres."""

    DISTANCE = "distance"
    MOVING_TIME = "moving_time"
    COUNT = "count"
    ELEVATION_GAIN = "elevation_gain"


class Period(StrEnum):
    """How often a goal starts again. `all` and `custom` never do; weeks start on Monday (ISO 8601)."""

    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    ALL = "all"
    CUSTOM = "custom"


_DERIVED: Final = UUID("6e7b0a52-2f0c-5a37-9c55-0c3a8f6f1d00")  # namespace of stream ids; never changes
_NAMESPACE: Final = sha1(_DERIVED.bytes, usedforsecurity=False)
RESERVED_VERSION: Final = 8  # RFC 9562, section 5.8: custom
_MARKS: Final = 0xF << 76 | 0x3 << 62  # where an id says which version and variant it is of
_MARKED: Final = RESERVED_VERSION << 76 | 0x2 << 62


def derived_id(kind: str, *parts: UUID | str) -> UUID:
    """The id of the stream that these make unique: repeats always meet it. Ids are read and made by msgspec, in C.

    The name-based hash of RFC 9562, section 5.5, marked as version 8: clients may not choose such an id, so no
    activity of theirs can stand in the place of a stream of another kind.
    """
    hashed = _NAMESPACE.copy()  # a new one would be looked for by its name among all that OpenSSL has
    hashed.update("/".join([kind, *to_builtins(parts)]).encode())
    marked = int.from_bytes(hashed.digest()[:16]) & ~_MARKS | _MARKED
    return convert(marked.to_bytes(16), UUID)
