"""Request bodies: read with a cap, and inflated with a cap, before anything looks at them."""

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

import zstandard
from starlette.types import Message, Receive

from api.front.request import Request
from api.serving.state import body_there
from domain.errors import DomainError

_CHUNK: Final = 256 * 1024
_MOST_MEMBERS: Final = 2_000  # or frames, of 64 KiB, as block-wise packers make them, for twice what any route takes
_SLICE: Final = 256  # bytes: at most 64 blocks of 128 KiB (RFC 8878, 3.1.1.2)
_ZSTD_WINDOW: Final = 8 * 1024 * 1024  # RFC 8878, 3.1.1.1.2: what a decoder should at least support


class BodyTooLarge(DomainError):
    """The body is larger than this route takes."""

    code = "body-too-large"


class UnsupportedMediaType(DomainError):
    """The body's Content-Type is not one that this route takes."""

    code = "unsupported-media-type"


class UnsupportedEncoding(DomainError):
    """Content-Encoding may be `gzip` or `zstd`, once, or left out."""

    code = "unsupported-encoding"


class MalformedEncoding(DomainError):
    """The body does not inflate as its Content-Encoding says."""

    code = "malformed-body"


async def read_body(request: Request, cap: int) -> bytes:
    """The whole body, inflated, at most `cap` bytes before and after. Stops reading at the cap."""
    declared = request.by_name.get(b"content-length", b"")
    if b"content-encoding" not in request.by_name and declared.isdigit() and int(declared) <= cap:
        there = body_there(request.receive)  # mostly all of it
        if there is not None:
            return there
        message = await request.receive()  # else the rest comes at once, and this costs a tenth of what follows
        if message["type"] == "http.request" and not message.get("more_body", False):
            return bytes(message.get("body", b""))
        request = Request(request.scope, _again(message, request.receive), request.by_name)
    return b"".join([piece async for piece in body_pieces(request, cap)])


def _again(first: Message, receive: Receive) -> Receive:
    """As `receive`, with a message that was received already."""
    waiting = [first]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


async def body_pieces(request: Request, cap: int) -> AsyncIterator[bytes]:
    """The body piece by piece as it comes, inflated, at most `cap` bytes before and after."""
    encoding = request.by_name.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "zstd"):
        raise UnsupportedEncoding
    declared = request.by_name.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > cap:
        raise _too_large(cap)
    inflater = None if encoding == "identity" else _Unzstd() if encoding == "zstd" else _Gunzip()
    sent = given = 0
    async for data in request.stream():
        sent += len(data)
        if sent > cap:
            raise _too_large(cap)
        for piece in [data] if inflater is None else inflater.feed(data):
            given += len(piece)
            if given > cap:
                raise _too_large(cap)
            yield piece
    if inflater is not None and not inflater.whole:
        raise MalformedEncoding


class _Gunzip:
    """gzip (RFC 1952): members one after the other."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=31)
        self._members = 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is known by now, in pieces of bounded size."""
        while data:
            if self._inflater.eof:
                self._begin_member()
            try:
                yield self._inflater.decompress(data, _CHUNK)
            except zlib.error:
                raise MalformedEncoding from None
            data = self._inflater.unconsumed_tail or self._inflater.unused_data

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise MalformedEncoding
        self._inflater = zlib.decompressobj(wbits=31)

    @property
    def whole(self) -> bool:
        """Whether the end was reached."""
        return self._inflater.eof


class _Unzstd:
    """zstd (RFC 8878): frames one after the other."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._inflater = self._decompressor.decompressobj()
        self._frames = 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is known by now. Fed in slices that cannot hold more than 8 MiB, whatever they say."""
        for begin in range(0, len(data), _SLICE):
            piece = data[begin : begin + _SLICE]
            while piece:
                if self._inflater.eof:
                    self._begin_frame()
                try:
                    yield self._inflater.decompress(piece)
                except zstandard.ZstdError:
                    raise MalformedEncoding from None
                piece = self._inflater.unused_data

    def _begin_frame(self) -> None:
        self._frames += 1
        if self._frames > _MOST_MEMBERS:
            raise MalformedEncoding
        self._inflater = self._decompressor.decompressobj()

    @property
    def whole(self) -> bool:
        """Whether the end was reached."""
        return self._inflater.eof


def _too_large(cap: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {cap:,} bytes, also when inflated. Send less.")
