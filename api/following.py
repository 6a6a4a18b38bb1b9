"""Who follows whom."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from msgspec import Struct

from api.codec import answer, no_content
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.openapi import answers
from api.pages import Cursor, Limit, place_of
from domain.follow import Follow, follow_id
from domain.measures import UserId
from domain.user import User, UserMissing, user_stream_id
from projections.people import Follower, followers_of, people

router = APIRouter(tags=["following"])


class Followers(Struct, frozen=True):
    """A page of followers, the latest first."""

    items: list[Follower]
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
async def followers(
    request: Request,
    runner_id: UUID,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("people"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Who follows a runner."""
    scope = (user_id, "followers", runner_id)
    before = place_of(cursor, services, *scope)
    async with fresh.view() as view:
        if UserId(runner_id) not in await people(view, [UserId(runner_id)]):
            raise UserMissing
        items = await followers_of(view, UserId(runner_id), before, limit)
    more = services.cursors.write((items[-1].since, items[-1].user_id), *scope) if len(items) == limit else None
    keep = fresh.keep(UserId(runner_id), *(item.user_id for item in items))
    return answer(request, Followers(items, more), fresh.headers, keep)
