"""Request bodies: read with a cap, and inflated with a cap, before anything looks at them."""

import asyncio
import io
import zlib
from typing import Final

import zstandard
from fastapi import Request

from domain.errors import DomainError

_CHUNK: Final = 256 * 1024
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
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "zstd"):
        raise UnsupportedEncoding
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > cap:
        raise _too_large(cap)
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > cap:
            raise _too_large(cap)
    if encoding == "identity":
        return bytes(raw)
    return await asyncio.to_thread(_unzstd if encoding == "zstd" else _gunzip, raw, cap)


def _gunzip(raw: bytearray, cap: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        body = inflater.decompress(raw, cap + 1)
    except zlib.error:
        raise MalformedEncoding from None
    if len(body) > cap:
        raise _too_large(cap)
    if not inflater.eof or inflater.unused_data:
        raise MalformedEncoding
    return body


def _unzstd(raw: bytearray, cap: int) -> bytes:
    body = bytearray()
    try:
        with zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(io.BytesIO(raw)) as reader:
            while chunk := reader.read(_CHUNK):
                body += chunk
                if len(body) > cap:
                    raise _too_large(cap)
    except zstandard.ZstdError:
        raise MalformedEncoding from None
    if not body:  # a frame cut off before its first block gives nothing and no error
        raise MalformedEncoding
    return bytes(body)


def _too_large(cap: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {cap:,} bytes, also when inflated. Send less.")
