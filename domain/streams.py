"""The write port: load a stream, decide on it, append what was decided."""

from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar
from uuid import UUID

from domain.errors import DomainError
from domain.events.event import Event
from domain.measures import UserId


class Aggregate(Protocol):
    """A state that events fold into. An empty one is made without arguments."""

    def evolve(self, event: Event) -> Self:
        """The state after `event`. Never refuses: the past happened."""
        ...


A = TypeVar("A", bound=Aggregate)
Decision = Callable[[A], Sequence[Event]]


class Streams(Protocol):
    """Implemented over the event store. Every append is durable when it returns."""

    async def load(self, aggregate: type[A], stream_id: UUID) -> A:
        """The state now; the empty state when the stream has no events."""
        ...

    async def transact(self, aggregate: type[A], stream_id: UUID, owner_id: UserId, decide: Decision[A]) -> str:
        """Decide on the latest state and append; decide again when another append came first.

        Returns the token of a position that covers what was decided on and what was appended: a read that
        waits for it sees this write, and the earlier one that made a repeat decide nothing. What `decide`
        refuses is raised. `StreamContended` when others keep coming first.
        """
        ...


class StreamContended(DomainError):
    """Others kept appending to this stream first. Nothing was changed; trying again later is safe."""

    code = "stream-contended"


class MalformedPosition(DomainError):
    """The text is no position token: send `Cairn-Position` back as it came, or leave the header out."""

    code = "malformed-position"
