"""What is public, for everybody: no signing in, and less than a signed-in stranger sees."""

from datetime import date
from typing import Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Response
from msgspec import Struct

from api.dependencies import ServicesDep
from api.drawing.route_map import draw_route
from api.front.request import Request
from api.openapi import answers, answers_file
from api.pictures import PICTURE_HEADERS, SVG, FrameDep, route_of
from api.problems import NOT_FOUND
from api.publishing import SURROGATE_KEY, Publication
from domain.activity import without_hour
from domain.measures import ActivityId, Sport, UserId, Visibility
from domain.publishing import activity_key, list_key, user_key
from projections.activities import Card, cards_of, whole_card
from projections.people import people
from projections.projection import BEFORE_ALL

router = APIRouter(prefix="/public", tags=["public"])

_LISTED: Final = 20
_ACTIVITY: Final = "/v1/public/activities/{activity_id}"
_MAP: Final = "/v1/public/activities/{activity_id}/map.svg"
_RUNNER: Final = "/v1/public/users/{user_id}"


class PublicActivity(Struct, frozen=True, kw_only=True):
    """An activity as everybody may see it: when only by the day, and nothing of heart, health, device or file."""

    activity_id: ActivityId
    user_id: UserId
    display_name: str
    title: str
    sport: Sport
    local_date: date
    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float
    avg_speed_mps: float | None
    polyline: str | None


class PublicRunner(Struct, frozen=True, kw_only=True):
    """A runner of whom something is public, with the latest of that."""

    user_id: UserId
    display_name: str
    activities: list[PublicActivity]


@router.get("/activities/{activity_id}", responses=answers(404, ok=PublicActivity, headers=(SURROGATE_KEY,)))
async def get_public_activity(request: Request, activity_id: UUID, services: ServicesDep) -> Response:
    """A public activity, without signing in. Missing, deleted and hidden ones get the same 404.

    Caches may keep the answer: with or without a token it is the same.
    """
    publication = Publication(request, services, _ACTIVITY)
    found = await published(publication, ActivityId(activity_id))
    if found is None:
        return _nothing(publication, activity_key(activity_id))
    return publication.found(msgspec.json.encode(seen(*found)), "application/json", keys_of(found[0]))


@router.get(
    "/activities/{activity_id}/map.svg",
    response_class=Response,
    responses=answers_file(SVG, 404, 422, headers=(*PICTURE_HEADERS, SURROGATE_KEY)),
)
async def get_public_map(request: Request, activity_id: UUID, services: ServicesDep, frame: FrameDep) -> Response:
    """The route of a public activity, without signing in; as `/v1/activities/{activity_id}/map.svg` otherwise."""
    publication = Publication(request, services, _MAP)
    found = await published(publication, ActivityId(activity_id))
    if found is None:
        return _nothing(publication, activity_key(activity_id))
    card, _ = found
    picture = draw_route(await route_of(services, card, frame), card.distance_m, frame)
    return publication.found(picture, SVG, keys_of(card), PICTURE_HEADERS)


@router.get("/users/{user_id}", responses=answers(404, ok=PublicRunner, headers=(SURROGATE_KEY,)))
async def get_public_user(request: Request, user_id: UUID, services: ServicesDep) -> Response:
    """A runner's latest public activities, at most 20, without signing in. Who has none gets the 404 of nobody."""
    publication, runner_id = Publication(request, services, _RUNNER), UserId(user_id)
    async with publication.view() as view:
        person = (await people(view, [runner_id])).get(runner_id)
        found = await cards_of(view, runner_id, [Visibility.PUBLIC], BEFORE_ALL, _LISTED) if person else []
    if person is None or not found:
        return _nothing(publication, list_key(user_id), user_key(user_id))
    told = PublicRunner(
        user_id=runner_id,
        display_name=person.display_name,
        activities=[seen(card, person.display_name) for card in found],
    )
    return publication.found(msgspec.json.encode(told), "application/json", (list_key(runner_id), user_key(runner_id)))


async def published(publication: Publication, activity_id: ActivityId) -> tuple[Card, str] | None:
    """The card and its runner's name, if the activity is public."""
    async with publication.view() as view:
        card = await whole_card(view, activity_id)
        if card is None or card.visibility is not Visibility.PUBLIC:
            return None
        person = (await people(view, [card.user_id])).get(card.user_id)
    return (card, person.display_name) if person else None


def seen(card: Card, display_name: str) -> PublicActivity:
    """The card as everybody sees it."""
    return PublicActivity(
        activity_id=card.activity_id,
        user_id=card.user_id,
        display_name=display_name,
        title=without_hour(card.title),
        sport=card.sport,
        local_date=card.local_date,
        distance_m=card.distance_m,
        elapsed_s=card.elapsed_s,
        moving_s=card.moving_s,
        elevation_gain_m=card.elevation_gain_m,
        avg_speed_mps=card.measured.avg_speed_mps,
        polyline=card.measured.polyline,
    )


def keys_of(card: Card) -> tuple[str, str]:
    """Under which a page about the activity is kept."""
    return activity_key(card.activity_id), user_key(card.user_id)


def _nothing(publication: Publication, *keys: str) -> Response:
    return publication.nothing(msgspec.json.encode(NOT_FOUND), "application/problem+json", keys, {})
