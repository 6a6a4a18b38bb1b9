"""An upload's way from the inbox to its verdict: what is promised, and what is kept of it."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct

from domain.measures import ActivityId, Sport, UserId, Visibility

Status = Literal["processing", "ready", "failed", "duplicate"]


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was accepted under an activity id. Durable before the ack, never changed after it."""

    activity_id: ActivityId
    user_id: UserId
    sha256: str  # of the decoded bytes, hexadecimal
    size: int  # bytes, decoded
    received_at: datetime
    title: str | None = None
    visibility: Visibility | None = None  # None: the runner's default
    sport: Sport | None = None  # None: what the recording says


class Fault(Struct, frozen=True):
    """Why an upload became no activity. `code` is public."""

    code: str
    detail: str


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of an upload. Durable, and the same however often the upload is processed."""

    status: Status
    activities: tuple[ActivityId, ...] = ()  # one for each session; the upload's own id when there is one session
    position: str | None = None  # a read that waits for this token sees the activities
    duplicate_of: ActivityId | None = None
    fault: Fault | None = None


class Inbox(Protocol):
    """Accepted uploads. Needs the object store and nothing else."""

    async def accept(self, manifest: Manifest, body: bytes) -> None:
        """Make the upload durable. The same again changes nothing; `RecordingDiffers`, `ActivityMissing`."""
        ...

    async def manifest(self, activity_id: ActivityId) -> Manifest | None:
        """What was accepted under this id."""
        ...

    async def verdict(self, activity_id: ActivityId) -> Verdict | None:
        """What became of it; None while it is being processed."""
        ...

    async def body(self, manifest: Manifest) -> bytes:
        """The accepted bytes, checked against their hash."""
        ...

    async def close(self, activity_id: ActivityId, verdict: Verdict) -> None:
        """Keep the verdict; the first one stays."""
        ...

    def pending(self) -> AsyncIterator[tuple[ActivityId, datetime]]:
        """Uploads without a verdict, with the time they came: the truth that the queue only hints at."""
        ...

    async def forget(self, activity_id: ActivityId) -> None:
        """Take a mark out of `pending` that nothing stands behind."""
        ...


class BodyDamaged(Exception):
    """Stored bytes no longer match their hash."""
