"""Sums over days, weeks, months, years and all time, as `/v2` tells them; `api/summaries_v1.py`: as `/v1` does."""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from msgspec import Struct
from msgspec.structs import asdict

from api.codec import answer
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.front.request import Request
from api.local_time import end_of, today_of
from api.openapi import answers
from api.pages import Cursor
from domain.measures import Sport
from projections.people import people
from projections.summaries import Day, days, span

router = APIRouter(tags=["summaries"])

_NO_ITEM: Final = UUID(int=0)  # a cursor here is a date alone
_DAY: Final = timedelta(days=1)


class SummaryPeriod(StrEnum):
    """How long each sum is. Weeks start on Monday (ISO 8601)."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    ALL = "all"


class Sums(Struct, frozen=True, kw_only=True):
    """What was done, added up: activities, metres, seconds, seconds, metres."""

    count: int
    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float


class SportSums(Sums, frozen=True, kw_only=True):
    """What was done of one sport."""

    sport: Sport


class PeriodSums(Struct, frozen=True, kw_only=True):
    """A period, its first and last day, what was done in it, and what of that by sport, the longest time first."""

    starts_on: date
    ends_on: date
    total: Sums
    by_sport: list[SportSums]


class SummaryPage(Struct, frozen=True, kw_only=True):
    """Periods without a gap, the latest first, from the one that it is today."""

    period: SummaryPeriod
    items: list[PeriodSums]
    next_cursor: str | None


@router.get("/me/summaries", responses=answers(401, 422, ok=SummaryPage))
async def get_summaries_v2(
    request: Request,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("summaries", "people"))],
    period: SummaryPeriod = SummaryPeriod.WEEK,
    limit: Annotated[int, Query(ge=1, le=100)] = 12,
    cursor: Cursor = None,
) -> Response:
    """Sums by period, back to the first run, by the local dates of the runs and the runner's own calendar.

    A period in which nothing was done is there too, with zeros: a chart needs no calendar of its own.
    """
    scope = (user_id, "summaries", period)
    before = services.cursors.read(cursor, *scope)[0].date() if cursor is not None else None
    async with fresh.view() as view:
        person = (await people(view, [user_id])).get(user_id)
        zone = person.time_zone if person else None
        today = today_of(zone, services.clock())
        first, last = await span(view, user_id) or (today, today)
        windows = list(_windows(period, before or max(today, last), min(first, today), limit))
        found = await days(view, user_id, windows[-1][0], windows[0][1])
    grouped = by_period(period, found)
    items = [_seen(window, grouped.get(bounds(period, window[0]), ())) for window in windows]
    older = windows[-1][0] - _DAY if windows[-1][0] > first else None
    more = services.cursors.write((datetime.combine(older, time(), UTC), _NO_ITEM), *scope) if older else None
    page = SummaryPage(period=period, items=items, next_cursor=more)
    return answer(request, page, fresh.headers, fresh.keep(user_id, until=end_of(today, zone)))


def _windows(period: SummaryPeriod, newest: date, oldest: date, most: int) -> Iterator[tuple[date, date]]:
    """First and last days of periods, from the one that holds the newest day back to the one that holds the oldest."""
    if period is SummaryPeriod.ALL:
        yield oldest, newest
        return
    for _ in range(most):
        starts_on, ends_on = bounds(period, newest)
        yield starts_on, ends_on
        if starts_on <= oldest:
            return
        newest = starts_on - _DAY


def _seen(window: tuple[date, date], found: Sequence[Day]) -> PeriodSums:
    sports = {
        sport: SportSums(sport=sport, **asdict(total(day for day in found if day.sport is sport)))
        for sport in {day.sport for day in found}
    }
    longest_first = sorted(sports.values(), key=lambda one: (-one.moving_s, one.sport))
    return PeriodSums(starts_on=window[0], ends_on=window[1], total=total(found), by_sport=longest_first)


def by_period(period: SummaryPeriod, found: Iterable[Day]) -> dict[tuple[date, date], list[Day]]:
    """The days by the bounds of the period that holds them."""
    grouped: dict[tuple[date, date], list[Day]] = {}
    for day in found:
        grouped.setdefault(bounds(period, day.local_date), []).append(day)
    return grouped


def total(found: Iterable[Day]) -> Sums:
    """The days added up, to the millimetre and millisecond."""
    added = list(found)
    return Sums(
        count=sum(day.count for day in added),
        distance_m=round(sum(day.distance_m for day in added), 3),
        elapsed_s=round(sum(day.elapsed_s for day in added), 3),
        moving_s=round(sum(day.moving_s for day in added), 3),
        elevation_gain_m=round(sum(day.elevation_gain_m for day in added), 3),
    )


def bounds(period: SummaryPeriod, day: date) -> tuple[date, date]:
    """First and last day of the period that holds the day; for all time, of the calendar."""
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
            return date.min, date.max
