"""Facts about a runner's own goals. The stream is the pair of runner and goal id."""

from datetime import date
from typing import ClassVar

from domain.events.event import Event
from domain.measures import GoalId, GoalMetric, Period, Sport, UserId


class GoalSet(Event, frozen=True, kw_only=True):
    """The whole goal as it is from now on. Runs before it count too, from `starts_on`."""

    TOPIC: ClassVar[str] = "goal.set@1"
    user_id: UserId
    goal_id: GoalId
    metric: GoalMetric
    target: float  # metres, seconds, 1 or metres, by metric
    period: Period
    starts_on: date
    ends_on: date | None = None
    sport: Sport | None = None  # None: every sport


class GoalDropped(Event, frozen=True, kw_only=True):
    """The goal is gone from the runner's list."""

    TOPIC: ClassVar[str] = "goal.dropped@1"
    user_id: UserId
    goal_id: GoalId
