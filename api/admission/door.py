"""Requests as the server has them, asking to be let in."""

import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID

from starlette.types import Scope

from api.admission.admission import Ask, Ticket
from api.admission.kinds import Kind, Sort, lowered, sort_of
from api.admission.rates import Counted, Told
from api.clients import MAX_LENGTH, client_of
from api.services import Services
from api.tokens import LATE_UPLOAD, token_of
from domain.accounts import TokenRefused
from domain.measures import UserId

_PUBLIC: Final = re.compile(r"/v\d+/public/|/(?!v\d+/)")  # who asks makes no difference there: caches may keep it
_BY_ADDRESS: Final = frozenset({"registration", "sign-in"})  # whoever is signed in already: accounts cost nothing
_LATE: Final = LATE_UPLOAD.total_seconds()
FREE: Final = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})  # never limited or sent away


class Entrance(NamedTuple):
    """What the door has to know of where a request wants to go."""

    sort: Sort
    public: bool


def entrance_of(method: str, route: str) -> Entrance:
    """Of a method and a route's template, or a path."""
    sort = sort_of(method, route)
    return Entrance(sort, sort.anonymous in _BY_ADDRESS or _PUBLIC.match(route) is not None)


def _kind_of(headers: Mapping[bytes, bytes], entrance: Entrance) -> Kind:
    kind = entrance.sort.kind
    return lowered(kind, headers[b"priority"]) if b"priority" in headers else kind


class Door:
    """Knows from a request's head who asks for what."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._counted = lru_cache(maxsize=16_384)(self._counted_of)

    def on_trust(self, headers: Mapping[bytes, bytes], entrance: Entrance) -> Ticket | None:
        """As `Admission.on_trust`, for whose token was checked before."""
        token = b"" if entrance.public else headers.get(b"authorization", b"")
        bearer = self._services.tokens.known(token_of(token), time.time(), _LATE)
        if bearer is None:
            return None
        kind = _kind_of(headers, entrance)
        counted = self._counted(kind, bearer.user_id.int, headers.get(b"cairn-client", b"")[:MAX_LENGTH])
        return self._services.admission.on_trust(kind, counted)

    async def enter(self, scope: Scope, headers: Mapping[bytes, bytes], entrance: Entrance) -> Ticket:
        """As `Admission.enter`; no signature is checked for a request that is sent away for load."""
        kind = _kind_of(headers, entrance)

        def ask(user_id: UUID | None = None) -> Ask:
            client = client_of(headers.get(b"cairn-client", b""))
            address = ""  # of no use where the user is known
            if user_id is None:
                peer = (scope.get("client") or ("",))[0]
                address = self._services.addresses.of(peer, headers.get(b"x-forwarded-for", b"").decode("latin-1"))
            return Ask(kind, user_id, client.device, client.label, address, entrance.sort.anonymous)

        def identified() -> Ask:
            return ask(None if entrance.public else self._user(headers.get(b"authorization", b"")))

        return await self._services.admission.enter(kind, ask, identified)

    def local(self, kind: Kind, headers: Mapping[bytes, bytes], user: int) -> Told | None:
        """As `Admission.local`; the user's id as a number, which costs less."""
        if b"priority" in headers:
            kind = lowered(kind, headers[b"priority"])
        counted = self._counted(kind, user, headers.get(b"cairn-client", b"")[:MAX_LENGTH])
        return self._services.admission.local(counted)

    def _counted_of(self, kind: Kind, user: int, client: bytes) -> Counted:
        return self._services.admission.counted(kind, UUID(int=user), client_of(client).device)

    def _user(self, authorization: bytes) -> UserId | None:
        """Whose requests to count, also with a token that has expired: what it opens is not decided here."""
        token = token_of(authorization)
        if not token:
            return None
        try:
            return self._services.tokens.read(token, self._services.clock(), late=LATE_UPLOAD).user_id
        except TokenRefused:
            return None
