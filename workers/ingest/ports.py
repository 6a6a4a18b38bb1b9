"""What ingest is handed, by what it needs of each."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.measures import ActivityId, Sport, UserId
from domain.recordings.reading import Reading, SessionRead
from domain.recordings.similarity import Path, Span
from domain.uploads import Hint, Manifest, Verdict


class Reader(Protocol):
    """Parses and analyses bytes, somewhere else: a hostile file harms no worker."""

    async def read(self, body: bytes, sport: Sport | None) -> Reading:
        """The recording, as of this sport if the runner told one.

        `UnreadableRecording` says why there is none, `ReaderFailed` that reading crashed or hung.
        """
        ...


class Claims(Protocol):
    """Which upload of a runner has which bytes, and which activities were when."""

    def alone(self, user_id: UserId) -> AbstractAsyncContextManager[bool]:
        """Whether nobody else looks for this runner's duplicates meanwhile. Who does is waited for, but not long."""
        ...

    async def claim(self, user_id: UserId, sha256: str, activity_id: ActivityId) -> ActivityId:
        """Take the bytes for this upload, unless another has them; whose they are."""
        ...

    async def hand_over(self, user_id: UserId, sha256: str, holder: ActivityId, activity_id: ActivityId) -> ActivityId:
        """Take the bytes over from an upload whose activities were deleted; whose they are."""
        ...

    async def around(self, user_id: UserId, span: Span) -> Sequence[tuple[ActivityId, Span]]:
        """The runner's activities that were at the same time, at least in part; the earliest first."""
        ...

    async def mark(self, user_id: UserId, activity_id: ActivityId, span: Span) -> None:
        """Remember when an activity was, before it is recorded. The same again changes nothing."""
        ...


class Attempts(Protocol):
    """How often an upload was tried without coming to a verdict. Durable: a crash counts."""

    def alone(self, activity_id: ActivityId) -> AbstractAsyncContextManager[bool]:
        """Whether nobody else tries this upload meanwhile."""
        ...

    async def begin(self, activity_id: ActivityId) -> int:
        """Count one more; the number of this one, from 1."""
        ...

    async def failed(self, activity_id: ActivityId, reason: str) -> None:
        """Note why the last try came to nothing."""
        ...

    async def take_back(self, activity_id: ActivityId) -> None:
        """Do not count the last try: it was not the upload's fault."""
        ...

    async def end(self, manifest: Manifest, verdict: Verdict) -> None:
        """Forget the count: there is a verdict. Of an upload that was given up, keep why."""
        ...


class Sessions(Protocol):
    """Who was signed in until when."""

    async def had_ended(self, session_id: UUID, at: datetime) -> bool:
        """Whether the session was ended before this time, and that by more than the clocks of servers differ."""
        ...


class TrackStore(Protocol):
    """Where tracks and details are kept."""

    async def keep(self, user_id: UserId, activity_id: ActivityId, session: SessionRead) -> None:
        """Make both durable. The same again changes nothing. `OwnerErased`."""
        ...

    async def path(self, user_id: UserId, activity_id: ActivityId) -> Path | None:
        """Where the runner was when; None where the track does not say."""
        ...

    def path_of(self, session: SessionRead) -> Path | None:
        """The same of a session that is not kept yet."""
        ...


class Queue(Protocol):
    """Hints to uploads that wait."""

    async def take(self, wait_seconds: float) -> Hint | None:
        """The next hint, or None after the wait. `StoreUnavailable` while Valkey is away."""
        ...

    async def done(self, entry: bytes) -> None:
        """Take the hint away."""
        ...
