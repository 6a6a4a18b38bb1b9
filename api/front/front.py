"""The app as the server runs it: kept answers first, then the routes by table, then what is left to FastAPI."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI, Response
from starlette.types import Message, Receive, Scope, Send

from api.admission.door import FREE, Door, entrance_of
from api.admission.pace import Pace
from api.clients import ClientTooOld, client_of
from api.front.answering import NOT_MODIFIED, OK, Answering
from api.front.cache import Asked
from api.front.kept import Kept
from api.front.meter import Meter
from api.front.reading import KeptReads
from api.front.request import HeaderTwice, Request, by_name
from api.front.routes import Route, declared, paths_by_client, table_of
from api.front.table import Found
from api.minimum import Minimum
from api.problems import answer_error, method_not_allowed
from api.services import Services
from domain.errors import DomainError

_OTHERS: Final = "other"  # what FastAPI answers: documentation, and paths that there are not
_SUCCESS: Final = range(200, 300)
_GET: Final = "GET"
_HEAD: Final = "HEAD"


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
        self._table = table_of(app, services)
        self._reads = KeptReads(services, paths_by_client(app))
        self._minimum = Minimum(services.client_settings)

    async def listen(self) -> None:
        """Keep answers as long as news of what makes them old are heard, until cancelled."""
        await self._reads.listen()

    def openapi(self) -> dict[str, Any]:
        """The contract."""
        return self._app.openapi()

    def routes(self) -> Iterator[tuple[str, str]]:
        """Method and path template of each route of ours."""
        for context, method in declared(self._app):
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
        try:
            headers = by_name(scope["headers"])
        except HeaderTwice as refusal:
            await self._away(refusal, None, scope, receive, send, {}, began)
            return
        asked = None
        if scope["method"] == _GET:
            kept, asked = self._kept(scope["raw_path"], scope["query_string"], headers)
            told = None if kept is None or asked is None else self._door.local(kept.kind, headers, asked.user)
            if kept is not None and told is not None:
                self._read_kept(kept, await Answering(send, told=told.lines).answer_kept(kept, headers), headers, began)
                return
        found = self._table.find(scope["path"])
        if scope["path"] in FREE:
            await self._routed(found, scope, receive, Answering(send), headers, asked, began)
            return
        route = None if found is None else found.answering.get(scope["method"])
        entrance = entrance_of(scope["method"], scope["path"]) if route is None else route.entrance
        try:
            ticket = self._door.on_trust(headers, entrance) or await self._door.enter(scope, headers, entrance)
        except Exception as refusal:  # noqa: BLE001 - a fault of the door's has an answer as any other
            await self._away(refusal, route, scope, receive, send, headers, began)
            return
        if b"cairn-min-position" in headers:
            ticket.untimed()  # it may wait for the read models
        scope.setdefault("state", {})["kind"] = ticket.kind
        try:
            await self._routed(found, scope, receive, Answering(send, ticket), headers, asked, began)
        finally:
            ticket.leave()

    async def _away(
        self,
        refusal: Exception,
        route: Route | None,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[bytes, bytes],
        began: float,
    ) -> None:
        await self._pace.turn()
        response = _refused(Request(scope, receive, headers), route, refusal)
        await response(scope, receive, send)
        meter = self._meters.of("other", _OTHERS) if route is None else route.meter
        meter.answered(response.status_code, self._client(headers, signed_in=False), time.perf_counter() - began)

    def at_once(self, target: bytes, lines: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes] | None:
        """The answer to a GET, if it is kept, ready packed and within the limits (`api.serving.state.AtOnce`)."""
        began = time.perf_counter()
        headers = dict(lines)
        if len(headers) != len(lines):
            return None
        path, _, query = target.partition(b"?")
        kept, asked = self._kept(path, query, headers)
        if kept is None or asked is None:
            return None
        variant = kept.ready(headers.get(b"accept-encoding", b""))
        told = None if variant is None else self._door.local(kept.kind, headers, asked.user)
        if variant is None or told is None:
            return None
        if variant.known_by(headers.get(b"if-none-match")):
            self._read_kept(kept, NOT_MODIFIED, headers, began)
            return b"304 Not Modified\r\n", told.packed + variant.not_modified_lines, b""
        self._read_kept(kept, OK, headers, began)
        return b"200 OK\r\n", told.packed + variant.ok_lines, variant.body

    def _read_kept(self, kept: Kept, status: int, headers: Mapping[bytes, bytes], began: float) -> None:
        kept.meter.read("process", "hit" if status == OK else "not_modified")
        kept.meter.answered(status, self._client(headers, signed_in=True), time.perf_counter() - began)

    def _kept(self, path: bytes, query: bytes, headers: Mapping[bytes, bytes]) -> tuple[Kept | None, Asked | None]:
        """What may be answered at once; and under what an answer to this may be kept, if its sender is known."""
        asked = self._reads.asked(path, query, headers)
        kept = None if asked is None else self._reads.find(asked, headers)
        if kept is not None and self._too_old(headers, kept.meter.route, _GET) is not None:
            kept = None
        return kept, asked

    def _too_old(self, headers: Mapping[bytes, bytes], template: str, method: str) -> ClientTooOld | None:
        try:
            self._minimum.check(headers.get(b"cairn-client"), template, method)
        except ClientTooOld as refusal:
            return refusal
        return None

    def _client(self, headers: Mapping[bytes, bytes], *, signed_in: bool) -> str:
        return self._services.telemetry.client(client_of(headers.get(b"cairn-client", b"")).label, signed_in=signed_in)

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
            self._answered(self._meters.of(scope["method"], _OTHERS), status, send, headers, began)
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
            self._answered(self._meters.of("other", _OTHERS), 405, send, headers, began)
            return
        scope["path_params"] = dict(zip(names[method], values, strict=True))
        scope["route"] = route
        query = scope["query_string"]
        refusal = self._too_old(headers, route.template, method) or (_no_text(query) if query else None)
        if refusal is not None:
            response = _refused(request, route, refusal)
            await response(scope, receive, send)
            status = response.status_code
        elif asked is not None:
            status = await send.deliver(await self._read(route, request, asked), request)
        else:
            response = await self._answer(route, request)
            if method != _GET and response.status_code in _SUCCESS:  # before anybody can read on the strength of it
                self._reads.wrote(send.user_id, response)
            status = await send.deliver(response, request)
        self._answered(route.meter, status, send, headers, began)

    def _answered(
        self, meter: Meter, status: int, send: Answering, headers: Mapping[bytes, bytes], began: float
    ) -> None:
        """Its label is asked for now: one that left since the request came would be counted under for ever."""
        client = self._client(headers, signed_in=send.user_id is not None)
        meter.answered(status, client, time.perf_counter() - began)

    async def _read(self, route: Route, request: Request, asked: Asked) -> Kept | Response:
        try:
            return await self._reads.read(route, request, asked, partial(self._answer, route, request))
        except Exception as error:  # noqa: BLE001 - a fault of what is kept has an answer as any other
            return _refused(request, route, error)

    async def _answer(self, route: Route, request: Request) -> Response:
        try:
            return await route.endpoint(request)
        except Exception as error:  # noqa: BLE001 - every refusal has an answer, and so has every fault
            return _refused(request, route, error)

    async def _left_to_fastapi(self, scope: Scope, receive: Receive, send: Send) -> int:
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, watched)
        return status


def _refused(request: Request, route: Route | None, error: Exception) -> Response:
    response = answer_error(request, error)
    if route is not None:
        response.headers.update(route.refusing)
    return response


def _no_text(query: bytes) -> QueryNotText | None:
    """What is not UTF-8 would be taken for U+FFFD."""
    try:
        (unquote_to_bytes(query) if b"%" in query else query).decode()
    except UnicodeDecodeError:
        return QueryNotText()
    return None
