"""JSON in and out: strict decoding with caps, strong ETags, packed answers, and 304 for what a client has already."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import Response
from msgspec import Meta, Raw, Struct

from api.bodies import UnsupportedMediaType, read_body
from api.encodings import PackedResponse, coding_for
from api.front.kept import KEPT, Keep, Kept, knows, read_headers
from api.front.request import Request
from api.openapi import tells
from domain.errors import DomainError, without_input
from domain.texts import BLANK

MAX_JSON_BYTES: Final = 64 * 1024
_JSON: Final = b"application/json"

S = TypeVar("S", bound=Struct)

# `$` would allow a line break behind it in Python.
END: Final = r"$(?!\n)"
TITLE: Final = rf"^[^\x00]*[^{BLANK}][^\x00]*$"

Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=TITLE)]
Notes = Annotated[str, Meta(max_length=5_000, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=rf"^[^\x00-\x1f]*[^{BLANK}][^\x00-\x1f]*{END}")]


class MalformedBody(DomainError):
    """The body is not the JSON that was meant."""

    code = "malformed-body"


class InvalidBody(DomainError):
    """The body is JSON, with a value that does not fit."""

    code = "invalid-body"


def body_of(kind: type[S], cap: int = MAX_JSON_BYTES) -> Callable[[Request], Awaitable[S]]:
    """A dependency that reads the request's JSON as `kind`, unknown fields refused."""
    decoder = msgspec.json.Decoder(kind, strict=True)

    @tells(problems=(400, 413, 415, 422))
    async def read(request: Request) -> S:
        kind_told = request.by_name.get(b"content-type", b"")
        if kind_told != _JSON and kind_told.partition(b";")[0].strip().lower() != _JSON:
            raise UnsupportedMediaType("Send JSON with the header Content-Type: application/json.")
        raw = await read_body(request, cap)
        found = decoded(decoder, raw)
        _require_distinct(raw)
        return found

    return read


def _require_distinct(raw: bytes) -> None:
    """Refuse an object that has a key twice, of which the decoder keeps the last without a word. Valid JSON only.

    Each member has a colon of its own: where there are no more colons than different keys, none is there twice. That
    costs a sixth of looking at every key, and most bodies have no other colon.
    """
    if len(_MEMBERS.decode(raw)) != raw.count(b":"):
        try:
            _EVERY_KEY.decode(raw.decode())
        except (ValueError, RecursionError):  # in a part that is decoded later
            raise MalformedBody(_NO_JSON) from None


def _distinct(members: Sequence[tuple[str, object]]) -> None:
    if len({key for key, _ in members}) != len(members):
        raise MalformedBody("An object in the body has a key twice.")


_NO_JSON: Final = "The body is not valid JSON in UTF-8."
_ANYTHING: Final = msgspec.json.Decoder(Raw)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EVERY_KEY: Final = json.JSONDecoder(object_pairs_hook=_distinct)


def decoded(decoder: msgspec.json.Decoder[S], raw: bytes | Raw) -> S:
    """The JSON as it is meant; `InvalidBody`, `MalformedBody`."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        if not _is_json(bytes(raw)):  # further on than the value that does not fit
            raise MalformedBody(_NO_JSON) from None
        raise InvalidBody("A value does not fit.", [without_input(error)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedBody(_NO_JSON) from None


def _is_json(raw: bytes) -> bool:
    try:
        _ANYTHING.decode(raw)  # which leaves texts as they are
        raw.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def answer(
    request: Request, payload: object, headers: Mapping[str, str] | None = None, keep: Keep | None = None
) -> Response:
    """The payload as JSON; 304 when the client has it already. `keep`: that it may be kept."""
    return answer_bytes(request, msgspec.json.encode(payload), "application/json", headers, keep)


def answer_bytes(
    request: Request,
    body: bytes,
    media_type: str,
    headers: Mapping[str, str] | None = None,
    keep: Keep | None = None,
) -> Response:
    """The bytes, packed as the client takes them, with a strong ETag; 304 when the client has them so already."""
    if keep is not None:
        request.scope[KEPT] = Kept(body, media_type, headers or {}, keep)
    coding = coding_for(request.headers.get("accept-encoding", ""), len(body))
    told = read_headers(body, coding, headers or {})
    if has_already(request, told["ETag"]):
        return Response(status_code=304, headers=told)
    if coding is not None:
        return PackedResponse(body, coding, told, media_type)
    return Response(body, 200, told, media_type)


def has_already(request: Request, etag: str) -> bool:
    """Whether the client knows this very answer."""
    return knows(request.headers.get("if-none-match", ""), etag)


def created(payload: object, headers: Mapping[str, str], status: int = 201) -> Response:
    """An answer to a write that tells something."""
    return Response(msgspec.json.encode(payload), status, {**headers, "Cache-Control": "no-store"}, "application/json")


def no_content(position: str) -> Response:
    """An answer to a write that has nothing to tell but its place: a later read may wait for it."""
    told = Response(status_code=204)
    told.raw_headers.append((b"cairn-position", position.encode()))  # in a dict it would be looked at as any header
    return told
