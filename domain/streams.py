"""The write port: load a stream, decide on it, append what was decided."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, Self, TypeVar
from uuid import UUID

from msgspec import Struct

from domain.errors import DomainError
from domain.events.event import Event
from domain.measures import UserId


class Aggregate(Protocol):
    """A state that events fold into. An empty one is made without arguments."""

    # Name and version of the state, as snapshots keep it: another version when a field or what `evolve` does changes.
    STATE: ClassVar[str]

    def evolve(self, event: Event) -> Self:
        """The state after `event`. Never refuses: the past happened."""
        ...


A = TypeVar("A", bound=Aggregate)
Decision = Callable[[A], Sequence[Event]]


class Request(Struct, frozen=True):
    """A request that may come again. Both are hashes of 32 bytes: whose it is and its key; and what it asks for."""

    key_hash: bytes
    fingerprint: bytes


class Replied(Struct, frozen=True):
    """The reply to a request, and the token of the position that covers what it did."""

    reply: bytes
    position: str
    again: bool  # whether it is a kept one


class Streams(Protocol):
    """Implemented over the event store. Every append is durable when it returns."""

    async def load(self, aggregate: type[A], stream_id: UUID) -> A:
        """The state now; the empty state when the stream has no events."""
        ...

    async def transact(self, aggregate: type[A], stream_id: UUID, owner_id: UserId, decide: Decision[A]) -> str:
        """Decide on the latest state and append; decide again when another append came first.

        Returns the token of a position that covers what was decided on and what was appended: a read that
        waits for it sees this write, and the earlier one that made a repeat decide nothing. What `decide`
        refuses is raised. `StreamContended` when others keep coming first; `OwnerErased`.
        """
        ...

    async def transact_once(
        self,
        aggregate: type[A],
        stream_id: UUID,
        owner_id: UserId,
        decide: Decision[A],
        request: Request,
        reply: bytes,
    ) -> Replied:
        """As `transact`, and keep the reply in the same transaction: the request sent again gets it again.

        `RequestDiffers` when the same key came with other content. What `decide` refuses is not kept: the same
        request is decided anew.
        """
        ...

    async def keep(self, owner_id: UserId, request: Request, reply: bytes) -> Replied:
        """Keep the reply of a request whose effect is durable already, and the same however often it is repeated.

        The first reply stays, and is returned. `RequestDiffers`, `OwnerErased`.
        """
        ...

    async def position(self) -> str:
        """The token of a position that covers every append that has returned, in whatever process.
        `StoreUnavailable`.
        """
        ...

    def latest(self, positions: Sequence[str]) -> str:
        """The token of a position that covers all of these, of which there is at least one."""
        ...

    async def replied(self, request: Request) -> Replied | None:
        """The reply that was kept for a request; None also for a damaged one, which is dropped: decide anew.

        `RequestDiffers`; `RequestRunning` while its first is under way.
        """
        ...


class StreamContended(DomainError):
    """Others kept appending to this stream first. Nothing was changed; trying again later is safe."""

    code = "stream-contended"


class StreamUnreadable(DomainError):
    """Something stored that this needs cannot be read now; the server's operator was told. Nothing was changed."""

    code = "stream-unreadable"


class OwnerErased(DomainError):
    """The owner's key is destroyed: nothing can be written for them any more."""

    code = "not-found"


class RequestDiffers(DomainError):
    """This idempotency key was used for another request: a new request needs a new key."""

    code = "idempotency-key-reused"


class RequestRunning(DomainError):
    """The first request with this idempotency key is still under way: ask again in a second."""

    code = "request-running"


class MalformedPosition(DomainError):
    """The text is no position token: send `Cairn-Position` back as it came, or leave the header out."""

    code = "malformed-position"
