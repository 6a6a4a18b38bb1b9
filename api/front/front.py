"""The app as the server runs it: kept answers first, then the routes by table, then what is left to FastAPI."""

import hashlib
import time
from asyncio import Future, get_running_loop
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes
from uuid import UUID

import msgspec
from fastapi import FastAPI, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from api.admission.door import FREE, Door, Entrance, entrance_of
from api.admission.pace import Pace
from api.clients import ClientTooOld, client_of
from api.dependencies import asking, services_of
from api.deprecation import deprecation_of
from api.front.answering import Answering
from api.front.cache import MAX_BODY, Asked, ReadCache
from api.front.endpoint import Endpoint, compiled
from api.front.kept import KEPT, Kept, Stored
from api.front.meter import Meter
from api.front.request import Request
from api.front.table import Found, Table
from api.minimum import Minimum
from api.problems import answer_error, answer_refusal, method_not_allowed
from api.services import Services
from api.tokens import token_of
from domain.errors import DomainError

_OTHERS: Final = "other"  # what FastAPI answers: documentation, and paths that there are not
_SUCCESS: Final = range(200, 300)
_MAX_TARGET: Final = 4_000  # bytes of what a kept answer is kept under: a list of a hundred ids has 3,700
_MAX_TOKEN: Final = 128  # bytes of a position that is remembered
_NO_POSITION: Final = 2**63
_GET: Final = "GET"
_HEAD: Final = "HEAD"
_OK: Final = 200
_NOT_MODIFIED: Final = 304


class Route(NamedTuple):
    """An endpoint, with what is counted of it. `keeps`: whether its last answer could be kept."""

    template: str
    endpoint: Endpoint
    meter: Meter
    entrance: Entrance
    keeps: list[bool]


class QueryNotText(DomainError):
    """The query is no text in UTF-8."""

    code = "malformed-request"


class Front:
    """An ASGI app."""

    def __init__(self, app: FastAPI, services: Services) -> None:
        self._app = app
        self._services = services
        self._door = Door(services)
        self._pace = Pace()
        self._meters = services.telemetry.meters
        self._table = _table(app, services)
        self._by_client = _by_client(app)
        self._cache = ReadCache()
        self._minimum = Minimum(services.client_settings)
        self._flights: dict[Asked, Future[Kept | None]] = {}
        services.telemetry.watch_cache(self._cache)

    async def listen(self) -> None:
        """Keep answers as long as news of what makes them old are heard, until cancelled."""
        await self._services.shared_reads.listen(self._changed, self._opened, self._closed)

    def openapi(self) -> dict[str, Any]:
        """The contract."""
        return self._app.openapi()

    def routes(self) -> Iterator[tuple[str, str]]:
        """Method and path template of each route of ours."""
        for context, method in _declared(self._app):
            yield method, str(context.path_format)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            scope["app"] = self._app
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        if scope["method"] == _HEAD:  # what a GET would be answered; the server leaves the body out
            scope = {**scope, "method": _GET}
        headers: dict[bytes, bytes] = dict(scope["headers"])
        asked = None
        if scope["method"] == _GET:
            kept, asked = self._kept(scope["raw_path"], scope["query_string"], headers)
            if kept is not None and asked is not None and self._door.local(kept.kind, headers, asked.user):
                self._read_kept(kept, await _send_kept(kept, headers, Answering(send)), headers, began)
                return
        found = self._table.find(scope["path"])
        if scope["path"] in FREE:
            await self._routed(found, scope, receive, Answering(send), headers, asked, began)
            return
        route = None if found is None else found[0].get(scope["method"])
        entrance = entrance_of(scope["method"], scope["path"]) if route is None else route.entrance
        ticket = self._door.on_trust(headers, entrance)
        if ticket is None:
            try:
                ticket = await self._door.enter(scope, headers, entrance)
            except DomainError as refusal:
                await self._away(refusal, scope, receive, send, headers, began)
                return
        try:
            await self._routed(found, scope, receive, Answering(send, ticket), headers, asked, began)
        finally:
            ticket.leave()

    async def _away(
        self,
        refusal: DomainError,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[bytes, bytes],
        began: float,
    ) -> None:
        await self._pace.turn()
        response = answer_refusal(refusal, scope)
        await response(scope, receive, send)
        self._meters.of("other", _OTHERS).answered(
            response.status_code, self._client(headers), time.perf_counter() - began
        )

    def at_once(self, target: bytes, lines: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes] | None:
        """The answer to a GET, if it is kept, ready packed and within the limits (`api.serving.state.AtOnce`)."""
        began = time.perf_counter()
        headers = dict(lines)
        path, _, query = target.partition(b"?")
        kept, asked = self._kept(path, query, headers)
        if kept is None or asked is None:
            return None
        variant = kept.ready(headers.get(b"accept-encoding", b""))
        if variant is None or not self._door.local(kept.kind, headers, asked.user):
            return None
        if variant.known_by(headers.get(b"if-none-match")):
            self._read_kept(kept, _NOT_MODIFIED, headers, began)
            return b"304 Not Modified\r\n", variant.not_modified_lines, b""
        self._read_kept(kept, _OK, headers, began)
        return b"200 OK\r\n", variant.ok_lines, variant.body

    def _read_kept(self, kept: Kept, status: int, headers: Mapping[bytes, bytes], began: float) -> None:
        kept.meter.read("process", "hit" if status == _OK else "not_modified")
        kept.meter.answered(status, self._client(headers), time.perf_counter() - began)

    def _kept(self, path: bytes, query: bytes, headers: Mapping[bytes, bytes]) -> tuple[Kept | None, Asked | None]:
        """What may be answered at once; and under what an answer to this may be kept, if its sender is known."""
        authorization = headers.get(b"authorization")
        if authorization is None:
            return None, None
        services = self._services
        bearer = services.tokens.known(token_of(authorization), time.time())
        client = b""
        if path in self._by_client:
            client = b"%d %b" % (services.client_settings.current.version, headers.get(b"cairn-client", b""))
        long = len(path) + len(query) + len(client) > _MAX_TARGET
        if bearer is None or long or services.accounts.ended(bearer.session_id):
            return None, None
        asked = Asked(bearer.user_id.int, path, query, client)
        kept = self._cache.find(asked, time.monotonic())
        if kept is None or kept.seen.builds != services.read_models.builds:
            return None, asked
        if self._too_old(headers, kept.meter.route, _GET) is not None:
            return None, asked
        token = headers.get(b"cairn-min-position")
        if token is not None and self._position(token) > kept.seen.position:
            return None, asked
        return kept, asked

    def _too_old(self, headers: Mapping[bytes, bytes], template: str, method: str) -> ClientTooOld | None:
        try:
            self._minimum.check(headers.get(b"cairn-client"), template, method)
        except ClientTooOld as refusal:
            return refusal
        return None

    def _position(self, token: bytes) -> int:
        """The position of a token; beyond all for one that is none, so that the endpoint refuses it."""
        return _NO_POSITION if len(token) > _MAX_TOKEN else _position_of(self._services.read_models.position, token)

    def _client(self, headers: Mapping[bytes, bytes]) -> str:
        return self._services.telemetry.client(client_of(headers.get(b"cairn-client", b"")).label)

    async def _routed(
        self,
        found: Found[Route] | None,
        scope: Scope,
        receive: Receive,
        send: Answering,
        headers: dict[bytes, bytes],
        asked: Asked | None,
        began: float,
    ) -> None:
        if found is None:
            status = await self._left_to_fastapi(scope, receive, send)
            self._meters.of(scope["method"], _OTHERS).answered(
                status, self._client(headers), time.perf_counter() - began
            )
            return
        methods, names, values = found
        method = scope["method"]
        route = methods.get(method)
        scope["app"] = self._app
        scope.setdefault("state", {})
        request = Request(scope, receive, headers)
        if route is None:
            response = method_not_allowed(methods)
            await response(scope, receive, send)
            self._meters.of("other", _OTHERS).answered(405, self._client(headers), time.perf_counter() - began)
            return
        scope["path_params"] = dict(zip(names[method], values, strict=True))
        scope["route"] = route
        query = scope["query_string"]
        refusal = self._too_old(headers, route.template, method) or (_no_text(query) if query else None)
        if refusal is not None:
            response = answer_error(request, refusal)
            await response(scope, receive, send)
            status = response.status_code
        elif asked is not None and route.keeps[0]:
            status = await self._read(route, request, headers, asked, send)
        else:
            response = await self._answer(route.endpoint, request)
            kept = None if asked is None else self._keep(route, request, asked)
            status = await _deliver(response, kept, request, headers, send)
            if method != _GET and status in _SUCCESS:
                self._wrote(send.user_id, response)
        route.meter.answered(status, self._client(headers), time.perf_counter() - began)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - every refusal has an answer, and so has every fault
            return answer_error(request, error)

    async def _left_to_fastapi(self, scope: Scope, receive: Receive, send: Send) -> int:
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, watched)
        return status

    # reads that may be kept

    async def _read(
        self, route: Route, request: Request, headers: dict[bytes, bytes], asked: Asked, send: Answering
    ) -> int:
        """A kept answer of others, or of whoever is asking the same right now, or a new one."""
        token = headers.get(b"cairn-min-position")
        floor = -1 if token is None else self._position(token)
        flight = self._flights.get(asked)
        if flight is not None and floor < 0:
            kept = await flight
            if kept is not None:
                route.meter.read("process", "coalesced")
                return await _send_kept(kept, headers, send)
        leading = flight is None and floor < 0  # who waits for a position keeps nobody else waiting
        if leading:
            flight = self._flights[asked] = get_running_loop().create_future()
        kept = None
        try:
            kept = await self._shared(route, asked, floor)
            if kept is not None:
                self._land(asked, flight, kept, leading=leading)
                return await _send_kept(kept, headers, send)
            response = await self._answer(route.endpoint, request)
            kept = self._keep(route, request, asked)
        finally:
            self._land(asked, flight, kept, leading=leading)
        return await _deliver(response, kept, request, headers, send)

    def _land(self, asked: Asked, flight: "Future[Kept | None] | None", kept: Kept | None, *, leading: bool) -> None:
        if leading and flight is not None and not flight.done():
            del self._flights[asked]
            flight.set_result(kept)

    async def _shared(self, route: Route, asked: Asked, floor: int) -> Kept | None:
        """What another process has kept, if it is good."""
        if not self._cache.open:
            route.meter.read("process", "bypassed")
            return None
        route.meter.read("process", "miss")
        found = await self._services.shared_reads.find(asked.user_id, _key(asked))
        kept = None
        if found is not None:
            kept = await self._checked(found[0], found[1], asked, floor)
        route.meter.read("valkey", "miss" if kept is None else "hit")
        if kept is not None:
            kept.meter, kept.kind = route.meter, route.entrance.sort.kind
            self._cache.keep(asked, kept, time.monotonic(), self._services.clock())
        return kept

    async def _checked(self, stored: bytes, level: int, asked: Asked, floor: int) -> Kept | None:
        kept = msgspec.msgpack.decode(stored, type=Stored).kept()
        seen = kept.seen
        if seen.position < max(floor, level) or seen.builds != self._services.read_models.builds:
            return None
        if kept.until is not None and kept.until <= self._services.clock():
            return None
        others = kept.about - {asked.user_id}
        if others:
            highest = await self._services.shared_reads.level(others)
            if highest is None or highest > seen.position:
                return None
        return None if self._cache.outdated(kept) else kept

    def _keep(self, route: Route, request: Request, asked: Asked) -> Kept | None:
        """Keep what an endpoint has answered, if it says that it may be."""
        kept: Kept | None = request.scope.get(KEPT)
        if not asked.client and route.template.encode() in self._by_client:
            kept = None  # asked for by another spelling of its path
        route.keeps[0] = kept is not None
        if kept is None:
            return None
        kept.meter, kept.kind = route.meter, route.entrance.sort.kind
        if self._cache.keep(asked, kept, time.monotonic(), self._services.clock()):
            stored = msgspec.msgpack.encode(kept.stored())
            seconds = kept.expires_at - time.monotonic()
            users = kept.about | {asked.user_id}
            self._services.shared_reads.keep(asked.user_id, _key(asked), stored, users, kept.seen.position, seconds)
            return kept
        return kept if len(kept.body) <= MAX_BODY else None

    def _wrote(self, user_id: UUID | None, response: Response) -> None:
        """The writer's own reads are not answered from before the write any more, wherever the projections are."""
        position = next((value for name, value in response.raw_headers if name == b"cairn-position"), None)
        if user_id is not None and position is not None:
            self._cache.changed([user_id], self._services.read_models.position(position.decode()))

    def _changed(self, users: Collection[UUID], position: int) -> None:
        if users:
            self._cache.changed(users, position)
        else:
            self._cache.clear()
            self._services.read_models.forget()

    def _opened(self) -> None:
        self._cache.clear()
        self._cache.open = True

    def _closed(self) -> None:
        self._cache.open = False
        self._cache.clear()


def _declared(app: FastAPI) -> Iterator[tuple[Any, str]]:
    for context in iter_route_contexts(app.routes):
        if hasattr(context, "dependant"):  # ours; the others are the documentation's
            for method in sorted(context.methods or ()):
                yield context, method


def _by_client(app: FastAPI) -> frozenset[bytes]:
    """The paths whose answers depend on which app asks."""
    routes = (context for context, method in _declared(app) if method == _GET)
    return frozenset(str(one.path_format).encode() for one in routes if _asks(one.dependant, asking))


def _asks(dependant: Dependant, what: Callable[..., Any]) -> bool:
    return any(one.call is what or _asks(one, what) for one in dependant.dependencies)


def _table(app: FastAPI, services: Services) -> Table[Route]:
    """Every route that was declared, compiled."""
    table: Table[Route] = Table()
    for context, method in _declared(app):
        template = str(context.path_format)
        endpoint = compiled(context.dependant, {services_of: services})
        meter = services.telemetry.meters.of(method, template)
        meter.deprecated = deprecation_of(context.endpoint) is not None
        table.add(template, method, Route(template, endpoint, meter, entrance_of(method, template), [True]))
    return table


async def _send_kept(kept: Kept, headers: Mapping[bytes, bytes], send: Answering) -> int:
    """The answer as the client takes it, or that the client has it; the status."""
    variant = await kept.variant(headers.get(b"accept-encoding", b""))
    if variant.known_by(headers.get(b"if-none-match")):
        await send.answer(_NOT_MODIFIED, variant.not_modified, b"")
        return _NOT_MODIFIED
    await send.answer(_OK, variant.ok, variant.body)
    return _OK


async def _deliver(
    response: Response, kept: Kept | None, request: Request, headers: Mapping[bytes, bytes], send: Answering
) -> int:
    """Send the answer, from what is kept of it if it is: that is packed already, or will be for the next ones too."""
    if kept is None and type(response) is Response:
        await send.answer(response.status_code, response.raw_headers, bytes(response.body))
        return response.status_code
    with suppress(ClientDisconnect):
        if kept is not None:
            return await _send_kept(kept, headers, send)
        await response(request.scope, request.receive, send)
    return response.status_code


def _no_text(query: bytes) -> QueryNotText | None:
    """What is not UTF-8 would be taken for U+FFFD."""
    try:
        (unquote_to_bytes(query) if b"%" in query else query).decode()
    except UnicodeDecodeError:
        return QueryNotText()
    return None


@lru_cache(maxsize=1_024)
def _key(asked: Asked) -> str:
    return hashlib.blake2b(b"%b?%b %b" % asked[1:], digest_size=16).hexdigest()


@lru_cache(maxsize=65_536)
def _position_of(position: Callable[[str], int], token: bytes) -> int:
    try:
        return position(token.decode("latin-1").strip())
    except DomainError:
        return _NO_POSITION
