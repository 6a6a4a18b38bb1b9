"""Whether the process lives, and what it lacks."""

from collections.abc import Mapping
from typing import Final

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import Struct

from api.dependencies import ServicesDep
from api.openapi import answers, header, schema_of

router = APIRouter(tags=["health"])

_NOT_KEPT: Final = {"Cache-Control": "no-store"}


class Liveness(Struct, frozen=True):
    """It answers."""

    status: str


class Readiness(Struct, frozen=True):
    """`ready`, or `waiting` for what is missing: by part, with what to do."""

    status: str
    missing: dict[str, str]


_WAITING = {
    "description": "something is missing",
    "content": {"application/json": {"schema": schema_of(Readiness)}},
    "headers": {name: header(name) for name in _NOT_KEPT},
}


@router.get("/livez", responses=answers(ok=Liveness, headers=_NOT_KEPT))
async def get_liveness() -> Response:
    """The process answers. Uploads of runs are accepted from here on, whatever else is down."""
    return Response(b'{"status":"alive"}', 200, _NOT_KEPT, "application/json")


@router.get("/startupz", responses={**answers(ok=Readiness, headers=_NOT_KEPT), 503: _WAITING})
async def get_startup(request: Request, services: ServicesDep) -> Response:
    """As `/readyz` until everything was there for the first time; 200 from then on, whatever is missing later."""
    state, missing = request.app.state, services.ready()
    state.started = getattr(state, "started", False) or not missing
    return _told({} if state.started else missing)


@router.get("/readyz", responses={**answers(ok=Readiness, headers=_NOT_KEPT), 503: _WAITING})
async def get_readiness(services: ServicesDep) -> Response:
    """200 when everything that reads and commands need is there, 503 naming what is missing otherwise."""
    return _told(services.ready())


def _told(missing: Mapping[str, str]) -> Response:
    body = msgspec.json.encode(Readiness("waiting" if missing else "ready", dict(missing)))
    return Response(body, 503 if missing else 200, _NOT_KEPT, "application/json")
