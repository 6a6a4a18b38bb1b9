"""A network that fails as it is told to."""

import asyncio
import json
import math
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import uuid4


@dataclass
class Request:
    line: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Answer:
    status: int = 200
    body: object = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def __bytes__(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        told = {"Content-Type": self.content_type, "Content-Length": len(body), "Connection": "close", **self.headers}
        lines = [f"HTTP/1.1 {self.status} As told", *(f"{name}: {value}" for name, value in told.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


CUT_OFF = None  # the connection ends without an answer
Script = Callable[[Request], Answer | None]


@asynccontextmanager
async def network(script: Script | Sequence[Answer | None]) -> AsyncIterator[tuple[str, list[Request]]]:
    """A server that answers as told, and what it was asked."""
    asked: list[Request] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest if one)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(line.removesuffix(" HTTP/1.1"), headers, body)
        asked.append(request)
        answer = script(request) if callable(script) else script[len(asked) - 1]
        writer.write(b"" if answer is None else bytes(answer))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def tokens(number: int) -> Answer:
    session = {"user_id": str(uuid4()), "access_token": f"access-{number}", "refresh_token": f"refresh-{number}"}
    return Answer(201, session)


@dataclass(frozen=True)
class Air:
    """How bad it is: the share of connections that break off, within the first bytes of a request; a way's delay, and
    what gets through in a second each way.
    """

    share: float = 0.3
    within_bytes: int = 900  # head and begin of the body
    delay_seconds: float = 0.0
    bytes_a_second: float = math.inf


class Line:
    """A way to a server on which connections break off: at a byte of the request, or of the answer."""

    def __init__(self, url: str, dice: random.Random, air: Air) -> None:
        self.url = url
        self._dice = dice
        self._air = air
        self.carried_bytes = 0  # to the server
        self.connections = 0
        self.cut_requests = 0
        self.cut_answers = 0

    async def serve(self, server_url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        told, heard = self._fate()
        await asyncio.sleep(2 * self._air.delay_seconds)  # SYN and ACK
        address = urlsplit(server_url)
        server_reader, server_writer = await asyncio.open_connection(address.hostname, address.port)
        there = asyncio.create_task(self._carry(reader, server_writer, told, up=True))
        back = asyncio.create_task(self._carry(server_reader, writer, heard, up=False))
        done, _ = await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        if there in done and not there.result():  # the client has said all it will say
            await back
        self.cut_requests += there.done() and there.result()
        self.cut_answers += back.done() and back.result()
        there.cancel()
        for end in (writer, server_writer):
            end.transport.abort()  # whatever was not sent yet is lost, as when a train enters a tunnel

    def _fate(self) -> tuple[int | None, int | None]:
        """After how many bytes of the request, or of the answer, the connection breaks; None: it does not."""
        if self._dice.random() >= self._air.share:
            return None, None
        if self._dice.random() < 0.5:
            return self._dice.randrange(self._air.within_bytes), None
        return None, self._dice.randrange(300)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None, *, up: bool
    ) -> bool:
        """Pass bytes on to the end, or to the limit: then True."""
        piece = int(min(1 << 16, max(64, self._air.bytes_a_second / 10)))
        idle_since = -math.inf
        with suppress(ConnectionError):
            while data := await reader.read(piece):
                if asyncio.get_running_loop().time() - idle_since > self._air.delay_seconds:
                    await asyncio.sleep(self._air.delay_seconds)
                await asyncio.sleep(len(data) / self._air.bytes_a_second)
                broken = limit is not None and len(data) >= limit
                writer.write(data[:limit] if broken else data)
                self.carried_bytes += up * len(data[:limit] if broken else data)
                await writer.drain()
                if broken:
                    await asyncio.sleep(0.01)  # until they are there
                    return True
                limit = None if limit is None else limit - len(data)
                idle_since = asyncio.get_running_loop().time()
        return False


@asynccontextmanager
async def lossy(server_url: str, seed: int, air: Air | None = None) -> AsyncIterator[Line]:
    """A bad line to a real server."""
    line = Line("", random.Random(seed), air or Air())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await line.serve(server_url, reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield line
