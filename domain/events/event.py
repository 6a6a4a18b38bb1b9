"""What every fact has, and where it stands in the log."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from msgspec import Struct

from domain.measures import UserId


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A fact, as stored for ever. Another shape is another version, with an upcast; a new meaning is a new event."""

    TOPIC: ClassVar[str]  # stored name and version, `activity.recorded@2`: modules may move, this may not
    # Fields about the person, or where they were: stored sealed under the owner's key. Each has a default, which
    # stands in its place once the key is destroyed.
    PRIVATE: ClassVar[frozenset[str]] = frozenset()
    at: datetime  # when it was decided, by the server's clock, UTC


class Recorded(Struct, frozen=True, gc=False):
    """An event and its place. `position` orders the whole log and grows, with gaps; `version` counts in the stream."""

    event: Event
    stream_id: UUID
    version: int
    position: int
    owner_id: UserId  # whose stream it is: the key for partial rebuilds, export and erasure
