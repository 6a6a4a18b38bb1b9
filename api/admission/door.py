"""Requests as the server has them, asking to be let in."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

from msgspec.structs import replace
from starlette.types import Message, Scope, Send

from api.admission.admission import Ask, Ticket
from api.admission.gcra import Claim
from api.admission.kinds import Kind, lowered, sort_of
from api.clients import MAX_LENGTH, client_of
from api.services import Services
from api.tokens import LATE_UPLOAD, token_of
from domain.accounts import TokenRefused
from domain.measures import UserId

_PUBLIC: Final = re.compile(r"/v\d+/public/|/(?!v\d+/)")  # who asks makes no difference there: caches may keep it
FREE: Final = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})  # never limited or sent away


class Door:
    """Knows from a request's head who asks for what."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._claims = lru_cache(maxsize=16_384)(self._claims_of)

    async def enter(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Ticket:
        """As `Admission.enter`; no signature is checked for a request that is sent away for load."""

        def identified(ask: Ask) -> Ask:
            if _PUBLIC.match(scope["path"]):
                return ask
            return replace(ask, user_id=self._user(headers.get(b"authorization", b"")))

        ticket = await self._services.admission.enter(self._ask(scope, headers, None), identified)
        if b"cairn-min-position" in headers:
            ticket.untimed()  # it may wait for the read models
        return ticket

    def local(self, kind: Kind, headers: Mapping[bytes, bytes], user: int) -> bool:
        """As `Admission.local`; the user's id as a number, which costs less."""
        if b"priority" in headers:
            kind = lowered(kind, headers[b"priority"])
        return self._services.admission.local(self._claims(kind, user, headers.get(b"cairn-client", b"")[:MAX_LENGTH]))

    def _claims_of(self, kind: Kind, user: int, client: bytes) -> Sequence[Claim]:
        return self._services.admission.claims(kind, UUID(int=user), client_of(client).device)

    def _ask(self, scope: Scope, headers: Mapping[bytes, bytes], user_id: UUID | None) -> Ask:
        sort = sort_of(scope["method"], scope["path"])
        client = client_of(headers.get(b"cairn-client", b""))
        kind = lowered(sort.kind, headers[b"priority"]) if b"priority" in headers else sort.kind
        address = ""  # of no use where the user is known
        if user_id is None:
            peer = (scope.get("client") or ("",))[0]
            address = self._services.addresses.of(peer, headers.get(b"x-forwarded-for", b"").decode("latin-1"))
        return Ask(kind, user_id, client.device, client.label, address, sort.anonymous)

    def _user(self, authorization: bytes) -> UserId | None:
        """Whose requests to count, also with a token that has expired: what it opens is not decided here."""
        token = token_of(authorization)
        if not token:
            return None
        try:
            return self._services.tokens.read(token, self._services.clock(), late=LATE_UPLOAD).user_id
        except TokenRefused:
            return None


class Answering:
    """Sends an answer, with the RateLimit fields for those who are signed in. It notes when the answer begins."""

    def __init__(self, send: Send, ticket: Ticket) -> None:
        self._send = send
        self._ticket = ticket

    async def __call__(self, message: Message) -> None:
        """Of ASGI."""
        if message["type"] == "http.response.start":
            self._ticket.answers()
            told = [(name.lower().encode(), value.encode()) for name, value in self._ticket.fields().items()]
            message = {**message, "headers": [*message["headers"], *told]}
        await self._send(message)
