"""What endpoints ask for: the services, who is asking, and whether the read models are as new as the client knows."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends

from api.admission.kinds import MINOR
from api.clients import Client, client_of
from api.front.kept import Keep, Seen
from api.front.request import Request
from api.openapi import tells
from api.services import Reader, Services
from api.tokens import LATE_UPLOAD, Bearer, token_of
from domain.accounts import TokenRefused
from domain.errors import DomainError
from domain.measures import UserId
from projections.projection import View

_WAIT_SECONDS: Final = 2.0  # that a read waits for its position before it answers with what is there


async def services_of(request: Request) -> Services:
    """The services that the app was made with."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


async def asking(request: Request) -> Client:
    """Which app asks, as far as it says so."""
    return client_of(request.by_name.get(b"cairn-client", b""))


AskingClient = Annotated[Client, Depends(asking)]


class ConditionNotTaken(DomainError):
    """Writes here take no conditions: leave out If-Match and the like. An edit changes only what it names, and every
    write may be sent again.
    """

    code = "condition-not-taken"


async def unconditional(request: Request) -> None:
    """A write whose condition nobody looks at is not done (RFC 9110, 13.2); that of a read is its own affair."""
    if request.method not in ("GET", "HEAD") and not _CONDITIONS.isdisjoint(request.by_name):
        raise ConditionNotTaken


_CONDITIONS: Final = frozenset({b"if-match", b"if-none-match", b"if-unmodified-since"})


def _bearer(request: Request, services: Services, late: timedelta) -> Bearer:
    token = token_of(request.by_name.get(b"authorization", b""))
    if not token:
        raise TokenRefused("Sign in, and send the header Authorization: Bearer ACCESS_TOKEN.")
    bearer = services.tokens.read(token, services.clock(), late=late)
    if services.accounts.ended(bearer.session_id):
        raise TokenRefused
    return bearer


@tells(bearer=True, problems=(401,))
async def leaving(request: Request, services: ServicesDep) -> Bearer:
    """Whose session is to end: an access token up to 30 days past its expiry will do."""
    return _bearer(request, services, LATE_UPLOAD)


@tells(bearer=True, problems=(401,))
async def current_user(request: Request, services: ServicesDep) -> UserId:
    """Who asks; 401 otherwise."""
    return _bearer(request, services, timedelta()).user_id


@tells(bearer=True, problems=(401,))
async def recording_bearer(request: Request, services: ServicesDep) -> Bearer:
    """Who hands in a run: an access token up to 30 days past its expiry will do."""
    return _bearer(request, services, LATE_UPLOAD)


Leaving = Annotated[Bearer, Depends(leaving)]
CurrentUser = Annotated[UserId, Depends(current_user)]
RecordingBearer = Annotated[Bearer, Depends(recording_bearer)]


@dataclass(frozen=True)
class Reads:
    """Read models that are as new as the client knows, or the headers that say that they are not."""

    reader: Reader
    headers: Mapping[str, str]
    names: Sequence[str]

    def view(self) -> AbstractAsyncContextManager[View]:
        """For a few queries."""
        return self.reader.view()

    def seen(self) -> Seen | None:
        """What all that is read from now on has passed; None: an answer may not be kept."""
        seen = None if self.headers else self.reader.seen(self.names)
        return None if seen is None else Seen(*seen)

    def keep(self, *about: UUID, until: datetime | None = None) -> Keep | None:
        """That the answer may be kept: it tells of these users' rows, and is good until then. None: it may not.

        Of what was read in the view or after it. What is read before that goes with what was `seen` before: `kept_as`.
        """
        return kept_as(self.seen(), about, until)


def kept_as(seen: Seen | None, about: Iterable[UUID], until: datetime | None = None) -> Keep | None:
    """That an answer may be kept that was read after this was seen; see `Reads.keep`."""
    return None if seen is None else Keep(frozenset(about), seen, until)


def reads(*names: str) -> Callable[[Request, Services, UserId], Awaitable[Reads]]:
    """A dependency that waits for `Cairn-Min-Position` in these projections."""

    @tells(parameters=("Cairn-Min-Position",), problems=(400,), headers=("Cairn-Stale",))
    async def wait(request: Request, services: ServicesDep, user_id: CurrentUser) -> Reads:
        reader = services.read_models.reader(user_id, minor=getattr(request.state, "kind", None) in MINOR)
        token = request.headers.get("cairn-min-position")
        if token is None or await reader.reach(token.strip(), names, _WAIT_SECONDS):
            return Reads(reader, {}, names)
        request.state.stale = True  # told with a refusal too: what is missing may only be late
        return Reads(reader, {"Cairn-Stale": "true"}, names)

    return wait
