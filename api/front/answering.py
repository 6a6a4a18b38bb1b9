"""The way out of an answer: header lines are added, and what is whole is handed to the server in one piece."""

from uuid import UUID

from starlette.types import Message, Send

from api.admission.admission import Ticket
from api.serving.state import Lines, whole_of


class Answering:
    """Sends an answer, with the RateLimit fields for those who are signed in. It notes when the answer begins.

    ASGI's `send` for a `Response` that sends itself. Without a ticket nothing is added.
    """

    def __init__(self, send: Send, ticket: Ticket | None = None) -> None:
        self._send = send
        self._ticket = ticket

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

    def _all(self, lines: Lines) -> Lines:
        """These lines and what is added; the answer begins."""
        if self._ticket is None:
            return lines
        self._ticket.answers()
        return [*lines, *self._ticket.lines()]
