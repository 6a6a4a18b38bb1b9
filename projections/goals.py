"""A runner's goals as they are set. How far along they are is added up from the summaries when read."""

from collections.abc import Iterable
from datetime import date
from typing import Final

import msgspec
from msgspec import Struct

from domain.events.event import Recorded
from domain.events.goal import GoalDropped, GoalSet
from domain.measures import GoalId, GoalMetric, Period, Sport, UserId
from projections.projection import Fold, Key, Projection, Query, Table, View


class GoalRow(Struct, frozen=True, kw_only=True, gc=False):
    """A goal as set."""

    user_id: UserId
    goal_id: GoalId
    metric: GoalMetric
    target: float
    period: Period
    starts_on: date
    ends_on: date | None
    sport: Sport | None


class GoalRows(Fold[GoalRow]):
    """Goals by runner and goal id."""

    table = Table(name="goals", row=GoalRow, key=("user_id", "goal_id"), owner="user_id")
    events = (GoalSet, GoalDropped)
    reads_private = False

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The goal's own row."""
        match recorded.event:
            case GoalSet(user_id=user_id, goal_id=goal_id) | GoalDropped(user_id=user_id, goal_id=goal_id):
                return ((user_id, goal_id),)
        return ()

    def fold(self, key: Key, row: GoalRow | None, recorded: Recorded) -> GoalRow | None:  # noqa: ARG002 - the key is in the event
        """The goal as it was set last; none once it is dropped."""
        match recorded.event:
            case GoalSet() as goal:
                return GoalRow(
                    user_id=goal.user_id,
                    goal_id=goal.goal_id,
                    metric=goal.metric,
                    target=goal.target,
                    period=goal.period,
                    starts_on=goal.starts_on,
                    ends_on=goal.ends_on,
                    sport=goal.sport,
                )
            case GoalDropped():
                return None
        return row


GOALS: Final = Projection(name="goals", version=1, folds=(GoalRows(),))


async def goals_of(view: View, user_id: UserId) -> list[GoalRow]:
    """A runner's goals, the earliest start first."""
    return [msgspec.convert(row, GoalRow, strict=False) for row in await view.rows(_OF_USER, (user_id,))]


_OF_USER: Final = Query(
    "goals",
    """
    SELECT user_id, goal_id, metric, target, period, starts_on, ends_on, sport
    FROM {s}.goals WHERE user_id = %s ORDER BY starts_on, goal_id
    """,
)
