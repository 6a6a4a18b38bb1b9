"""Requests with an Idempotency-Key: sent again, the same key gets the same reply, byte for byte, for 30 days."""

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Final
from uuid import UUID

import msgspec
from fastapi import Header, Response
from msgspec import Struct

from domain.errors import DomainError
from domain.streams import Replied, Request, RequestRunning

_PATIENCE_SECONDS: Final = 1.0

_WRITTEN: Final = r'^(?!""$)("[ -~]{1,255}"|[!-~]|[!-~][ -~]{0,253}[!-~])$'  # told; `key_of` checks

_QUOTE: Final = re.compile(r'(?<!\\)"')  # in a text in quotes, one without a backslash before it ends the text

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="1 to 255 printable ASCII characters, bare or in double quotes.",
        json_schema_extra={"maxLength": 258, "pattern": _WRITTEN},
    ),
]


class MalformedIdempotencyKey(DomainError):
    """Idempotency-Key is 1 to 255 printable ASCII characters, bare or in double quotes."""

    code = "malformed-idempotency-key"


class Reply(Struct, frozen=True):
    """What is kept of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    positioned: bool = False  # whether the headers tell its position; if not, it is kept beside it


def key_of(header: str) -> str:
    """The key as the client means it; `MalformedIdempotencyKey`."""
    key = header.strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
        if _QUOTE.search(key):
            raise MalformedIdempotencyKey
    if not 0 < len(key) <= 255 or not (key.isascii() and key.isprintable()):
        raise MalformedIdempotencyKey
    return key


def json_reply(payload: object, headers: Mapping[str, str], status: int = 201) -> bytes:
    """An answer in JSON, to be kept."""
    kept = {**headers, "Cache-Control": "no-store", "Content-Type": "application/json"}
    return msgspec.msgpack.encode(Reply(status, kept, msgspec.json.encode(payload)))


def whole_reply(answer: Response) -> bytes:
    """An answer as it is, to be kept."""
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return msgspec.msgpack.encode(Reply(answer.status_code, headers, bytes(answer.body), positioned=True))


def answer_of(replied: Replied) -> Response:
    """The kept answer, marked when it was given before."""
    reply = msgspec.msgpack.decode(replied.reply, type=Reply)
    position = {} if reply.positioned else {"Cairn-Position": replied.position}
    again = {"Idempotency-Replayed": "true"} if replied.again else {}
    return Response(reply.body, reply.status, {**reply.headers, **position, **again})


class Idempotency:
    """Knows requests by hashes under a secret: what is stored tells neither who asked nor what for."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._running: dict[bytes, asyncio.Event] = {}

    def request(self, key: str, route: str, whose: str, *content: Struct | UUID) -> Request:
        """The request of this key, on this route, by this user or about this e-mail address.

        What it asks for is known by its decoded content: spaces, and the order of fields, make no difference.
        """
        told = [msgspec.json.encode(part).hex() for part in content]
        return Request(key_hash=self._hash(route, whose, key), fingerprint=self._hash(route, *told))

    def _hash(self, *parts: str) -> bytes:
        return hmac.digest(self._secret, msgspec.json.encode(("idempotency", *parts)), hashlib.sha256)

    @asynccontextmanager
    async def alone(self, request: Request) -> AsyncIterator[None]:
        """Be the only one with this key in this process; `RequestRunning` when another is for longer than a second.

        Of several processes, the log lets one have the effect; the others find its reply.
        """
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while (other := self._running.get(request.key_hash)) is not None:
                    await other.wait()
        except TimeoutError:
            raise RequestRunning from None
        mine = self._running[request.key_hash] = asyncio.Event()
        try:
            yield
        finally:
            del self._running[request.key_hash]
            mine.set()
