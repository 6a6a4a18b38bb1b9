"""What the API is handed: every part that is not plain Python, by what the API needs of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from api.admission.addresses import Addresses
from api.admission.admission import Admission
from api.cursors import Cursors
from api.idempotency import Idempotency
from api.telemetry import Telemetry
from api.tokens import Tokens
from domain.accounts import Accounts
from domain.chunks import Chunks
from domain.client_settings import Told
from domain.measures import ActivityId, UserId
from domain.recordings.exports import Totals
from domain.recordings.recording import Column, Format, Session
from domain.streams import Streams
from domain.uploads import Inbox
from projections.projection import Place, View

T_co = TypeVar("T_co", covariant=True)


class Reader(Protocol):
    """Reads of one request."""

    async def reach(self, token: str, names: Sequence[str], timeout_seconds: float) -> bool:
        """Wait until what the user reads of these has passed the position; whether it did. `MalformedPosition`."""
        ...

    def view(self) -> AbstractAsyncContextManager[View]:
        """The read models as this user sees them; `StoreUnavailable` when no connection is to be had soon."""
        ...

    def seen(self, names: Sequence[str]) -> tuple[int, str] | None:
        """A position that all reads so far have passed in these, and which builds were read, if answers may be kept."""
        ...


class ReadModels(Protocol):
    """The tables of the projections."""

    @property
    def builds(self) -> str:
        """Which builds are read; another text as soon as others are."""
        ...

    def forget(self) -> None:
        """Look at what is read again before the next read."""
        ...

    def position(self, token: str) -> int:
        """The position that a write was told. `MalformedPosition`."""
        ...

    def reader(self, user_id: UUID, *, minor: bool = False) -> Reader:
        """For one request of this user; `minor`: others matter more."""
        ...

    async def versions(self, user_id: UUID) -> Mapping[str, tuple[int, bool]]:
        """Which version of each projection the user reads, and whether that is a trial of a new one."""
        ...


class SharedReads(Protocol):
    """Kept answers that all processes share, and the news of what makes them old. Nothing here fails."""

    async def find(self, owner: UUID, key: str) -> tuple[bytes, int] | None:
        """A kept answer, and the position of the last change of its owner's rows, if both are known."""
        ...

    async def level(self, users: Collection[UUID]) -> int | None:
        """The position of the last change of rows of any of these; None when it is not known."""
        ...

    def keep(
        self, owner: UUID, key: str, answer: bytes, users: Collection[UUID], position: int, seconds: float
    ) -> None:
        """Keep an answer about these users for so long."""
        ...

    async def listen(
        self,
        changed: Callable[[Collection[UUID], int], None],
        opened: Callable[[], None],
        closed: Callable[[], None],
    ) -> None:
        """Hear of changes until cancelled, all of them between `opened` and `closed`. `changed` with nobody: of
        everybody.
        """
        ...


class Notice(Protocol):
    """A message to a runner."""

    @property
    def notice_id(self) -> UUID:
        """Of this message."""
        ...

    @property
    def kind(self) -> str:
        """What it is about, such as `new_follower`."""
        ...

    @property
    def about_id(self) -> UUID:
        """Whom it is about."""
        ...

    @property
    def at(self) -> datetime:
        """When it happened."""
        ...


class Notices(Protocol):
    """What reactors told."""

    async def of(self, user_id: UserId, before: Place, limit: int) -> Sequence[Notice]:
        """Of a runner, the latest first, from before a place in that order. `StoreUnavailable`."""
        ...


class ClientSettingsSource(Protocol):
    """What operators tell apps."""

    @property
    def current(self) -> Told:
        """As of a few seconds ago; nobody waits for it. The defaults while nothing else is known."""
        ...


class Hints(Protocol):
    """The ingest queue, as far as the API goes."""

    async def add(self, activity_id: ActivityId, *, first: bool = False) -> None:
        """Say that an upload waits; `first`: that it came just now, so that nobody can have tried it. Never fails: the
        sweeper finds what a lost hint meant.
        """
        ...


class Tracks(Protocol):
    """What ingest made of a recording, besides the summary in its event."""

    async def columns(
        self, user_id: UserId, activity_id: ActivityId, columns: Collection[Column] | None, max_points: int | None
    ) -> Mapping[str, list[float | None]] | None:
        """The track's columns, all of one length; None when there is no track. `TrackDamaged`."""
        ...

    async def details(self, user_id: UserId, activity_id: ActivityId) -> Mapping[str, object]:
        """Splits and laps; empty when there are none. `TrackDamaged`."""
        ...


class QueueState(Protocol):
    """How the ingest queue is doing. None: the server that would know is away."""

    @property
    def waiting(self) -> int | None:
        """Accepted uploads without a verdict."""
        ...

    @property
    def oldest_age_s(self) -> float | None:
        """How long the oldest of them has waited."""
        ...

    @property
    def hints(self) -> int | None:
        """In the queue."""
        ...

    @property
    def taken(self) -> int | None:
        """Of the hints, those that a worker holds."""
        ...

    @property
    def failed(self) -> Mapping[str, int] | None:
        """Uploads that became no activity, by code."""
        ...


class ProjectionState(Protocol):
    """How old what is read of a projection is, and what it leaves out."""

    @property
    def lag_s(self) -> float:
        """The age of the oldest event that it has not taken yet; 0: none."""
        ...

    @property
    def workers(self) -> int:
        """That fill it."""
        ...

    @property
    def quarantined(self) -> int:
        """Keys whose fold failed."""
        ...

    @property
    def parked(self) -> int:
        """Streams that cannot be read: the same for all projections."""
        ...


class Watch(Protocol[T_co]):
    """Looks at what all processes share."""

    async def state(self) -> T_co:
        """Of all that answers."""
        ...


@dataclass(frozen=True)
class Services:
    """One of each. Tests give an in-memory store where rules and HTTP are meant."""

    streams: Streams
    inbox: Inbox
    chunks: Chunks
    hints: Hints
    queue_watch: Watch[QueueState]
    projection_watch: Watch[Mapping[str, ProjectionState | None]]
    tracks: Tracks
    accounts: Accounts
    read_models: ReadModels
    shared_reads: SharedReads
    notices: Notices
    client_settings: ClientSettingsSource
    tokens: Tokens
    cursors: Cursors
    idempotency: Idempotency
    telemetry: Telemetry
    admission: Admission
    addresses: Addresses
    sniff: Callable[[bytes], Format | None]
    write_gpx: Callable[[Session, float], bytes]  # and how far it went; `ExportNeedsPositions`
    write_fit: Callable[[Session, Totals], bytes]  # `ExportNeedsTimes`
    clock: Callable[[], datetime]
    public_url: str | None  # of the site, without a slash at its end
    ready: Callable[[], Mapping[str, str]]  # what is missing, by part, with what to do; empty when all is there
