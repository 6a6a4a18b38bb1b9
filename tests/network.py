"""A network that fails as it is told to."""

import asyncio
import json
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


class Line:
    """A way to a server on which a share of the connections breaks off: at a byte of the request, or of the answer."""

    def __init__(self, url: str, dice: random.Random, share: float) -> None:
        self.url = url
        self._dice = dice
        self._share = share
        self.connections = 0
        self.cut_requests = 0
        self.cut_answers = 0

    async def serve(self, server_url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        told, heard = self._fate()
        address = urlsplit(server_url)
        server_reader, server_writer = await asyncio.open_connection(address.hostname, address.port)
        there = asyncio.create_task(_carry(reader, server_writer, told))
        back = asyncio.create_task(_carry(server_reader, writer, heard))
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
        if self._dice.random() >= self._share:
            return None, None
        if self._dice.random() < 0.5:
            return self._dice.randrange(900), None  # head and begin of the body
        return None, self._dice.randrange(300)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> bool:
    """Pass bytes on to the end, or to the limit: then True."""
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            if limit is not None and len(data) >= limit:
                writer.write(data[:limit])
                await writer.drain()
                await asyncio.sleep(0.01)  # until they are there
                return True
            limit = None if limit is None else limit - len(data)
            writer.write(data)
            await writer.drain()
    return False


@asynccontextmanager
async def lossy(server_url: str, seed: int, share: float = 0.3) -> AsyncIterator[Line]:
    """A bad line to a real server."""
    line = Line("", random.Random(seed), share)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await line.serve(server_url, reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield line
