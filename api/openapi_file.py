"""The contract as a file."""

from typing import Final

import msgspec
from fastapi import APIRouter, Response

from api.front.kept import Repeated
from api.front.request import Request

router = APIRouter(tags=["health"])

_HEADERS: Final = {"Cache-Control": "public, no-cache", "Vary": "Accept-Encoding"}


@router.get("/openapi.json", include_in_schema=False, response_class=Response)
async def openapi_file(request: Request) -> Response:
    """Encoded and packed once: anybody may ask, and FastAPI's own route would take some milliseconds each time."""
    state = request.app.state
    if not hasattr(state, "contract"):
        state.contract = Repeated(msgspec.json.encode(request.app.openapi()), "application/json", _HEADERS)
    variant = await state.contract.variant(request.by_name.get(b"accept-encoding", b""))
    known = variant.known_by(request.by_name.get(b"if-none-match"))
    response = Response(b"" if known else variant.body, 304 if known else 200)
    response.raw_headers = list(variant.not_modified if known else variant.ok)
    return response
