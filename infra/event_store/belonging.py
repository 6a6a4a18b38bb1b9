"""Where an event belongs by what it says: its row must say the same.

Ids are stored twice, in the row and in the event, of which the event's are not sealed: bytes that a disk changed there
would give a run to somebody else in the next build of a projection.
"""

from collections.abc import Iterator
from uuid import UUID

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.event import Event
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.goal import GoalDropped, GoalSet
from domain.events.user import ProfileChanged, UserErased, UserRegistered
from domain.follow import follow_id
from domain.goal import goal_stream_id
from domain.measures import UserId
from domain.user import user_stream_id
from infra.event_store.rows import Row


def strayed(event: Event, row: Row) -> Iterator[str]:
    """Why an event is none of its row's owner, or none of its row's stream."""
    owner_id, stream_id = _place(event, UserId(row.owner_id))
    if owner_id != row.owner_id:
        yield f"its owner is {row.owner_id}, and it is told of user {owner_id}"
    if stream_id != row.stream_id:
        yield f"by the ids in it, it belongs to stream {stream_id}"


def _place(event: Event, owner_id: UserId) -> tuple[UserId, UUID]:
    """Its owner and its stream. What happens to an account names nobody: it is the owner's."""
    match event:
        case ActivityRecorded() | ActivityEdited() | ActivityDeleted():
            return event.user_id, event.activity_id
        case FollowStarted() | FollowEnded():
            return event.follower_id, follow_id(event.follower_id, event.followee_id)
        case GoalSet() | GoalDropped():
            return event.user_id, goal_stream_id(event.user_id, event.goal_id)
        case UserRegistered() | ProfileChanged() | UserErased():
            return owner_id, user_stream_id(owner_id)
        case _:
            raise TypeError(f"say where {type(event).__name__} belongs")
