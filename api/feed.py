"""The feed: one's own runs and those of the runners one follows."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api.activities import ActivityPage, card_seen
from api.codec import answer
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.openapi import answers
from api.pages import Cursor, Limit, place_of
from domain.measures import Visibility
from projections.activities import cards
from projections.feed import feed_page
from projections.people import people

router = APIRouter(tags=["feed"])


@router.get("/feed", responses=answers(400, 401, ok=ActivityPage))
async def feed(
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
        entries = page.entries
        shown = await cards(view, [activity_id for activity_id, _ in entries])
        names = await people(view, list({card.user_id for card in shown.values()}))
    # the feed and the cards are filled side by side: an entry may be a moment ahead of its card, or behind it
    found = [shown[activity_id] for activity_id, _ in entries if activity_id in shown]
    seen = [card for card in found if card.visibility is not Visibility.PRIVATE and card.user_id in names]
    items = [card_seen(card, names[card.user_id].display_name) for card in seen]
    more = services.cursors.write(entries[-1][1], user_id, "feed") if len(entries) == limit else None
    # an empty page does not say who is merged, and of an entry that is ahead of its card nobody would say that it came
    whole = bool(entries) and len(found) == len(entries)
    keep = fresh.keep(user_id, *page.merged, *(card.user_id for card in found)) if whole else None
    return answer(request, ActivityPage(items, more), fresh.headers, keep)
