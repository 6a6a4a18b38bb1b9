"""A network that fails as it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
