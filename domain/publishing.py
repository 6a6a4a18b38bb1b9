"""What everybody may see without signing in, by the keys under which shared caches keep it and drop it again."""

from collections.abc import Iterator
from uuid import UUID

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.event import Recorded
from domain.events.user import ProfileChanged, UserErased
from domain.measures import Visibility


class CacheAway(Exception):
    """A shared cache was not reached, or refused. Nothing is lost: it is told again."""


def activity_key(activity_id: UUID) -> str:
    """Of every page about this activity."""
    return f"activity-{activity_id}"


def list_key(user_id: UUID) -> str:
    """Of every page that lists this runner's public activities."""
    return f"list-{user_id}"


def user_key(user_id: UUID) -> str:
    """Of every page that names this runner."""
    return f"user-{user_id}"


def changed_by(recorded: Recorded) -> Iterator[str]:
    """The keys of the pages that this event may have changed, also of those that say that there is nothing.

    An edit does not say what was visible before it: its pages count as changed, whatever it did.
    """
    match recorded.event:
        case ActivityRecorded(visibility=Visibility.PUBLIC) | ActivityEdited() | ActivityDeleted() as event:
            yield activity_key(event.activity_id)
            yield list_key(event.user_id)
        case ProfileChanged() | UserErased():
            yield user_key(recorded.owner_id)
