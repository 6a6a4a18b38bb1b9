"""Sums over days, weeks, months, years and all time."""

from calendar import monthrange
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec import Struct

from api.codec import answer
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.local_time import A_DATE, date_of
from api.openapi import answers
from domain.measures import Sport
from projections.summaries import Day, days

router = APIRouter(tags=["summaries"])


class SummaryPeriod(StrEnum):
    """How long each sum is. Weeks start on Monday (ISO 8601)."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    ALL = "all"


class Sums(Struct, kw_only=True):
    """What was done, added up: activities, metres, seconds, seconds, metres."""

    count: int = 0
    distance_m: float = 0.0
    elapsed_s: float = 0.0
    moving_s: float = 0.0
    elevation_gain_m: float = 0.0

    def add(self, day: Day) -> None:
        """Count the day in."""
        self.count += day.count
        self.distance_m = round(self.distance_m + day.distance_m, 3)
        self.elapsed_s = round(self.elapsed_s + day.elapsed_s, 3)
        self.moving_s = round(self.moving_s + day.moving_s, 3)
        self.elevation_gain_m = round(self.elevation_gain_m + day.elevation_gain_m, 3)


class Summary(Sums, kw_only=True):
    """A period's sums, over every sport asked for, and by sport."""

    period: SummaryPeriod
    starts_on: date | None  # None: all time
    ends_on: date | None
    sport: Sport | None
    by_sport: dict[Sport, Sums]


class Summaries(Struct, frozen=True):
    """Periods in which something was done, the latest first."""

    items: list[Summary]
    next_cursor: str | None = None  # the whole span is in one page


@router.get("/me/summaries", responses=answers(401, 422, ok=Summaries))
async def summaries(
    request: Request,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("summaries"))],
    period: SummaryPeriod = SummaryPeriod.WEEK,
    from_date: Annotated[str | None, Query(alias="from", **A_DATE)] = None,
    to_date: Annotated[str | None, Query(alias="to", **A_DATE)] = None,
    sport: Sport | None = None,
) -> Response:
    """Sums by period, by the local dates of the runs. `from` and `to` (both counted) widen to whole periods;
    without them it is all there is, and for days the last year.
    """
    today = services.clock().astimezone(UTC).date()
    if from_date is not None:
        first = date_of(from_date)
    else:
        first = today - timedelta(days=366) if period is SummaryPeriod.DAY else date.min
    starts_on = bounds(period, first)[0] or date.min
    ends_on = bounds(period, date.max if to_date is None else date_of(to_date))[1] or date.max
    async with fresh.view() as view:
        found = await days(view, user_id, starts_on, ends_on)
    wanted = (day for day in found if sport is None or day.sport is sport)
    tomorrow = datetime.combine(today + timedelta(days=1), time.min, UTC)
    page = Summaries(summed(wanted, period, sport))
    return answer(request, page, fresh.headers, fresh.keep(user_id, until=tomorrow))


def summed(found: Iterable[Day], period: SummaryPeriod, sport: Sport | None = None) -> list[Summary]:
    """Days in their order, added up by period, the latest first."""
    sums: dict[Any, Summary] = {}
    for day in found:
        starts_on, ends_on = span = bounds(period, day.local_date)
        if span not in sums:
            sums[span] = Summary(period=period, starts_on=starts_on, ends_on=ends_on, sport=sport, by_sport={})
        sums[span].add(day)
        sums[span].by_sport.setdefault(day.sport, Sums()).add(day)
    return list(reversed(sums.values()))


def bounds(period: SummaryPeriod, day: date) -> tuple[date | None, date | None]:
    """First and last day of the period that holds the day."""
    match period:
        case SummaryPeriod.DAY:
            return day, day
        case SummaryPeriod.WEEK:
            monday = day - timedelta(days=day.weekday())
            return monday, monday + min(timedelta(days=6), date.max - monday)
        case SummaryPeriod.MONTH:
            return day.replace(day=1), day.replace(day=monthrange(day.year, day.month)[1])
        case SummaryPeriod.YEAR:
            return date(day.year, 1, 1), date(day.year, 12, 31)
        case SummaryPeriod.ALL:
            return None, None
