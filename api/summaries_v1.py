"""Sums as `/v1` tells them, for apps that are out there: another shape of what `api/summaries.py` reads."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from msgspec import Struct
from msgspec.structs import asdict

from api.codec import answer
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.deprecation import deprecated
from api.front.request import Request
from api.local_time import A_DATE, date_of
from api.openapi import answers
from api.summaries import SummaryPeriod, Sums, bounds, by_period, total
from domain.measures import Sport
from projections.summaries import Day, days

router = APIRouter(tags=["summaries"])


class Summary(Sums, frozen=True, kw_only=True):
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
@deprecated(since=date(2026, 11, 26), sunset=date(2027, 11, 26), successor="/v2/me/summaries")
async def get_summaries(
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
    last = date.max if to_date is None else date_of(to_date)
    async with fresh.view() as view:
        found = await days(view, user_id, bounds(period, first)[0], bounds(period, last)[1])
    wanted = by_period(period, (day for day in found if sport is None or day.sport is sport))
    items = [summary_of(period, window, inside, sport) for window, inside in reversed(wanted.items())]
    tomorrow = datetime.combine(today + timedelta(days=1), time.min, UTC)
    return answer(request, Summaries(items), fresh.headers, fresh.keep(user_id, until=tomorrow))


def summary_of(
    period: SummaryPeriod, window: tuple[date, date], found: Sequence[Day], sport: Sport | None = None
) -> Summary:
    """A period's days, added up."""
    starts_on, ends_on = (None, None) if period is SummaryPeriod.ALL else window
    return Summary(
        **asdict(total(found)),
        period=period,
        starts_on=starts_on,
        ends_on=ends_on,
        sport=sport,
        by_sport={
            one: total(day for day in found if day.sport is one) for one in dict.fromkeys(d.sport for d in found)
        },
    )
