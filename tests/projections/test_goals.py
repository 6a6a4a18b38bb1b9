from datetime import date
from uuid import UUID

from msgspec.structs import replace
from psycopg import Connection

from domain.events.goal import GoalDropped, GoalSet
from domain.measures import GoalId, GoalMetric, Period
from projections.goals import GOALS, goals_of
from projections.projection import View
from tests.scenarios import ANNA, BEN, MAY_1, project

SET = GoalSet(
    user_id=ANNA,
    goal_id=GoalId(UUID(int=1)),
    metric=GoalMetric.DISTANCE,
    target=30_000.0,
    period=Period.WEEK,
    starts_on=date(2026, 5, 1),
    at=MAY_1,
)


async def test_a_goal_is_listed_as_it_was_set_last(database: Connection, queries: View) -> None:
    project(GOALS, database, SET, replace(SET, target=40_000.0))
    assert [goal.target for goal in await goals_of(queries, ANNA)] == [40_000.0]


async def test_a_dropped_goal_is_gone(database: Connection, queries: View) -> None:
    project(GOALS, database, SET, GoalDropped(user_id=ANNA, goal_id=SET.goal_id, at=MAY_1))
    assert await goals_of(queries, ANNA) == []


async def test_two_runners_may_use_the_same_goal_id(database: Connection, queries: View) -> None:
    project(GOALS, database, SET, replace(SET, user_id=BEN, target=1.0))
    assert [goal.target for goal in await goals_of(queries, BEN)] == [1.0]
    assert [goal.target for goal in await goals_of(queries, ANNA)] == [30_000.0]
