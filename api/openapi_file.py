"""The contract as a file."""

import msgspec
from fastapi import APIRouter, Request, Response

router = APIRouter(tags=["health"])


@router.get("/openapi.json", include_in_schema=False, response_class=Response)
async def openapi_file(request: Request) -> Response:
    """Encoded once: anybody may ask, and FastAPI's own route would take some milliseconds each time."""
    state = request.app.state
    if not hasattr(state, "contract"):
        state.contract = msgspec.json.encode(request.app.openapi())
    return Response(state.contract, media_type="application/json")
