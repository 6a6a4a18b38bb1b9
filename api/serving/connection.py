"""One connection: uvicorn's, with caps on what may come, and able to say what its client owes."""

import asyncio
import contextlib
import logging
import socket
import struct
from enum import Enum
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.serving.refusals import Refused, code_of, wire_bytes
from api.serving.request import Flow, Request
from api.serving.state import State

_log = logging.getLogger(__name__)

_LOOKED_AT: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_SLASH: Final = ord("/")
_PIECE_BYTES: Final = 16 * 1024  # of a body that is not whole: as many at least are worth waking its reader for
_VERSIONS: Final = ("1.1", "1.0")
_UPGRADE: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})


class Owed(Enum):
    """What the server waits for its client to send. The values are labels in metrics."""

    FIRST = "first"  # a byte at all
    HEAD = "head"  # the rest of a head
    BODY = "body"  # the rest of a body
    NEXT = "next"  # another request, or nothing more
    NOTHING = "nothing"  # it is our turn
    END = "end"  # it was refused, and should hang up


class Connection(HttpToolsProtocol):
    """Costs a request a few counters: whether it is slow, the watch finds out, for all connections once a second."""

    flow: Flow

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if not isinstance(server_state, State):
            raise TypeError(server_state)
        self.limits = server_state.limits
        self.shared = server_state
        self.url = b""
        self.unfinished = 0  # bytes since a head, a piece of a body or a message was whole
        self.payload = 0  # bytes of bodies, without their framing
        self.refused = False
        self.requests = 0  # that have begun
        self._has_host = False  # the request that is coming
        self._has_body = False
        self._has_head = False  # what lines come now are trailers
        self._at_once = False  # it is answered
        self._upgrading = False
        self._running: RequestResponseCycle | None = None  # known while others are pipelined behind it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Taken, unless there are too many."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self.shared.queue.append(self)
        if len(self.connections) > self.limits.connections:
            self.shared.count("crowded")
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody reads answers any more. uvicorn knows that of the request that came last only."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parsed, or refused. What makes nothing whole may not grow larger than a head."""
        if self.refused:
            return
        rest = self._parse(data)
        while rest is not None:
            self._parse(self._head_again())
            rest = self._parse(rest) if rest and not self.refused else None

    def _parse(self, data: bytes | memoryview) -> memoryview | None:
        """What follows the head of a request for another protocol, where the parser stopped at one."""
        self.unfinished += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return memoryview(data)[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, Refused):
                raise
            self.refuse(error.__context__.code)
        except httptools.HttpParserError as error:
            self.refuse(code_of(error, data))
        else:
            if self.unfinished > self.limits.head_bytes:
                self.refuse("address-too-long" if len(self.url) > self.limits.url_bytes else "headers-too-large")
        return None

    def on_message_begin(self) -> None:
        """A request comes. A scope is made of it when its head is whole, unless that is answered at once."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._has_host = self._has_body = self._has_head = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line, or a trailer, which nobody reads."""
        if self._has_head:
            return
        name = name.lower()
        if name in _LOOKED_AT:
            self._look_at(name, value)
        self.headers.append((name, value))

    def _look_at(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            if self._has_host:  # RFC 9112, 3.2
                raise Refused("malformed-request")
            self._has_host = True
        elif name == b"content-length":
            self._has_body = True
        elif name == b"expect":  # RFC 9110, 10.1.1: not of HTTP/1.0, which has no interim answers
            self.expect_100_continue = value.lower() == b"100-continue" and self.parser.get_http_version() != "1.0"
        elif value.lower() == b"chunked":
            self._has_body = True
        else:  # RFC 9112, 6.1
            raise Refused("transfer-coding-unknown")

    def on_headers_complete(self) -> None:
        """Start the request, unless its head cannot be taken."""
        limits = self.limits
        plain = (
            0 < self.unfinished <= limits.url_bytes  # 0: it came in one piece with the end of another
            and len(self.headers) <= limits.header_lines
            and self._has_host
            and self.url[0] == _SLASH
            and not self.pipeline
        )
        if not plain:
            self._require_taken()
        self._has_head = True
        self.unfinished = 0
        self.requests += 1
        if self.parser.should_upgrade():
            self._wish()
            return
        if not self._has_body and self._answer_at_once():
            return
        before = self.request
        self.cycle = self._request()
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:  # it waits for its turn
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
            if len(self.pipeline) == 1:
                self._running = before

    def _request(self) -> Request:
        """The request whose head is whole."""
        parser, target = self.parser, httptools.parse_url(self.url)
        version, path = parser.get_http_version(), target.path.decode("ascii")
        if version not in _VERSIONS:
            raise Refused("http-version-unknown")
        scope: HTTPScope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},  # of uvicorn
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": parser.get_method().decode("ascii"),
            "root_path": self.root_path,
            "path": unquote(path) if "%" in path else path,
            "raw_path": target.path,
            "query_string": target.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        last = version == "1.0" or self.shared.leaving or not parser.should_keep_alive()
        return Request(self, scope, keep_alive=not last)

    def _answer_at_once(self) -> bool:
        """Write what the app knows by heart, when it is this request's turn: no task runs for it, no ASGI."""
        state, before = self.shared, self.request
        if (
            (before is not None and not before.response_complete)
            or self.flow.write_paused
            or state.leaving
            or self.parser.get_method() != b"GET"
            or self.parser.get_http_version() != "1.1"
            or not self.parser.should_keep_alive()
        ):
            return False
        try:
            known = state.at_once(self.url, self.headers)
        except Exception:  # noqa: BLE001 - here it would end the connection; the app has an answer to every fault
            _log.exception("an answer that is known by heart could not be given")
            return False
        if known is None:
            return False
        status, head, body = known
        self.transport.write(b"".join((b"HTTP/1.1 ", status, state.common, head, body)))
        self.flow.given += len(body)
        state.total_requests += 1
        self._at_once = True
        return True

    def _require_taken(self) -> None:
        limits = self.limits
        if len(self.url) > limits.url_bytes:
            raise Refused("address-too-long")
        if len(self.headers) > limits.header_lines or self._head_size() > limits.head_bytes:
            raise Refused("headers-too-large")
        if not self._has_host and self.parser.get_http_version() == "1.1":  # RFC 9112, 3.2
            raise Refused("malformed-request")
        if self.parser.get_method() != b"CONNECT" and not _has_path(self.url):
            raise Refused("malformed-request")
        if len(self.pipeline) >= limits.pipelined:
            raise Refused("malformed-request")

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _wish(self) -> None:
        """The request is for another protocol: the parser stops behind its head."""
        if self.parser.get_method() == b"CONNECT":
            raise Refused("method-unknown")
        self._upgrading = True

    def _head_again(self) -> bytes:
        """The request's head without its wish, which may be ignored (RFC 9110, 7.8), for a parser that begins anew."""
        parser = self.parser
        lines = [b"%s %s HTTP/%s" % (parser.get_method(), self.url, parser.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] not in _UPGRADE]
        if not parser.should_keep_alive():
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does, for pipelined requests
        self._upgrading = False
        self.requests -= 1  # it begins once more
        return b"\r\n".join([*lines, b"", b""])

    def on_body(self, body: bytes) -> None:
        """A piece of the body; after the answer, nobody reads it. Whoever does is woken for some of them together."""
        self.unfinished = 0
        self.payload += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        if len(cycle.body) >= _PIECE_BYTES:
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self._upgrading:
            return
        if self._at_once:
            self._at_once = False
            return
        self.unfinished = 0
        cycle = self.cycle
        cycle.more_body = False
        cycle.message_event.set()
        if self.shared.leaving and cycle.response_complete:
            self.transport.close()

    def on_response_complete(self) -> None:
        """The answer is handed over. uvicorn would set a timer here, for each request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._running = cycle
            self._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        """The server stops: what has begun to come may be finished, and is answered."""
        if self.owed() in (Owed.FIRST, Owed.NEXT):
            self.transport.close()
        elif self.request is not None:
            self.request.keep_alive = False

    @property
    def request(self) -> RequestResponseCycle | None:
        """The one that came last, if any did."""
        return self.cycle

    def owed(self) -> Owed:
        """What its client should do next."""
        request = self.request
        if self.refused:
            ours = request is not None and not request.response_complete and not request.disconnected
            return Owed.NOTHING if ours else Owed.END
        if request is None:
            return Owed.HEAD if self.unfinished else Owed.NEXT if self.requests else Owed.FIRST
        if request.more_body:
            return Owed.NOTHING if self.flow.read_paused or request.waiting_for_100_continue else Owed.BODY
        if not request.response_complete:
            return Owed.NOTHING
        return Owed.HEAD if self.unfinished else Owed.NEXT

    def refuse(self, code: str, why: str = "") -> None:
        """Answer what is coming with a problem, where an answer is still to be given, and close."""
        request = self.request
        self.refused = True
        self.shared.count(why or code)
        if request is None or (request.response_complete and not request.more_body):
            self._say(code)
        elif not request.more_body:  # the bad one was pipelined: those before it are answered
            request.keep_alive = False
        elif request.response_started or self.pipeline:
            self.transport.abort()
        else:
            request.disconnected = True
            request.message_event.set()
            self._say(code)

    def _say(self, code: str) -> None:
        """Closed for writing only: closing a socket with unread bytes would reset it, and the client never read why."""
        self.flow.resume_reading()
        self.transport.write(wire_bytes(code, self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS
            self.transport.close()

    def drop(self, why: str) -> None:
        """Close at once. What waits to be sent is lost, also in the kernel, which would else offer it for minutes."""
        self.shared.count(why)
        client = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def _has_path(url: bytes) -> bool:
    """Whether a target in absolute form (RFC 9112, 3.2.2) names a path."""
    try:
        return (httptools.parse_url(url).path or b"").startswith(b"/")
    except httptools.HttpParserInvalidURLError:
        return False
