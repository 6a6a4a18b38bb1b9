"""What endpoints ask for: the services, who is asking, and whether the read models are as new as the client knows."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Final

from fastapi import Depends, Request

from api.services import Services
from api.tokens import LATE_UPLOAD, Bearer
from domain.accounts import TokenRefused
from domain.measures import UserId

_WAIT_SECONDS: Final = 2.0  # that a read waits for its position before it answers with what is there


async def services_of(request: Request) -> Services:
    """The services that the app was made with."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


def _bearer(request: Request, services: Services, late: timedelta) -> Bearer:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise TokenRefused("Sign in, and send the header Authorization: Bearer ACCESS_TOKEN.")
    bearer = services.tokens.read(token.strip(), services.clock(), late=late)
    if services.accounts.ended(bearer.session_id):
        raise TokenRefused
    return bearer


async def bearer(request: Request, services: ServicesDep) -> Bearer:
    """Who asks, and in which session; 401 otherwise."""
    return _bearer(request, services, timedelta())


async def current_user(request: Request, services: ServicesDep) -> UserId:
    """Who asks; 401 otherwise."""
    return _bearer(request, services, timedelta()).user_id


async def recording_user(request: Request, services: ServicesDep) -> UserId:
    """Who hands in a run: an access token up to 30 days past its expiry will do."""
    return _bearer(request, services, LATE_UPLOAD).user_id


BearerDep = Annotated[Bearer, Depends(bearer)]
CurrentUser = Annotated[UserId, Depends(current_user)]
RecordingUser = Annotated[UserId, Depends(recording_user)]


def reads(*names: str) -> Callable[[Request, Services, UserId], Awaitable[dict[str, str]]]:
    """A dependency that waits for `Cairn-Min-Position` in these projections; the headers that the answer then has."""

    async def wait(request: Request, services: ServicesDep, user_id: CurrentUser) -> dict[str, str]:
        token = request.headers.get("cairn-min-position")
        if token is None or await services.read_models.reach(token.strip(), names, user_id, _WAIT_SECONDS):
            return {}
        request.state.stale = True  # told with a refusal too: what is missing may only be late
        return {"Cairn-Stale": "true"}

    return wait
