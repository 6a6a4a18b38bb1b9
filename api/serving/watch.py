"""Looks at all connections once a second, and ends those whose clients are too slow."""

import asyncio
import fcntl
import logging
import struct
import termios
import time
from typing import Final

from msgspec import Struct

from api.serving.connection import Connection, Owed
from api.serving.state import State

_log = logging.getLogger(__name__)

_AT_A_TIME: Final = 50  # connections, some 0.2 ms, before requests have their turn again
_CROWDED: Final = 0.8  # of the connections that there may be


class _Seen(Struct):
    """How a connection stood when it was last looked at."""

    owed: Owed
    requests: int
    since: float  # when it was first seen to owe this
    begun_at: int  # of its payload, then
    window_at: int  # of its payload, when the window of a body began
    window_since: float
    unread: int = 0  # bytes of answers that the client has not taken
    stuck_since: float = 0.0  # it has taken none of them


class Watch:
    """The deadlines of all connections. A request that is in time costs nothing here."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._limits = state.limits
        self._seen: dict[Connection, _Seen] = {}
        self._now = 0.0  # a clock that stands still while the process does: no client is late for that
        self._seconds = {
            Owed.FIRST: self._limits.head_seconds,
            Owed.HEAD: self._limits.head_seconds,
            Owed.BODY: self._limits.body_seconds,
            Owed.NEXT: self._limits.idle_seconds,
            Owed.END: self._limits.linger_seconds,
        }

    async def run(self) -> None:
        """Look, until cancelled."""
        looked_at = time.monotonic()
        while True:
            await asyncio.sleep(self._limits.tick_seconds)
            now = time.monotonic()
            self._now += min(now - looked_at, 2 * self._limits.tick_seconds)
            looked_at = now
            try:
                await self._look_at_all()
            except Exception:  # noqa: BLE001 - the loop's edge: no fault may end all deadlines
                _log.exception("looking at the connections failed")

    async def _look_at_all(self) -> None:
        connections = [one for one in self._state.connections if isinstance(one, Connection)]
        self._state.telemetry.connections.set(len(connections))
        crowded = len(connections) > _CROWDED * self._limits.connections
        self._seconds[Owed.NEXT] = self._limits.crowded_idle_seconds if crowded else self._limits.idle_seconds
        before, self._seen = self._seen, {}
        for number, connection in enumerate(connections, 1):
            if connection in self._state.connections:  # it may have ended while others had their turn
                self._seen[connection] = self._look(connection, before.get(connection))
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        self._bound_memory()

    def _look(self, connection: Connection, seen: _Seen | None) -> _Seen:
        owed, requests, payload = connection.owed(), connection.requests, connection.payload
        if seen is None or seen.owed is not owed or seen.requests != requests:
            unread, stuck_since = (seen.unread, seen.stuck_since) if seen else (0, 0.0)
            seen = _Seen(owed, requests, self._now, payload, payload, self._now, unread, stuck_since)
        elif owed is not Owed.NOTHING and self._now - seen.window_since >= self._seconds[owed]:
            self._late(connection, seen)
        if seen.unread or connection.transport.get_write_buffer_size():
            self._look_at_answer(connection, seen)
        return seen

    def _late(self, connection: Connection, seen: _Seen) -> None:
        match seen.owed:
            case Owed.HEAD:
                connection.refuse("request-too-slow", "head")
            case Owed.BODY:
                self._end_window(connection, seen)
            case Owed.NEXT:
                if seen.unread == 0:  # else it is still reading
                    seen.unread = _unsent(connection)
                if seen.unread == 0:
                    connection.transport.close()
            case Owed.FIRST:
                self._state.count("silent")
                connection.transport.close()
            case _:
                connection.transport.abort()

    def _end_window(self, connection: Connection, seen: _Seen) -> None:
        """A body's rate is judged window by window."""
        come = connection.payload - seen.window_at
        answered = connection.request is not None and connection.request.response_complete
        drained = connection.payload - seen.begun_at if answered else 0
        if come < self._limits.body_bytes:
            connection.refuse("request-too-slow", "body")
        elif drained > self._limits.drained_bytes:
            connection.drop("endless")
        seen.window_at, seen.window_since = connection.payload, self._now

    def _look_at_answer(self, connection: Connection, seen: _Seen) -> None:
        unread = connection.transport.get_write_buffer_size() + _unsent(connection)
        if unread < seen.unread or not seen.unread:
            seen.stuck_since = self._now
        seen.unread = unread
        if unread and self._now - seen.stuck_since >= self._limits.answer_seconds:
            connection.drop("answer")

    def _bound_memory(self) -> None:
        """All answers together that wait for their clients: beyond the limit, those that have waited longest go."""
        slow = [(seen, one) for one, seen in self._seen.items() if seen.unread and not one.transport.is_closing()]
        held = sum(connection.transport.get_write_buffer_size() for _, connection in slow)
        for _, connection in sorted(slow, key=lambda pair: pair[0].since):
            if held <= self._limits.unread_bytes:
                return
            held -= connection.transport.get_write_buffer_size()
            connection.drop("memory")


def _unsent(connection: Connection) -> int:
    """Bytes that the kernel has taken and the client has not. 0 where the kernel does not tell (it is no Linux)."""
    descriptor = connection.transport.get_extra_info("socket").fileno()
    if descriptor < 0:  # it was closed just now
        return 0
    try:
        told: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4))[0]
    except OSError:
        return 0
    return told
