"""Facts about one runner following another. The stream is the pair, owned by the follower."""

from typing import ClassVar

from domain.events.event import Event
from domain.measures import UserId


class FollowStarted(Event, frozen=True, kw_only=True):
    """From now on, and for what is already there, the followee's runs are in the follower's feed."""

    TOPIC: ClassVar[str] = "follow.started@1"
    follower_id: UserId
    followee_id: UserId


class FollowEnded(Event, frozen=True, kw_only=True):
    """The followee's runs leave the follower's feed."""

    TOPIC: ClassVar[str] = "follow.ended@1"
    follower_id: UserId
    followee_id: UserId
