"""A runner's goals as they are set. How far along they are is added up from the summaries when read."""

from collections.abc import Iterable
from datetime import date
from typing import ClassVar

import msgspec
from msgspec import Struct
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from domain.events.event import Event, Recorded
from domain.events.goal import GoalDropped, GoalSet
from domain.measures import GoalId, GoalMetric, Period, Sport, UserId
from projections.projection import statement
from projections.rows import Folded, Key, Table


class GoalRow(Struct, frozen=True, kw_only=True):
    """A goal as set."""

    user_id: UserId
    goal_id: GoalId
    metric: GoalMetric
    target: float
    period: Period
    starts_on: date
    ends_on: date | None
    sport: Sport | None


class Goals(Folded[GoalRow]):
    """Goals by runner and goal id."""

    name: ClassVar[str] = "goals"
    version: ClassVar[int] = 1
    table = Table(
        name="goals",
        row=GoalRow,
        key=("user_id", "goal_id"),
        types={
            "user_id": "uuid",
            "goal_id": "uuid",
            "metric": "text",
            "target": "double precision",
            "period": "text",
            "starts_on": "date",
            "ends_on": "date",
            "sport": "text",
        },
    )

    def keys(self, event: Event) -> Iterable[Key]:
        """The goal's own row."""
        match event:
            case GoalSet() | GoalDropped():
                yield event.user_id, event.goal_id

    def fold(self, key: Key, row: GoalRow | None, recorded: Recorded) -> GoalRow | None:  # noqa: ARG002 - the key is in the event
        """Live pages and replays both come through here."""
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
            case _:
                return row


async def goals_of(connection: AsyncConnection, user_id: UserId) -> list[GoalRow]:
    """A runner's goals, the earliest start first."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_OF_USER, (user_id,))
        return [msgspec.convert(row, GoalRow, strict=False) async for row in cursor]


_OF_USER = statement(
    Goals,
    """
    SELECT user_id, goal_id, metric, target, period, starts_on, ends_on, sport
    FROM {s}.goals WHERE user_id = %s ORDER BY starts_on, goal_id
    """,
)
