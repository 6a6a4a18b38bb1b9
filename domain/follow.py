"""One runner following another."""

from datetime import datetime
from typing import ClassVar, Self
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from domain.errors import DomainError, UnknownEvent
from domain.events.event import Event
from domain.events.follow import FollowEnded, FollowStarted
from domain.measures import UserId, derived_id


def follow_id(follower_id: UserId, followee_id: UserId) -> UUID:
    """The stream of this pair: repeats of a follow always meet it."""
    return derived_id("follow", follower_id, followee_id)


class Follow(Struct, frozen=True):
    """Whether the follower follows."""

    STATE: ClassVar[str] = "follow@1"

    active: bool = False

    def start(self, follower_id: UserId, followee_id: UserId, at: datetime) -> list[Event]:
        """Follow. Following twice changes nothing."""
        if follower_id == followee_id:
            raise CannotFollowYourself
        return [] if self.active else [FollowStarted(follower_id=follower_id, followee_id=followee_id, at=at)]

    def end(self, follower_id: UserId, followee_id: UserId, at: datetime) -> list[Event]:
        """Stop following. Stopping twice, or before it began, changes nothing."""
        return [FollowEnded(follower_id=follower_id, followee_id=followee_id, at=at)] if self.active else []

    def evolve(self, event: Event) -> Self:
        """The pair after `event`."""
        match event:
            case FollowStarted():
                return replace(self, active=True)
            case FollowEnded():
                return replace(self, active=False)
            case _:
                raise UnknownEvent(self, event)


class CannotFollowYourself(DomainError):
    """A runner's own runs are in their feed already."""

    code = "cannot-follow-yourself"
