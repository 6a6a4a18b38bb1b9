"""Every fact that can be stored, by its topic. A new event is listed here, with a stored sample in the tests."""

from typing import Final

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.event import Event
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.goal import GoalDropped, GoalSet
from domain.events.user import ProfileChanged, UserRegistered

EVENTS: Final[tuple[type[Event], ...]] = (
    ActivityDeleted,
    ActivityEdited,
    ActivityRecorded,
    FollowEnded,
    FollowStarted,
    GoalDropped,
    GoalSet,
    ProfileChanged,
    UserRegistered,
)
