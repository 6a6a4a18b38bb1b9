"""A server of a plain app, on a loop of its own as in production, and clients that speak by the byte."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import uvloop
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from api.front.answering import Answering
from api.serving.connection import Connection
from api.serving.limits import Limits
from api.serving.server import Server
from api.serving.state import State, body_there
from api.telemetry import Telemetry

LARGE = 8 * 1024 * 1024


class Plain:
    """Answers as its path says, and keeps what it was asked. It knows /known by heart, and breaks over /broken; of a
    request to /there it takes the body without a message, if it can; before it looks at one to /unread, it waits.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []
        self.there: list[bool] = []  # of requests to /there: whether their bodies were, when they were looked at
        self.failed: list[RuntimeError] = []  # to say something
        self.peers: list[str] = []  # whose requests they were
        self.go = asyncio.Event()
        self.left = 0  # requests whose client was gone before their bodies were whole

    def at_once(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes] | None:
        if target == b"/broken":
            raise ValueError(target)
        if target != b"/known":
            return None
        body = b"by heart" + dict(headers).get(b"more", b"")
        return b"200 OK\r\n", b"content-length: %d\r\n\r\n" % len(body), body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(scope["type"])  # ASGI: what an app does not speak, it refuses; here uvicorn's lifespan
        path, body = scope["path"], b""
        if path == "/unread":
            await self.go.wait()
        there = body_there(receive) if path == "/there" else None
        self.there.append(there is not None)
        while path != "/early" and there is None:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            body += message["body"]
            if not message["more_body"]:
                break
        body = there or body
        self.peers.append(scope["client"][0])
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((f"{scope['method']} {path}", body, headers))
        if path == "/later":
            await asyncio.sleep(0.4)
        answer = b"x" * LARGE if path == "/large" else b"%d" % len(body)
        lines = [(b"content-length", b"%d" % len(answer))]
        if path == "/two-lines":
            lines.append((b"location", b"/here\r\nset-cookie: a=b"))
        try:
            if path == "/messages":
                await send({"type": "http.response.start", "status": 200, "headers": lines})
                await send({"type": "http.response.body", "body": answer})
            else:
                await Answering(send).answer(200, lines, answer)
        except RuntimeError as error:
            self.failed.append(error)


class Serving(Struct):
    app: Plain
    server: Server
    telemetry: Telemetry
    stop: Callable[[], None]
    call: Callable[..., object]  # in the server's own thread, soon

    @property
    def port(self) -> int:
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def state(self) -> State:
        state = self.server.server_state
        assert isinstance(state, State)
        return state

    async def connected(self) -> Connection:
        """The first connection, once there is one."""
        await until(lambda: bool(self.state.queue))
        return self.state.queue[0]

    def ended(self, why: str) -> float:
        return self.telemetry.registry.get_sample_value("cairn_connections_ended_total", {"why": why}) or 0.0

    async def said(self, *pieces: bytes) -> bytes:
        """All that the server says to these pieces, until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        hearing = asyncio.create_task(_all(reader))
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(10):
                return await hearing
        finally:
            writer.transport.abort()


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Up to the end, or to where the connection broke off."""
    said = b""
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            said += data
    return said


@contextmanager
def serving(limits: Limits, drain_seconds: float = 0.0) -> Iterator[Serving]:
    app, telemetry = Plain(), Telemetry()
    server = Server(app, telemetry, limits, log_level="critical", drain_seconds=drain_seconds, at_once=app.at_once)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()

    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    try:
        yield Serving(app, server, telemetry, stop, loops[0].call_soon_threadsafe)
    finally:
        stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the server's thread is about to do."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def answers(said: bytes) -> list[tuple[int, Any]]:
    """Status and body of each answer; a problem's body is its code."""
    found = []
    while said:
        head, _, said = said.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        length = int(headers["content-length"])
        body, said = said[:length], said[length:]
        problem = headers.get("content-type") == "application/problem+json"
        found.append((int(line.split()[1]), json.loads(body)["code"] if problem else body))
    return found
