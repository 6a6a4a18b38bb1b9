"""The one call of an app at launch."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Response
from msgspec import Struct

from api.activities import ActivityPage, activities_seen
from api.changes import (
    MIRRORED,
    ChangeSeen,
    Unseen,
    activities_in,
    changes_seen,
    followees_in,
    nothing_unseen,
    unseen_changes,
)
from api.client_config import VARY, ClientConfig, read_config, unit_of
from api.codec import answer
from api.dependencies import AskingClient, CurrentUser, Reads, ServicesDep, kept_as, reads
from api.feed import feed_about, feed_seen
from api.front.request import Request
from api.goals import GoalSeen, goals_seen, goals_span
from api.local_time import end_of, today_of
from api.notices import Notifications, notices_seen
from api.openapi import answers
from api.pages import Since
from api.services import Services
from api.summaries import SummaryPeriod, bounds
from api.summaries_v1 import Summary, summary_of
from api.users import Me, read_me
from domain.client_settings import Purpose
from domain.measures import UserId, Visibility
from projections.activities import cards, cards_of
from projections.feed import feed_page
from projections.goals import GoalRow, goals_of
from projections.people import people
from projections.projection import BEFORE_ALL, View
from projections.summaries import Day, days

router = APIRouter(tags=["client"])

_PAGE: Final = 20  # of lists: what fills a screen
_CHANGES: Final = 100


class Bootstrap(Struct, frozen=True, kw_only=True):
    """All that the first screen shows, and where an app goes on from."""

    me: Me
    config: ClientConfig
    notifications: Notifications
    goals: list[GoalSeen]
    week: Summary  # this week, from Monday, by the runner's own calendar
    feed: ActivityPage
    activities: ActivityPage | None  # one's own, the latest first; null with `since`
    changes: list[ChangeSeen]  # empty without `since`
    has_more: bool  # more changes: ask /v1/changes?since=CURSOR at once
    cursor: str  # for the next /v1/bootstrap or /v1/changes
    next_poll_at: datetime


@router.get("/bootstrap", responses=answers(400, 401, 410, ok=Bootstrap))
async def get_bootstrap(
    request: Request,
    user_id: CurrentUser,
    client: AskingClient,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads(*MIRRORED, "feed", "summaries", "reactors"))],
    since: Since = None,
) -> Response:
    """Profile, configuration, notifications, goals, this week, and the first page of the feed, in one call.

    With the cursor of the last answer also what changed since then; without it the first page of own activities. 410
    `resync-needed`: ask again without the cursor.
    """
    seen, now = fresh.seen(), services.clock()  # before anything is read
    me, config = await read_me(services, user_id), await read_config(services, user_id, client)
    notices = await services.notices.of(user_id, BEFORE_ALL, _PAGE)
    today = today_of(me.time_zone, now)
    async with fresh.view() as view:
        found = await _since(view, services, user_id, since)
        own = await cards_of(view, user_id, list(Visibility), BEFORE_ALL, _PAGE) if since is None else None
        rows = await goals_of(view, user_id)
        done = await days(view, user_id, *_span(rows, today))
        page = await feed_page(view, user_id, BEFORE_ALL, _PAGE)
        shown = await cards(view, [*activities_in(found.rows), *(activity_id for activity_id, _ in page.entries)])
        named = {user_id, *followees_in(found.rows), *(card.user_id for card in shown.values())}
        named.update(UserId(notice.about_id) for notice in notices)
        runners = await people(view, list(named))
    goals = goals_seen(rows, done, today)
    next_poll_at = services.client_settings.current.settings.next_at(Purpose.SYNC, unit_of(user_id, client), now)
    about, until = feed_about(page, shown), min(next_poll_at, end_of(today, me.time_zone))
    keep = kept_as(seen, {*named, *about}, until) if found.whole and about is not None else None
    told = Bootstrap(
        me=me,
        config=config,
        notifications=notices_seen(services, user_id, notices, runners, _PAGE),
        goals=goals,
        week=_week(done, today),
        feed=feed_seen(services, user_id, page.entries, shown, runners, _PAGE),
        activities=None if own is None else activities_seen(services, user_id, own, user_id, me.display_name, _PAGE),
        changes=changes_seen(found.rows, shown, runners, goals, me),
        has_more=found.has_more,
        cursor=found.next_cursor,
        next_poll_at=next_poll_at,
    )
    return answer(request, told, {**VARY, **fresh.headers}, keep)


async def _since(view: View, services: Services, user_id: UserId, cursor: str | None) -> Unseen:
    if cursor is None:
        return await nothing_unseen(view, services, user_id)
    return await unseen_changes(view, services, user_id, cursor, _CHANGES)


def _span(goals: Sequence[GoalRow], today: date) -> tuple[date, date]:
    """The days of the goals and of this week."""
    (first, last), (monday, sunday) = goals_span(goals, today), bounds(SummaryPeriod.WEEK, today)
    return min(first, monday), max(last, sunday)


def _week(done: Sequence[Day], today: date) -> Summary:
    monday, sunday = bounds(SummaryPeriod.WEEK, today)
    inside = [day for day in done if monday <= day.local_date <= sunday]
    return summary_of(SummaryPeriod.WEEK, (monday, sunday), inside)
