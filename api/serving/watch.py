"""Looks at all connections once a second, and ends those whose clients are too slow.

Some at a time, spread over the second: who is ended comes again, and those that are ended together would from then on
do all that they do together, which is a burst of work in each second.
"""

import asyncio
import fcntl
import logging
import math
import struct
import termios
import time
from collections import OrderedDict
from typing import Final

from msgspec import Struct

from api.serving.connection import Connection, Owed
from api.serving.state import State

_log = logging.getLogger(__name__)

_AT_A_TIME: Final = 20  # connections, some 0.2 ms; more where there would be over
_PARTS: Final = 250  # of a second
_CROWDED: Final = 0.8  # of the connections that there may be


class _Seen(Struct, gc=False):
    """How a connection stood when it was last looked at. Plain values: nothing for the collector."""

    owed: Owed
    requests: int
    since: float  # when it was first seen to owe this
    begun_at: int  # of its payload, then
    window_at: int  # of its payload, when the window of a body began
    window_since: float
    unread: int = 0  # bytes of answers that the client has not taken
    held: int = 0  # of these, in this process
    taken: int = 0  # bytes of answers that it has, about: their heads are not counted
    stuck_since: float = 0.0  # it has taken none of them


class Watch:
    """The deadlines of all connections. A request that is in time costs nothing here."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._limits = state.limits
        self._seen: dict[Connection, _Seen] = {}
        self._reading: OrderedDict[Connection, None] = (
            OrderedDict()
        )  # an answer; those first that have taken nothing for longest
        self._held = 0  # bytes of these answers in this process
        self._now = 0.0  # a clock that stands still while the process does: no client is late for that
        self._looked_at = 0.0
        self._seconds = {
            Owed.FIRST: self._limits.head_seconds,
            Owed.HEAD: self._limits.head_seconds,
            Owed.BODY: self._limits.body_seconds,
            Owed.NEXT: self._limits.idle_seconds,
            Owed.END: self._limits.linger_seconds,
        }

    async def run(self) -> None:
        """Look, until cancelled."""
        self._looked_at = time.monotonic()
        while True:
            size = max(_AT_A_TIME, math.ceil(len(self._state.queue) / _PARTS))
            await asyncio.sleep(self._limits.tick_seconds * size / max(size, len(self._state.queue)))
            self._wind()
            try:
                self._look_at_some(size)
            except Exception:  # noqa: BLE001 - the loop's edge: no fault may end all deadlines
                _log.exception("looking at the connections failed")

    def _look_at_some(self, size: int) -> None:
        """So many, in turn: each is looked at after the same while."""
        there, queue = self._state.connections, self._state.queue
        self._state.telemetry.connections.set(len(there))
        crowded = len(there) > _CROWDED * self._limits.connections
        self._seconds[Owed.NEXT] = self._limits.crowded_idle_seconds if crowded else self._limits.idle_seconds
        for _ in range(min(size, len(queue))):
            connection = queue.popleft()
            if connection not in there:
                self._forget(connection)
                continue
            queue.append(connection)
            self._seen[connection] = self._look(connection, self._seen.get(connection))
        self._bound_memory()

    def _wind(self) -> None:
        now = time.monotonic()
        self._now += min(now - self._looked_at, 2 * self._limits.tick_seconds)
        self._looked_at = now

    def _look(self, connection: Connection, seen: _Seen | None) -> _Seen:
        owed, requests, payload = connection.owed(), connection.requests, connection.payload
        if seen is None or seen.owed is not owed or seen.requests != requests:
            answer = (seen.unread, seen.held, seen.taken, seen.stuck_since) if seen else (0, 0, 0, 0.0)
            seen = _Seen(owed, requests, self._now, payload, payload, self._now, *answer)
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
        held = connection.transport.get_write_buffer_size()
        unread = held + _unsent(connection)
        taken = connection.flow.given - unread  # what is taken makes room for more: as much may wait as before
        if taken > seen.taken or not seen.unread:
            seen.stuck_since = self._now
            self._reading.pop(connection, None)
        self._held += held - seen.held
        seen.unread, seen.held, seen.taken = unread, held, taken
        if unread:
            self._reading.setdefault(connection)
            if self._now - seen.stuck_since >= self._limits.answer_seconds:
                connection.drop("answer")

    def _forget(self, connection: Connection) -> None:
        seen = self._seen.pop(connection, None)
        self._reading.pop(connection, None)
        self._held -= seen.held if seen is not None else 0

    def _bound_memory(self) -> None:
        """All answers that wait for their clients: beyond the limit, those go that have taken nothing for longest."""
        while self._held > self._limits.unread_bytes and self._reading:
            connection = next(iter(self._reading))
            if connection in self._state.connections:
                connection.drop("memory")
            self._forget(connection)


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
