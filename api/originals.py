"""The recording as it was sent, for who sent it."""

from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from api.codec import has_already
from api.dependencies import CurrentUser, ServicesDep
from api.exports import FILE_HEADERS, ReadsDep, file_name, own_card
from api.front.request import Request
from api.openapi import answers_file
from api.uploads import MEDIA_TYPES
from domain.activity import MANUAL, ActivityMissing
from domain.errors import DomainError
from domain.measures import ActivityId
from domain.recordings.recording import Format
from domain.uploads import BodyDamaged

router = APIRouter(tags=["exports"])


class OriginalDamaged(DomainError):
    """The stored recording is gone, or does not match its checksum. Its activity and track are not touched by that."""

    code = "original-damaged"


@router.get(
    "/activities/{activity_id}/original",
    response_class=Response,
    responses=answers_file(tuple(MEDIA_TYPES.values()), 401, 404, 503, headers=FILE_HEADERS),
)
async def get_original(
    request: Request, activity_id: UUID, user_id: CurrentUser, services: ServicesDep, fresh: ReadsDep
) -> Response:
    """The bytes as they were handed in. For the activity's runner only: a file tells more than an activity shows.

    Of a file with several sessions, each of its activities gives the whole file.
    """
    card = await own_card(fresh, user_id, ActivityId(activity_id))
    if card.source.format == MANUAL:
        raise ActivityMissing
    etag = f'"{card.source.sha256}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'attachment; filename="{file_name(card, card.source.format)}"',
        **fresh.headers,
    }
    if has_already(request, etag):
        return Response(status_code=304, headers=headers)
    pieces = services.inbox.original(user_id, card.source.sha256)
    try:
        first = await anext(pieces, None)
    except BodyDamaged:
        raise OriginalDamaged from None
    if first is None:
        raise ActivityMissing
    media_type = MEDIA_TYPES[Format(card.source.format)]
    return StreamingResponse(_again(first, pieces), headers=headers, media_type=media_type)


async def _again(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in others:
        yield piece
