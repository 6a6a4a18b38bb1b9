"""The way out of an answer: header lines are added, and what is whole is handed to the server in one piece."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from uuid import UUID

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Message, Send

from api.admission.admission import Ticket
from api.front.kept import Kept
from api.front.request import Request
from api.serving.state import Lines, whole_of

OK: Final = 200
NOT_MODIFIED: Final = 304


class Answering:
    """Sends an answer, with the RateLimit fields for those who are signed in. It notes when the answer begins.

    ASGI's `send` for a `Response` that sends itself. Without a ticket it adds what is told.
    """

    def __init__(self, send: Send, ticket: Ticket | None = None, *, told: Lines = ()) -> None:
        self._send = send
        self._ticket = ticket
        self._told = told

    @property
    def user_id(self) -> UUID | None:
        """Who gets the answer, if that is known."""
        return None if self._ticket is None else self._ticket.user_id

    async def __call__(self, message: Message) -> None:
        """Of ASGI."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._all(message["headers"])}
        await self._send(message)

    async def answer(self, status: int, lines: Lines, body: bytes) -> None:
        """Send an answer that is whole."""
        lines, whole = self._all(lines), whole_of(self._send)
        if whole is None or not whole(status, lines, body):
            await self._send({"type": "http.response.start", "status": status, "headers": lines})
            await self._send({"type": "http.response.body", "body": body})

    async def answer_kept(self, kept: Kept, headers: Mapping[bytes, bytes]) -> int:
        """Send a kept answer as the client takes it, or that the client has it; the status."""
        variant = await kept.variant(headers.get(b"accept-encoding", b""))
        if variant.known_by(headers.get(b"if-none-match")):
            await self.answer(NOT_MODIFIED, variant.not_modified, b"")
            return NOT_MODIFIED
        await self.answer(OK, variant.ok, variant.body)
        return OK

    async def deliver(self, answer: Kept | Response, request: Request) -> int:
        """Send what is kept, which is packed already, or will be for the next ones too, or what is not; the status."""
        if type(answer) is Response:
            await self.answer(answer.status_code, answer.raw_headers, bytes(answer.body))
            return answer.status_code
        if isinstance(answer, Kept):
            return await self.answer_kept(answer, request.by_name)
        with suppress(ClientDisconnect):
            await answer(request.scope, request.receive, self)
        return answer.status_code

    def _all(self, lines: Lines) -> Lines:
        """These lines and what is added; the answer begins."""
        if self._ticket is None:
            return [*lines, *self._told]
        self._ticket.answers()
        return [*lines, *self._ticket.lines()]
