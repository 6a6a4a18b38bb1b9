"""What is told to whom when something happens: decided here, told once, never again by a replay."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from domain.events.event import Event, Recorded
from domain.events.follow import FollowStarted
from domain.measures import UserId


class Notice(Struct, frozen=True):
    """A message to one runner about another. It says nothing private: names are looked up when it is read."""

    recipient_id: UserId
    kind: str
    about_id: UserId


class Reaction(Struct, frozen=True):
    """Events of some kinds, and what is told when one comes. Its name is stored for ever.

    Events come with their private fields redacted: a notice says nothing private.
    """

    name: str
    events: tuple[type[Event], ...]
    tell: Callable[[Recorded], Iterable[Notice]]


def _new_follower(recorded: Recorded) -> Iterable[Notice]:
    """The first time only: who follows, stops and follows again would fill another's list."""
    event = recorded.event
    if isinstance(event, FollowStarted) and recorded.version == 1:
        yield Notice(event.followee_id, "new_follower", event.follower_id)


NEW_FOLLOWER: Final = Reaction("new-follower", (FollowStarted,), _new_follower)
REACTIONS: Final[Mapping[str, Reaction]] = {reaction.name: reaction for reaction in (NEW_FOLLOWER,)}
