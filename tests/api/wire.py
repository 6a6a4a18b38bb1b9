"""HTTP as bytes: what no client library would send, and whatever comes back."""

import asyncio
import json
from collections.abc import Iterable, Mapping

from msgspec import Struct

PATIENCE_SECONDS = 30.0  # a server that says nothing for so long hangs


class Answer(Struct, frozen=True):
    """An answer; status 0: the connection was closed without one."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""

    @property
    def told(self) -> str:
        """`422 invalid-body`: the status, and the public code of a problem."""
        if self.status == 0:
            return "closed"
        if self.headers.get("content-type") != "application/problem+json":
            return str(self.status)
        return f"{self.status} {json.loads(self.body)['code']}"


def request(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A request that ends its connection, with the length of its body."""
    told = {"Host": "cairn", "Connection": "close", **headers}
    if body or method not in ("GET", "DELETE"):
        told.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


async def exchange(port: int, sent: bytes | Iterable[bytes], *, ends: bool = False) -> Answer:
    """What the server says to these bytes. `ends`: nothing more will be sent, and the server is told so."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        transport, heard = await loop.create_connection(_Hearing, "127.0.0.1", port)
        try:
            for piece in [sent] if isinstance(sent, bytes) else sent:
                if heard.data or heard.closed.done():
                    break  # it has made up its mind
                transport.write(piece)
                await asyncio.sleep(0)
            if ends and not heard.closed.done():
                transport.write_eof()
            await heard.closed
        finally:
            transport.abort()
    return _parsed(heard.data)


class _Hearing(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


def _parsed(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")
    if not line:
        return Answer(0)
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest)}
    return Answer(int(line.split()[1]), headers, body)
