"""Activities as files for other programs, for their owner: GPX and FIT."""

import asyncio
from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from api.activities import visible_card
from api.codec import answer_bytes
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.front.request import Request
from api.openapi import answers_file
from api.services import Services
from api.tracks import track_of
from api.uploads import MEDIA_TYPES
from domain.activity import MANUAL, ActivityMissing
from domain.errors import DomainError
from domain.measures import ActivityId, UserId
from domain.recordings.exports import ExportNeedsPositions, ExportNeedsTimes, Totals, session_of
from domain.recordings.recording import Format, Session
from projections.activities import Card

router = APIRouter(tags=["exports"])

_GPX: Final = MEDIA_TYPES[Format.GPX]
_FIT: Final = MEDIA_TYPES[Format.FIT]
FILE_HEADERS: Final = ("Content-Disposition", "X-Content-Type-Options")

ReadsDep = Annotated[Reads, Depends(reads("activities", "people"))]


@router.get(
    "/activities/{activity_id}/export.gpx",
    response_class=Response,
    responses=answers_file(_GPX, 401, 404, 409, 503, headers=FILE_HEADERS),
)
async def export_gpx(
    request: Request, activity_id: UUID, user_id: CurrentUser, services: ServicesDep, fresh: ReadsDep
) -> Response:
    """An own activity as GPX 1.1: positions, heights, times, heart rate, cadence, temperature and power as they are
    kept. Others get 404, also those who may see the activity. 409 `export-needs-positions` without a position.
    """
    card, session = await _own(services, fresh, user_id, ActivityId(activity_id), ExportNeedsPositions)
    body = await asyncio.to_thread(services.write_gpx, session, card.distance_m)
    return _file(request, body, _GPX, file_name(card, "gpx"), fresh)


@router.get(
    "/activities/{activity_id}/export.fit",
    response_class=Response,
    responses=answers_file(_FIT, 401, 404, 409, 503, headers=FILE_HEADERS),
)
async def export_fit(
    request: Request, activity_id: UUID, user_id: CurrentUser, services: ServicesDep, fresh: ReadsDep
) -> Response:
    """An own activity as FIT: all that GPX has, distance and speed, to FIT's own precision (whole seconds). Others
    get 404, also those who may see the activity. 409 `export-needs-times` without times.
    """
    card, session = await _own(services, fresh, user_id, ActivityId(activity_id), ExportNeedsTimes)
    body = await asyncio.to_thread(services.write_fit, session, _totals(card))
    return _file(request, body, _FIT, file_name(card, "fit"), fresh)


def _totals(card: Card) -> Totals:
    return Totals(
        distance_m=card.distance_m,
        elapsed_s=card.elapsed_s,
        moving_s=card.moving_s,
        calories_kcal=card.measured.calories_kcal,
        utc_offset_s=card.utc_offset_s,
        elevation_gain_m=card.elevation_gain_m or None,  # 0 stands there too where nobody knows
        avg_heart_rate_bpm=card.measured.avg_heart_rate_bpm,
        max_heart_rate_bpm=card.measured.max_heart_rate_bpm,
    )


async def _own(
    services: Services, fresh: Reads, user_id: UserId, activity_id: ActivityId, needs: type[DomainError]
) -> tuple[Card, Session]:
    """What is to be written; `needs` is raised where there is nothing."""
    card = await own_card(fresh, user_id, activity_id)
    if card.source.format == MANUAL:
        raise needs("This activity was entered by hand: there is no recording to export.")
    found = await track_of(services, card, None, None) or {}
    return card, await asyncio.to_thread(session_of, card.sport, card.started_at, found, card.title)


async def own_card(fresh: Reads, user_id: UserId, activity_id: ActivityId) -> Card:
    """The card; `ActivityMissing` for everybody but the owner, whose heart and home a file tells of."""
    async with fresh.view() as view:
        card = await visible_card(view, user_id, activity_id)
    if card.user_id != user_id:
        raise ActivityMissing
    return card


def file_name(card: Card, suffix: str) -> str:
    """Of when and what, ASCII: what a title says is nobody's business in a folder of downloads."""
    begun = card.started_at + timedelta(seconds=card.utc_offset_s)
    return f"{begun:%Y-%m-%d-%H%M}-{card.sport}.{suffix}"


def _file(request: Request, body: bytes, media_type: str, name: str, fresh: Reads) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        **fresh.headers,
    }
    return answer_bytes(request, body, media_type, headers)
