"""A runner's goals and how far along they are."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from msgspec import Meta, Struct
from msgspec.structs import asdict

from api.codec import answer, body_of, no_content
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.front.request import Request
from api.local_time import end_of, today_of
from api.openapi import answers, json_body
from domain.events.activity import Tally
from domain.goal import Goal, Target, goal_stream_id, progress
from domain.measures import GoalId, GoalMetric, Period, Sport
from projections.goals import GoalRow, goals_of
from projections.people import people
from projections.summaries import Day, days

router = APIRouter(tags=["goals"])


class GoalWish(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A goal to set. `target` is in metres, seconds, activities or metres, by metric."""

    metric: GoalMetric
    target: Annotated[float, Meta(ge=0.01, le=1e12)]
    period: Period
    starts_on: date
    ends_on: date | None = None
    sport: Sport | None = None


class GoalSeen(Struct, frozen=True, kw_only=True):
    """A goal and its current period: how much is done, as a number and as a fraction of the target."""

    goal_id: GoalId
    metric: GoalMetric
    target: float
    period: Period
    starts_on: date
    ends_on: date | None
    sport: Sport | None
    period_starts_on: date
    period_ends_on: date | None
    progress: float
    fraction: float
    on_pace: bool


class GoalList(Struct, frozen=True):
    """All goals of a runner, the earliest start first."""

    items: list[GoalSeen]


@router.put(
    "/me/goals/{goal_id}",
    status_code=204,
    openapi_extra=json_body(GoalWish),
    responses=answers(401, 422, no_content=None),
)
async def set_goal(
    goal_id: UUID,
    user_id: CurrentUser,
    wish: Annotated[GoalWish, Depends(body_of(GoalWish))],
    services: ServicesDep,
) -> Response:
    """Set or change a goal. Runs from its first day on count, also those recorded before it was set."""
    target, own_id, now = Target(**asdict(wish)), GoalId(goal_id), services.clock()
    position = await services.streams.transact(
        Goal, goal_stream_id(user_id, own_id), user_id, lambda goal: goal.set(user_id, own_id, target, now)
    )
    return no_content(position)


@router.delete("/me/goals/{goal_id}", status_code=204, responses=answers(401, no_content=None))
async def drop_goal(goal_id: UUID, user_id: CurrentUser, services: ServicesDep) -> Response:
    """Remove a goal. Removing twice, or one that never was, changes nothing."""
    own_id, now = GoalId(goal_id), services.clock()
    position = await services.streams.transact(
        Goal, goal_stream_id(user_id, own_id), user_id, lambda goal: goal.drop(user_id, own_id, now)
    )
    return no_content(position)


@router.get("/me/goals", responses=answers(401, ok=GoalList))
async def get_goals(
    request: Request,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("goals", "summaries", "people"))],
) -> Response:
    """All goals with their progress today, by the runner's own calendar."""
    async with fresh.view() as view:
        person = (await people(view, [user_id])).get(user_id)
        zone = person.time_zone if person else None
        today = today_of(zone, services.clock())
        rows = await goals_of(view, user_id)
        done = await days(view, user_id, *goals_span(rows, today)) if rows else []
    keep = fresh.keep(user_id, until=end_of(today, zone))
    return answer(request, GoalList(goals_seen(rows, done, today)), fresh.headers, keep)


def goals_span(rows: Sequence[GoalRow], today: date) -> tuple[date, date]:
    """The first and the last day that the current periods of these goals count; today where there are none."""
    windows = [_target(row).window(today) for row in rows]
    first = min((first for first, _ in windows), default=today)
    return first, max((last or date.max for _, last in windows), default=today)


def goals_seen(rows: Sequence[GoalRow], done: Sequence[Day], today: date) -> list[GoalSeen]:
    """The goals with their progress, of days that cover their span."""
    tallies = [(_tally(day), day.count) for day in done]
    return [_seen(row, tallies, today) for row in rows]


def _seen(row: GoalRow, done: list[tuple[Tally, int]], today: date) -> GoalSeen:
    along = asdict(progress(_target(row), done, today))
    return GoalSeen(**{name: value for name, value in asdict(row).items() if name != "user_id"}, **along)


def _target(row: GoalRow) -> Target:
    return Target(
        metric=row.metric,
        target=row.target,
        period=row.period,
        starts_on=row.starts_on,
        ends_on=row.ends_on,
        sport=row.sport,
    )


def _tally(day: Day) -> Tally:
    return Tally(
        sport=day.sport,
        local_date=day.local_date,
        distance_m=day.distance_m,
        elapsed_s=day.elapsed_s,
        moving_s=day.moving_s,
        elevation_gain_m=day.elevation_gain_m,
    )
