"""Clients that are slow on purpose, each kind at another place."""

import asyncio
import itertools
import socket
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from msgspec import Struct

_CLOSED: Final = (7, 8)  # TCP_CLOSE, TCP_CLOSE_WAIT
KINDS: Final = ("silent", "head", "body", "deaf")


class SlowClients(Struct, frozen=True):
    """All of one server. `large` is a path whose answer, sixteen times, is more than kernels hold."""

    port: int
    large: str
    headers: str = ""
    beat: float = 1.0  # seconds from byte to byte

    async def one(self, kind: str) -> bytes:
        """Be slow until the server hangs up; what it said."""
        match kind:
            case "silent":
                return await self._drip(b"", ())
            case "head":
                return await self._drip(b"GET / HTTP/1.1\r\nHost: x\r\n", itertools.cycle(b"A: b\r\n"))
            case "body":
                path = "/v1/activities/0b86e1f1-44a5-4c3c-9c3b-2f2a8e8f7d11"
                head = f"PUT {path} HTTP/1.1\r\nHost: x\r\n{self.headers}Content-Length: 100000\r\n\r\n"
                return await self._drip(head.encode(), itertools.repeat(ord("<")))
            case _:
                return await self._never_read()

    async def _drip(self, first: bytes, rest: Iterable[int]) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        dripping = asyncio.create_task(self._write(writer, first, rest))
        said = b""
        try:
            with suppress(ConnectionError):
                while data := await reader.read(1 << 16):
                    said += data
            return said
        finally:
            dripping.cancel()
            writer.transport.abort()

    async def _write(self, writer: asyncio.StreamWriter, first: bytes, rest: Iterable[int]) -> None:
        writer.write(first)
        for byte in rest:
            await asyncio.sleep(self.beat)
            writer.write(bytes([byte]))

    async def _never_read(self) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(0)
            await loop.sock_connect(client, ("127.0.0.1", self.port))
            await loop.sock_sendall(client, f"GET {self.large} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 16)
            while client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in _CLOSED:
                await asyncio.sleep(self.beat)
        return b""

    async def many(self, count: int, ended: Counter[str], *, again: bool, spread: float = 0.0) -> None:
        """As many of all kinds, begun over so many seconds; who is hung up on comes `again`. `ended`: kind, status."""
        kinds = itertools.islice(itertools.cycle(KINDS), count)
        pauses = (spread * number / count for number in range(count))
        await asyncio.gather(
            *(self._keep(kind, ended, pause, again=again) for kind, pause in zip(kinds, pauses, strict=True))
        )

    async def _keep(self, kind: str, ended: Counter[str], pause: float, *, again: bool) -> None:
        await asyncio.sleep(pause)
        while True:
            said = await self.one(kind)
            ended[f"{kind} {said[9:12].decode()}".strip()] += 1
            if not again:
                return
