"""Whether the process lives, and what it lacks."""

from typing import Final

import msgspec
from fastapi import APIRouter, Response

from api.dependencies import ServicesDep

router = APIRouter(tags=["health"])

_NOT_KEPT: Final = {"Cache-Control": "no-store"}


@router.get("/livez")
async def alive() -> Response:
    """The process answers. Uploads of runs are accepted from here on, whatever else is down."""
    return Response(b'{"status":"alive"}', 200, _NOT_KEPT, "application/json")


@router.get("/readyz")
async def ready(services: ServicesDep) -> Response:
    """200 when everything that reads and commands need is there, 503 naming what is missing otherwise."""
    missing = services.ready()
    body = msgspec.json.encode({"status": "waiting" if missing else "ready", "missing": missing})
    return Response(body, 503 if missing else 200, _NOT_KEPT, "application/json")
