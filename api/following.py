"""Who follows whom."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from msgspec import Struct
from msgspec.structs import asdict

from api.codec import answer, no_content
from api.cursors import Place
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.front.request import Request
from api.openapi import answers
from api.pages import Cursor, Limit, place_of
from api.services import Services
from domain.follow import Follow, follow_id
from domain.measures import UserId
from domain.user import User, UserMissing, user_stream_id
from projections.people import Follower, followed_among, followed_by, followers_of, people
from projections.projection import View

router = APIRouter(tags=["following"])


class FollowerSeen(Struct, frozen=True, kw_only=True):
    """Someone who follows or is followed, and since when; whether the one who asks follows them."""

    user_id: UserId
    display_name: str
    since: datetime
    followed_by_me: bool


class Followers(Struct, frozen=True):
    """A page of them, the latest first."""

    items: list[FollowerSeen]
    next_cursor: str | None


@router.put("/me/following/{runner_id}", status_code=204, responses=answers(401, 404, 422, no_content=None))
async def follow(runner_id: UUID, user_id: CurrentUser, services: ServicesDep) -> Response:
    """Follow a runner: their runs, also earlier ones, come into the feed. Following twice changes nothing."""
    followee, now = UserId(runner_id), services.clock()
    if not (await services.streams.load(User, user_stream_id(followee))).registered:
        raise UserMissing
    position = await services.streams.transact(
        Follow, follow_id(user_id, followee), user_id, lambda it: it.start(user_id, followee, now)
    )
    return no_content(position)


@router.delete("/me/following/{runner_id}", status_code=204, responses=answers(401, no_content=None))
async def unfollow(runner_id: UUID, user_id: CurrentUser, services: ServicesDep) -> Response:
    """Stop following: their runs leave the feed. Stopping twice changes nothing."""
    followee, now = UserId(runner_id), services.clock()
    position = await services.streams.transact(
        Follow, follow_id(user_id, followee), user_id, lambda it: it.end(user_id, followee, now)
    )
    return no_content(position)


@router.get("/users/{runner_id}/followers", responses=answers(400, 401, 404, ok=Followers))
async def get_followers(
    request: Request,
    runner_id: UUID,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("people"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Who follows a runner."""
    page = _Page(UserId(runner_id), limit, cursor, (user_id, "followers", runner_id))
    return await _listed(request, fresh, services, user_id, followers_of, page)


@router.get("/users/{runner_id}/following", responses=answers(400, 401, 404, ok=Followers))
async def following(
    request: Request,
    runner_id: UUID,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("people"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Whom a runner follows."""
    page = _Page(UserId(runner_id), limit, cursor, (user_id, "following", runner_id))
    return await _listed(request, fresh, services, user_id, followed_by, page)


class _Page(NamedTuple):
    """What is asked for."""

    runner_id: UserId
    limit: int
    cursor: str | None
    scope: tuple[object, ...]


async def _listed(
    request: Request,
    fresh: Reads,
    services: Services,
    user_id: UserId,
    query: Callable[[View, UserId, Place, int], Awaitable[list[Follower]]],
    page: _Page,
) -> Response:
    before = place_of(page.cursor, services, *page.scope)
    async with fresh.view() as view:
        if page.runner_id not in await people(view, [page.runner_id]):
            raise UserMissing
        found = await query(view, page.runner_id, before, page.limit)
        followed = await followed_among(view, user_id, [one.user_id for one in found])
    last = found[-1] if len(found) == page.limit else None
    more = services.cursors.write((last.since, last.user_id), *page.scope) if last else None
    items = [FollowerSeen(**asdict(one), followed_by_me=one.user_id in followed) for one in found]
    keep = fresh.keep(user_id, page.runner_id, *(one.user_id for one in found))
    return answer(request, Followers(items, more), fresh.headers, keep)
