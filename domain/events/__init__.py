"""Every fact that can be stored, by its topic. A new event is listed here, with a stored sample in the tests."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.event import Event
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.goal import GoalDropped, GoalSet
from domain.events.packing import pack_json
from domain.events.user import ProfileChanged, UserErased, UserRegistered

EVENTS: Final[tuple[type[Event], ...]] = (
    ActivityDeleted,
    ActivityEdited,
    ActivityRecorded,
    FollowEnded,
    FollowStarted,
    GoalDropped,
    GoalSet,
    ProfileChanged,
    UserErased,
    UserRegistered,
)


def _packed(fields: dict[str, Any]) -> dict[str, Any]:
    """What was measured was JSON; where it is sealed there is none."""
    if "measured" in fields:
        fields["measured"] = pack_json(msgspec.json.encode(fields["measured"]))
    return fields


# From an older topic to the next one, and what that does to the stored fields. Old rows are never rewritten: they are
# brought to today's shape each time they are read. A field with a default is added by `lambda fields: fields`.
UPCASTS: Final[Mapping[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]]] = {
    "activity.edited@1": ("activity.edited@2", lambda fields: fields),  # notes
    "activity.recorded@1": ("activity.recorded@2", _packed),
}
