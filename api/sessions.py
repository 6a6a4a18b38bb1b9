"""Signing in and out, and the tokens of a session."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from msgspec import Meta, Struct

from api.codec import END, body_of, created
from api.dependencies import AskingClient, Leaving, ServicesDep
from api.openapi import answers, json_body
from api.services import Services
from api.tokens import LIFE
from domain.accounts import SignedIn
from domain.measures import UserId
from domain.texts import BLANK

router = APIRouter(tags=["sessions"])

Email = Annotated[  # RFC 5321, 4.5.3.1
    str, Meta(max_length=254, pattern=rf"^[^@{BLANK}]+@[^@/{BLANK}]+\.[^@/{BLANK}]+{END}")
]
Password = Annotated[str, Meta(min_length=8, max_length=256, pattern=r"^[^\x00]*$")]  # NIST SP 800-63B, 5.1.1.2


class Credentials(Struct, frozen=True, forbid_unknown_fields=True):
    """Who one says to be."""

    email: Email
    password: Annotated[str, Meta(max_length=256)]


class Refresh(Struct, frozen=True, forbid_unknown_fields=True):
    """The refresh token of the last answer."""

    refresh_token: Annotated[str, Meta(max_length=256)]


class Signed(Struct, frozen=True):
    """Tokens of a session. `expires_in` is of the access token, in seconds."""

    user_id: UserId
    access_token: str
    expires_in: int
    refresh_token: str


def signed(session: SignedIn, services: Services) -> Signed:
    """The answer that a session's tokens are told in."""
    return Signed(
        user_id=session.user_id,
        access_token=services.tokens.issue(session.user_id, session.session_id, services.clock()),
        expires_in=int(LIFE.total_seconds()),
        refresh_token=session.refresh_token,
    )


@router.post(
    "/sessions",
    status_code=201,
    openapi_extra=json_body(Credentials),
    responses=answers(401, 422, 503, position=False, created=Signed),
)
async def sign_in(
    credentials: Annotated[Credentials, Depends(body_of(Credentials))], services: ServicesDep, client: AskingClient
) -> Response:
    """Sign in on a device. 401 `sign-in-refused` without saying what is wrong."""
    await services.admission.guess(credentials.email, client.label)
    user_id = await services.accounts.authenticate(credentials.email, credentials.password)
    return created(signed(await services.accounts.sign_in(user_id), services), {})


@router.post(
    "/sessions/refresh",
    status_code=201,
    openapi_extra=json_body(Refresh),
    responses=answers(401, 422, 503, position=False, created=Signed),
)
async def refresh_session(body: Annotated[Refresh, Depends(body_of(Refresh))], services: ServicesDep) -> Response:
    """The next pair of tokens. Within 30 s the last refresh token may be sent again, and gets the same successor;
    later that ends the session (401 `token-refused`): somebody else may hold it.
    """
    return created(signed(await services.accounts.refresh(body.refresh_token), services), {})


@router.delete("/sessions", status_code=204, responses=answers(401, position=False, no_content=None))
async def sign_out(bearer: Leaving, services: ServicesDep) -> Response:
    """End this session. Its access token, which may have expired, is refused from now on."""
    await services.accounts.sign_out(bearer.session_id)
    return Response(status_code=204)
