"""Pictures of an activity for feeds and screens: its route, its heights, its pace. SVG that needs nothing else."""

import asyncio
from collections.abc import Callable, Collection
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from api.activities import visible_card
from api.codec import answer_bytes
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.drawing.frame import Frame, ThemeName, Units
from api.drawing.profile import draw_elevation, draw_pace
from api.drawing.route_map import draw_route
from api.front.request import Request
from api.openapi import answers_file
from api.services import Services
from api.tracks import track_of
from domain.measures import ActivityId, UserId
from domain.recordings.exports import session_of
from domain.recordings.preview import RESOLUTIONS
from domain.recordings.profiles import elevation_curve, speed_curve
from domain.recordings.reading import TrackDamaged
from domain.recordings.recording import Column, Session
from projections.activities import Card

router = APIRouter(tags=["pictures"])

SVG: Final = "image/svg+xml"
_PIXELS_A_VERTEX: Final = 3  # of a picture's width: finer cannot be seen
_MAX_POINTS: Final = 2_000  # of the track, for a curve of 300 values
PICTURE_HEADERS: Final = {  # opened by itself, a picture can run and load nothing
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
_ALONG: Final = (Column.T, Column.LAT, Column.LON, Column.DISTANCE)

_Pixels = Query(ge=100, le=2000, description="Pixels.")


async def frame_of(
    width: Annotated[int, _Pixels] = 600,
    height: Annotated[int, _Pixels] = 300,
    theme: ThemeName = ThemeName.LIGHT,
    units: Units = Units.METRIC,
) -> Frame:
    """Size in pixels, theme and units of a picture."""
    return Frame(width, height, theme, units)


FrameDep = Annotated[Frame, Depends(frame_of)]
ReadsDep = Annotated[Reads, Depends(reads("activities", "people"))]


@router.get(
    "/activities/{activity_id}/map.svg",
    response_class=Response,
    responses=answers_file(SVG, 401, 404, 422, headers=PICTURE_HEADERS),
)
async def get_route_map(
    request: Request, activity_id: UUID, user_id: CurrentUser, services: ServicesDep, fresh: ReadsDep, frame: FrameDep
) -> Response:
    """The route: start green, finish ringed, a dot for each kilometre (mile) or every so many, a scale.

    An activity without positions has a picture that says so. `polyline` of the activity is null then, for apps that
    would rather show something else.
    """
    async with fresh.view() as view:
        card = await visible_card(view, user_id, ActivityId(activity_id))
    route = await route_of(services, card, frame)
    return _picture(request, draw_route(route, card.distance_m, frame), fresh, (user_id, card.user_id))


async def route_of(services: Services, card: Card, frame: Frame) -> str | None:
    """The route with as many vertices as such a picture can show; else as the card has it."""
    try:
        previews = (await services.tracks.details(card.user_id, card.activity_id)).get("previews")
    except TrackDamaged:
        previews = None
    if card.measured.polyline is None or not isinstance(previews, list) or not previews:
        return card.measured.polyline
    enough = sum(vertices * _PIXELS_A_VERTEX < frame.width for vertices in RESOLUTIONS)
    return str(previews[min(enough, len(previews) - 1)])


@router.get(
    "/activities/{activity_id}/elevation.svg",
    response_class=Response,
    responses=answers_file(SVG, 401, 404, 422, 503, headers=PICTURE_HEADERS),
)
async def get_elevation_chart(
    request: Request, activity_id: UUID, user_id: CurrentUser, services: ServicesDep, fresh: ReadsDep, frame: FrameDep
) -> Response:
    """Height over distance. Where there are no heights, or there was no way, the picture says so."""

    def draw(session: Session, card: Card) -> bytes:
        return draw_elevation(elevation_curve(session, card.distance_m), frame)

    svg, about = await _drawn(services, fresh, user_id, activity_id, (*_ALONG, Column.ALTITUDE), draw)
    return _picture(request, svg, fresh, about)


@router.get(
    "/activities/{activity_id}/pace.svg",
    response_class=Response,
    responses=answers_file(SVG, 401, 404, 422, 503, headers=PICTURE_HEADERS),
)
async def get_pace_chart(
    request: Request, activity_id: UUID, user_id: CurrentUser, services: ServicesDep, fresh: ReadsDep, frame: FrameDep
) -> Response:
    """Pace over distance, faster is up: a kilometre's (mile's) on foot, 100 m's (yards') in the water; speed in other
    sports. Pauses are left out. Where there are no times, or there was no way, the picture says so.
    """

    def draw(session: Session, card: Card) -> bytes:
        curve = speed_curve(session, card.distance_m)
        return draw_pace(curve, card.measured.avg_speed_mps, card.sport, frame)

    svg, about = await _drawn(services, fresh, user_id, activity_id, _ALONG, draw)
    return _picture(request, svg, fresh, about)


async def _drawn(
    services: Services,
    fresh: Reads,
    user_id: UserId,
    activity_id: UUID,
    wanted: Collection[Column],
    draw: Callable[[Session, Card], bytes],
) -> tuple[bytes, tuple[UserId, UserId]]:
    """Drawn in a thread, of some points of the track; of none where there is no track. And whom it depends on."""
    async with fresh.view() as view:
        card = await visible_card(view, user_id, ActivityId(activity_id))
    found = await track_of(services, card, wanted, _MAX_POINTS) or {}
    svg = await asyncio.to_thread(lambda: draw(session_of(card.sport, card.started_at, found), card))
    return svg, (user_id, card.user_id)


def _picture(request: Request, svg: bytes, fresh: Reads, about: tuple[UserId, UserId]) -> Response:
    return answer_bytes(request, svg, SVG, {**PICTURE_HEADERS, **fresh.headers}, fresh.keep(*about))
