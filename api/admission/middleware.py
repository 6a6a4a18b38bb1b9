"""The door as ASGI: outermost, so that what is refused costs next to nothing."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.admission.admission import Admission, Ask, Ticket
from api.admission.kinds import lowered, sort_of
from api.clients import client_of
from api.problems import answer_refusal
from api.services import Services
from api.tokens import LATE_UPLOAD
from domain.accounts import TokenRefused
from domain.errors import DomainError
from domain.measures import UserId

FREE: Final = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})


class AdmissionMiddleware:
    """Lets requests in by `services.admission`, and tells the RateLimit fields to those who are signed in."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services
        self._admission: Admission = services.admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] in FREE:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        ask = self._ask(scope, headers)
        try:
            ticket = self._admission.hold(ask)
        except DomainError as refusal:
            await answer_refusal(refusal, scope)(scope, receive, send)
            return
        answering = _Answering(send, ticket)
        try:
            signed_in = self._signed_in(ask, headers)
            try:
                await self._admission.count(signed_in, ticket)
            except DomainError as refusal:
                ticket.untimed()
                await answer_refusal(refusal, scope)(scope, receive, send)
                return
            if b"cairn-min-position" in headers:
                ticket.untimed()  # it may wait for the read models
            answering.tells = signed_in.user_id is not None
            await self._app(scope, receive, answering)
        finally:
            ticket.leave()

    def _ask(self, scope: Scope, headers: dict[bytes, bytes]) -> Ask:
        sort = sort_of(scope["method"], scope["path"])
        client = client_of(headers.get(b"cairn-client", b"").decode("latin-1"))
        kind = lowered(sort.kind, headers[b"priority"]) if b"priority" in headers else sort.kind
        peer = (scope.get("client") or ("",))[0]
        address = self._services.addresses.of(peer, headers.get(b"x-forwarded-for", b"").decode("latin-1"))
        return Ask(kind, None, client.device, client.label, address, sort.anonymous)

    def _signed_in(self, ask: Ask, headers: dict[bytes, bytes]) -> Ask:
        user_id = self._user(headers.get(b"authorization", b"").decode("latin-1"))
        return Ask(ask.kind, user_id, ask.device, ask.client, ask.address, ask.anonymous)

    def _user(self, authorization: str) -> UserId | None:
        """Whose requests to count, also with a token that has expired: what it opens is not decided here."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            return self._services.tokens.read(token.strip(), self._services.clock(), late=LATE_UPLOAD).user_id
        except TokenRefused:
            return None


class _Answering:
    """Adds the RateLimit fields to an answer, and notes when it began: what comes after is the client's pace."""

    def __init__(self, send: Send, ticket: Ticket) -> None:
        self._send = send
        self._ticket = ticket
        self.tells = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._ticket.answers()
            if self.tells:
                fields = self._ticket.fields().items()
                told = [(name.lower().encode(), value.encode()) for name, value in fields]
                message["headers"] = [*message["headers"], *told]
        await self._send(message)
