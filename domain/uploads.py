"""An upload's way from the inbox to its verdict: what is promised, and what is kept of it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Literal, Protocol
from uuid import UUID

from msgspec import Struct

from domain.errors import DomainError
from domain.measures import ActivityId, Sport, UserId, Visibility

Status = Literal["processing", "ready", "failed", "duplicate"]


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was accepted under an activity id. Durable before the ack, never changed after it, and nothing private."""

    activity_id: ActivityId
    user_id: UserId
    sha256: str  # of the decoded bytes, hexadecimal
    size: int  # bytes, decoded
    received_at: datetime
    visibility: Visibility | None = None  # None: the runner's default
    sport: Sport | None = None  # None: what the recording says
    partial: bool = False  # nobody finished it: closed with what there was


class Cover(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What goes along with the bytes, sealed as they are."""

    received_at: datetime
    session_id: UUID | None = None  # that it was sent in: it may have been ended before, unknown to who took it
    title: str | None = None


class Hint(Struct, frozen=True):
    """That an upload waits, as the queue says it."""

    entry: bytes  # of the queue
    activity_id: ActivityId
    first: bool  # nobody can have tried the upload by this hint, or before it came


class Received(Struct, frozen=True):
    """An accepted upload, opened."""

    cover: Cover
    body: bytes


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
    matched: Literal["bytes", "track"] | None = None  # what is the same in a duplicate
    fault: Fault | None = None
    runs: tuple[ActivityId, ...] = ()  # where another recording had one of several sessions: which each session is

    @property
    def became(self) -> tuple[ActivityId, ...]:
        """The activities of what was recorded: its own, and those that had its runs first."""
        if self.runs:
            return self.runs
        return self.activities if self.duplicate_of is None else (self.duplicate_of,)

    @property
    def passing(self) -> bool:
        """Whether the same bytes, sent once more, are tried again: what failed was not the recording."""
        return self.fault is not None and self.fault.code in PASSING


BODY_DAMAGED: Final = "body-damaged"  # the code of what failed because stored bytes were damaged
PASSING: Final = frozenset({"processing-failed", BODY_DAMAGED, "session-ended", "upload-dropped"})


class Waiting(Struct, frozen=True):
    """Accepted bytes that nothing became of yet or that failed, or that somebody left behind. `name` is the store's."""

    activity_id: ActivityId
    since: datetime
    name: str

    @property
    def bytes_id(self) -> str:
        """Which bytes, and of which runner: the same in another upload."""
        return self.name.rpartition(".")[2]


class Arrival(Protocol):
    """Bytes on their way in: packed, sealed and written as they come. Nothing of them counts before `accept`."""

    @property
    def head(self) -> bytes:
        """The first bytes, enough to tell the format."""
        ...

    @property
    def size(self) -> int:
        """Bytes so far."""
        ...

    @property
    def sha256(self) -> str:
        """Of the bytes so far, hexadecimal."""
        ...

    async def write(self, data: bytes) -> None:
        """Go on."""
        ...

    async def accept(
        self, *, visibility: Visibility | None = None, sport: Sport | None = None, partial: bool = False
    ) -> Manifest:
        """Make the upload durable, and say what is kept under its id: the first upload's, if it is another one's turn.

        The same again changes nothing, unless what failed may pass now; `RecordingDiffers`, `RecordingClosed`,
        `ActivityMissing`.
        """
        ...


class Inbox(Protocol):
    """Accepted uploads. Taking them in needs the object store and nothing else."""

    def arrive(self, activity_id: ActivityId, user_id: UserId, cover: Cover) -> AbstractAsyncContextManager[Arrival]:
        """Begin to take an upload in."""
        ...

    async def manifest(self, activity_id: ActivityId) -> Manifest | None:
        """What was accepted under this id. `UploadDamaged`."""
        ...

    async def verdict(self, activity_id: ActivityId) -> Verdict | None:
        """What became of it; None while it is being processed. `UploadDamaged`."""
        ...

    async def received(self, manifest: Manifest) -> Received:
        """What was accepted, checked against its hash; `BodyDamaged`."""
        ...

    async def close(self, manifest: Manifest, verdict: Verdict) -> None:
        """Keep the verdict, the first one stays, and the bytes under their owner's key. Then nothing waits."""
        ...

    async def tidy(self, manifest: Manifest) -> None:
        """What `close` does once there is a verdict."""
        ...

    async def reopen(self, manifest: Manifest) -> None:
        """Take the verdict back, so that the upload waits to be processed once more. `OwnerErased`, `StreamUnreadable`
        (the owner's key cannot be used): then it stays.
        """
        ...

    def original(self, user_id: UserId, sha256: str) -> AsyncIterator[bytes]:
        """The bytes as they were sent, piece by piece, once there is a verdict; nothing once their owner is erased.

        `BodyDamaged`, also between two pieces, and where they are gone.
        """
        ...

    async def remove_original(self, user_id: UserId, sha256: str) -> None:
        """Keep these bytes no longer."""
        ...

    def twins(self, user_id: UserId, activity_id: ActivityId) -> AsyncIterator[str]:
        """Hashes of the user's bytes that were found to be the same run as this activity, in other uploads."""
        ...

    async def forget_twins(self, user_id: UserId, activity_id: ActivityId) -> None:
        """Do not know any more what was the same run."""
        ...

    def failures(self) -> AsyncIterator[Waiting]:
        """Uploads that failed and wait for another try, since they last did."""
        ...

    async def note_failure(self, manifest: Manifest) -> None:
        """List the upload there, as of now, unless it is listed."""
        ...

    async def forget_failure(self, failure: Waiting) -> None:
        """Do not list the upload there any more."""
        ...

    def waiting(self) -> AsyncIterator[Waiting]:
        """Uploads without a verdict: the truth that the queue only hints at."""
        ...

    async def waits(self, manifest: Manifest) -> bool:
        """Whether the upload's bytes are still to be looked at, or to be put away."""
        ...

    async def forget(self, left: Waiting) -> None:
        """Take away bytes that nothing stands behind."""
        ...


class RecordingClosed(DomainError):
    """Nothing of this recording had come for a day, and it was closed with what there was: its activity is seen by
    its owner only. Delete that activity, and send the whole recording under a new id.
    """

    code = "recording-closed"


class RecordingProcessing(DomainError):
    """The recording is safe, and still being read: send the same request again after Retry-After."""

    code = "recording-processing"


class UploadDamaged(DomainError):
    """What is kept of this upload, besides its bytes, cannot be read; the server's operator was told."""

    code = "upload-damaged"


class BodyDamaged(Exception):
    """Stored bytes are gone, or no longer match their hash."""
