"""One request on a connection: uvicorn's cycle of ASGI, with ways around its messages for what is whole."""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent, HTTPScope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.serving.state import Lines

if TYPE_CHECKING:
    from api.serving.connection import Connection

_SENT_BYTES: Final = 32 * 1024  # of an answer at once


class Flow(FlowControl):
    """A connection's, which knows how much was given to its transport: the less of it waits, the more was taken."""

    given = 0  # bytes of answers' bodies


class Request(RequestResponseCycle):
    """A request that came whole is read whole, though its client hung up before somebody came to read it: what a phone
    has sent over a bad network shall not be lost for that. And its answer goes out in pieces: of a large one that the
    client does not take, little waits here.
    """

    flow: Flow
    # Until there is something else to say. uvicorn sets these on each, with fifteen arguments.
    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    logger = logging.getLogger("uvicorn.error")
    access_logger = logging.getLogger("uvicorn.access")
    access_log = False

    def __init__(self, connection: "Connection", scope: HTTPScope, *, keep_alive: bool) -> None:
        self.scope = scope
        self.transport = connection.transport
        self.flow = connection.flow
        self.shared = connection.shared
        self.default_headers = self.shared.default_headers
        self.message_event = asyncio.Event()
        self.on_response = connection.on_response_complete
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = connection.expect_100_continue
        self.body = bytearray()

    def whole(self, status: int, lines: Lines, body: bytes) -> bool:
        """Write an answer as one piece, which costs half of sending it as messages. False: it has to be sent.

        So is what is large, what ends its connection, what was asked for by HEAD, and whatever a client owes room for.
        """
        if (
            self.response_started
            or self.disconnected
            or self.flow.write_paused
            or not self.keep_alive
            or len(body) > _SENT_BYTES
            or self.scope["method"] == "HEAD"
        ):
            return False
        head = b"".join([b"%b: %b\r\n" % line for line in lines])
        if not head.count(b"\n") == head.count(b"\r") == len(lines) or b"\0" in head:
            raise RuntimeError("a header that is not one line of text")
        self.transport.write(b"".join((STATUS_LINE[status], self.shared.common, head, b"\r\n", body)))
        self.flow.given += len(body)
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        self.on_response()
        return True

    async def send(self, message: ASGISendEvent) -> None:
        """The head, or so much of the body; waits for a client that takes nothing."""
        if message["type"] != "http.response.body":
            await super().send(message)
            return
        body = message.get("body", b"")
        last = max(0, len(body) - 1) // _SENT_BYTES * _SENT_BYTES
        for at in range(0, last, _SENT_BYTES):
            piece = body[at : at + _SENT_BYTES]
            await super().send({"type": "http.response.body", "body": piece, "more_body": True})
            self.flow.given += len(piece)
        await super().send({**message, "body": body[last:]})
        self.flow.given += len(body) - last

    def body_there(self) -> bytes | None:
        """All of the body that was not received yet, if it is there; None: it has to be received."""
        if self.more_body or self.disconnected or self.response_complete or self.waiting_for_100_continue:
            return None
        body, self.body = bytes(self.body), bytearray()
        self.message_event.clear()
        return body

    async def receive(self) -> ASGIReceiveEvent:
        """The next piece of the body, or that there will be none."""
        if self.disconnected and self.body and not self.more_body and not self.response_complete:
            body, self.body = bytes(self.body), bytearray()
            return {"type": "http.request", "body": body, "more_body": False}
        return await super().receive()
