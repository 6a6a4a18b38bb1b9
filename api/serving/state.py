"""What the connections of one server share."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from starlette.types import Receive, Send
from uvicorn.server import ServerState

from api.serving.limits import Limits
from api.telemetry import Telemetry

if TYPE_CHECKING:
    from api.serving.connection import Connection

Lines = Sequence[tuple[bytes, bytes]]  # names and values of header lines

# Writes an answer with its status, header lines and body. False: it is to be sent as ASGI's messages.
Whole = Callable[[int, Lines, bytes], bool]

# The answer to a GET, by its target and header lines, if it is known by heart: what follows the status code, the header
# lines with the empty one behind them, and the body.
AtOnce = Callable[[bytes, Lines], tuple[bytes, bytes, bytes] | None]


def whole_of(send: Send) -> Whole | None:
    """The way for an answer that is whole, where the server that this `send` belongs to has one."""
    return getattr(getattr(send, "__self__", None), "whole", None)


def nothing_at_once(_target: bytes, _headers: Lines) -> None:
    """Of an app that knows nothing by heart."""


def body_there(receive: Receive) -> bytes | None:
    """The body, where the server that this `receive` belongs to has all of it; None: it has to be received."""
    there: Callable[[], bytes | None] | None = getattr(getattr(receive, "__self__", None), "body_there", None)
    return None if there is None else there()


class State(ServerState):
    """uvicorn's, with the limits, and where it is counted why connections were ended."""

    def __init__(self, limits: Limits, telemetry: Telemetry, at_once: AtOnce = nothing_at_once) -> None:
        super().__init__()
        self.limits = limits
        # Connections, to be looked at in turn. One list for good: a new one each time would be young, and each of the
        # collector's many looks at what is young would touch thousands of connections.
        self.queue: deque[Connection] = deque()
        self.at_once = at_once
        self.telemetry = telemetry
        self._common_of: list[tuple[bytes, bytes]] = []
        self._common = b""
        self.leaving = False  # the server is about to stop: each connection's next answer is its last

    def count(self, why: str) -> None:
        """A connection was ended by the server."""
        self.telemetry.ended.labels(why).inc()

    @property
    def common(self) -> bytes:
        """Header lines of every answer. uvicorn makes others once a second, for the date."""
        if self._common_of is not self.default_headers:
            self._common_of = self.default_headers
            self._common = b"".join(b"%s: %s\r\n" % header for header in self._common_of)
        return self._common
