"""Load from outside, for `cairn bench api`: connections that each send one request after the other.

python -m workers.cli.bench.loading PORT SECONDS < requests, one JSON text a connection; `{uuid}` in it is another one
each time. Says what came back, as JSON.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import uvloop

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "


class Connection(asyncio.Protocol):
    """Sends, and sends again when the answer is whole, or some seconds later. `told` hears of each answer: its status,
    when it was asked for and when it was whole.
    """

    def __init__(self, request: str, until: float, told: Callable[[int, float, float], None], pause: float = 0) -> None:
        before, _, after = request.partition("{uuid}")
        self._parts = before.encode(), after.encode()
        self._fresh = "{uuid}" in request
        self._until = until
        self._told = told
        self._pause = pause
        self._buffer = b""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by type
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        if self._fresh:
            name = os.urandom(16).hex()
            uuid = f"{name[:8]}-{name[8:12]}-4{name[13:16]}-8{name[17:20]}-{name[20:]}".encode()
            self._transport.write(self._parts[0] + uuid + self._parts[1])
        else:
            self._transport.write(self._parts[0])

    def data_received(self, data: bytes) -> None:
        """Answers come one at a time: there is no pipelining."""
        self._buffer += data
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(_LENGTH)
        length = int(head[at + len(_LENGTH) :].split(b"\r", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + len(_HEAD_END) + length:
            return
        now = time.perf_counter()
        self._told(int(head[9:12]), self._sent_at, now)
        self._buffer = b""
        if now >= self._until:
            self._transport.close()
        elif self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._send)
        else:
            self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        """Over, or broken off."""
        if not self.done.done():
            self.done.set_result(None)


def itself(connection: Connection) -> Connection:
    """A protocol factory of one."""
    return connection


async def load(port: int, seconds: float, requests: list[str]) -> dict[str, object]:
    """A connection for each request; what came back, and how long it took."""
    statuses: Counter[str] = Counter()
    took: list[float] = []
    began = time.perf_counter()
    loop = asyncio.get_running_loop()

    def told(status: int, sent_at: float, at: float) -> None:
        statuses[str(status)] += 1
        took.append(at - sent_at)

    opened = [Connection(request, began + seconds, told) for request in requests]
    for connection in opened:
        await loop.create_connection(partial(itself, connection), "127.0.0.1", port)
    await asyncio.gather(*(connection.done for connection in opened))
    took.sort()
    return {
        "statuses": statuses,
        "seconds": time.perf_counter() - began,
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[len(took) * 99 // 100],
    }


if __name__ == "__main__":
    asked = [json.loads(line) for line in sys.stdin]
    print(json.dumps(uvloop.run(load(int(sys.argv[1]), float(sys.argv[2]), asked))))  # noqa: T201
