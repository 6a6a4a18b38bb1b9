"""What ingest is handed, by what it needs of each."""

from typing import Protocol

from domain.measures import ActivityId, UserId
from domain.recordings.reading import Reading, SessionRead


class Reader(Protocol):
    """Parses and analyses bytes, somewhere else: a hostile file harms no worker."""

    async def read(self, body: bytes) -> Reading:
        """The recording; `UnreadableRecording` says why there is none, `ReaderFailed` that reading crashed or hung."""
        ...


class Claims(Protocol):
    """Which upload of a runner has which bytes."""

    async def claim(self, user_id: UserId, sha256: str, activity_id: ActivityId) -> ActivityId:
        """Take the bytes for this upload, unless another has them; whose they are."""
        ...

    async def hand_over(self, user_id: UserId, sha256: str, holder: ActivityId, activity_id: ActivityId) -> ActivityId:
        """Take the bytes over from an upload whose activities were deleted; whose they are."""
        ...


class Attempts(Protocol):
    """How often an upload was tried without coming to a verdict. Durable: a crash counts."""

    async def begin(self, activity_id: ActivityId) -> int:
        """Count one more; the number of this one, from 1."""
        ...

    async def end(self, activity_id: ActivityId) -> None:
        """Forget the count: there is a verdict."""
        ...


class TrackStore(Protocol):
    """Where tracks and details are kept."""

    async def keep(self, user_id: UserId, activity_id: ActivityId, session: SessionRead) -> None:
        """Make both durable. The same again changes nothing."""
        ...


class Queue(Protocol):
    """Hints to uploads that wait."""

    async def take(self, wait_seconds: float) -> tuple[bytes, ActivityId] | None:
        """The next hint, or None after the wait. `StoreUnavailable` while Valkey is away."""
        ...

    async def done(self, entry: bytes) -> None:
        """Take the hint away."""
        ...
