"""The feed: one's own runs and those of the runners one follows."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from api.activities import ActivityPage, card_seen
from api.codec import answer
from api.cursors import Place
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.front.request import Request
from api.openapi import answers
from api.pages import Cursor, Limit, place_of
from api.services import Services
from domain.measures import ActivityId, UserId, Visibility
from projections.activities import Card, cards
from projections.feed import FeedPage, feed_page
from projections.people import Person, people

router = APIRouter(tags=["feed"])

Entry = tuple[ActivityId, Place]


@router.get("/feed", responses=answers(400, 401, ok=ActivityPage))
async def get_feed(
    request: Request,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("feed", "activities", "people"))],
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """A page of the feed, the latest start first: three queries, whatever its length."""
    before = place_of(cursor, services, user_id, "feed")
    async with fresh.view() as view:
        page = await feed_page(view, user_id, before, limit)
        shown = await cards(view, [activity_id for activity_id, _ in page.entries])
        names = await people(view, list({card.user_id for card in shown.values()}))
    about = feed_about(page, shown)
    keep = None if about is None else fresh.keep(user_id, *about)
    return answer(request, feed_seen(services, user_id, page.entries, shown, names, limit), fresh.headers, keep)


def feed_about(page: FeedPage, shown: Mapping[ActivityId, Card]) -> Collection[UserId] | None:
    """Who, beside the viewer, may change the page. None: an entry is ahead of its card, and nobody would tell the
    viewer that it came.
    """
    if any(activity_id not in shown for activity_id, _ in page.entries):
        return None
    return {*page.merged, *(shown[activity_id].user_id for activity_id, _ in page.entries)}


def feed_seen(
    services: Services,
    user_id: UserId,
    entries: Sequence[Entry],
    shown: Mapping[ActivityId, Card],
    names: Mapping[UserId, Person],
    limit: int,
) -> ActivityPage:
    """A page of so many entries with their cards.

    Both are filled side by side: an entry may be a moment ahead of its card, or behind it.
    """
    found = [shown[activity_id] for activity_id, _ in entries if activity_id in shown]
    seen = [card for card in found if card.visibility is not Visibility.PRIVATE and card.user_id in names]
    more = services.cursors.write(entries[-1][1], user_id, "feed") if len(entries) == limit else None
    return ActivityPage([card_seen(card, names[card.user_id].display_name) for card in seen], more)
