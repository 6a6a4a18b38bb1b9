"""What a runner is told: for now that somebody follows them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from msgspec import Struct

from api.codec import answer
from api.dependencies import CurrentUser, Reads, ServicesDep, kept_as, reads
from api.front.request import Request
from api.openapi import answers
from api.pages import Cursor, Limit, place_of
from api.services import Notice, Services
from domain.measures import UserId
from projections.people import Person, people

router = APIRouter(tags=["notifications"])


class Notification(Struct, frozen=True):
    """One message. `kind` is `new_follower`; apps leave kinds out that they do not know."""

    notification_id: UUID
    kind: str
    at: datetime
    user_id: UserId
    display_name: str


class Notifications(Struct, frozen=True):
    """A page of them, the latest first."""

    items: list[Notification]
    next_cursor: str | None


@router.get("/me/notifications", responses=answers(400, 401, ok=Notifications))
async def get_notifications(
    request: Request,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("people", "reactors"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """What happened around the one who asks. Each is told once, whatever is rebuilt or sent again."""
    seen = fresh.seen()  # before the notices are read
    found = await services.notices.of(user_id, place_of(cursor, services, user_id, "notifications"), limit)
    async with fresh.view() as view:
        known = await people(view, [UserId(notice.about_id) for notice in found])
    keep = kept_as(seen, [user_id, *(notice.about_id for notice in found)])
    return answer(request, notices_seen(services, user_id, found, known, limit), fresh.headers, keep)


def notices_seen(
    services: Services, user_id: UserId, found: Sequence[Notice], known: Mapping[UserId, Person], limit: int
) -> Notifications:
    """A page of so many, with the names of those whom they are about."""
    items = [
        Notification(notice.notice_id, notice.kind, notice.at, about, known[about].display_name)
        for notice in found
        if (about := UserId(notice.about_id)) in known
    ]
    last = found[-1] if len(found) == limit else None
    more = services.cursors.write((last.at, last.notice_id), user_id, "notifications") if last else None
    return Notifications(items, more)
