"""Recordings as they lie in the object store: packed and sealed piece by piece, under a key of their own.

Layout: magic "CRNS" · version 1 (one byte) · length of the wrapped key (u16) · wrapped key · frames. The plain bytes
are one zstd frame, cut into pieces of 256 KiB; each is sealed with AES-256-GCM under the object's own key, with its
number as nonce and a mark on the last one, so that pieces cannot be exchanged, repeated or cut off (STREAM: Hoang,
Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015). A key
is used for one object only, so nonces are never used twice. Whoever wraps the key decides who can read: the master key
in the inbox, the user's key later. Handing an object over wraps the key anew and leaves the frames as they are.
"""

import struct
from collections.abc import AsyncIterator, Callable
from typing import Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MAGIC: Final = b"CRNS\x01"
_LENGTH: Final = struct.Struct("<H")
_PIECE: Final = 256 * 1024
_TAG: Final = 16
# GPX to a fourteenth, FIT to a half. A higher level and a larger window take twice the time and touch megabytes of
# memory for each upload, to gain 3 % with FIT and nothing with GPX.
_PACKING: Final = zstandard.ZstdCompressionParameters.from_level(1, source_size=_PIECE)

Wrap = Callable[[bytes], bytes]
Unwrap = Callable[[bytes], bytes]


class CorruptStream(Exception):
    """The object is not what was written: it was changed, cut off, moved, or sealed under another key."""


class Sealer:
    """Packs and seals what it is fed. What is given as associated must be given again to open it."""

    def __init__(self, wrap: Wrap, associated: bytes) -> None:
        key = AESGCM.generate_key(256)
        self._aead = AESGCM(key)
        self._associated = associated
        self._packer = zstandard.ZstdCompressor(compression_params=_PACKING).compressobj()
        self._plain = bytearray()
        self._number = 0
        self._out = bytearray(_head(wrap(key)))

    def feed(self, data: bytes) -> bytes:
        """What can be written by now."""
        self._plain += self._packer.compress(data)
        while len(self._plain) > _PIECE:  # one is held back, for only the last one is marked
            self._seal(bytes(self._plain[:_PIECE]), last=False)
            del self._plain[:_PIECE]
        return self._taken()

    def end(self) -> bytes:
        """The rest."""
        self._plain += self._packer.flush()
        while len(self._plain) > _PIECE:
            self._seal(bytes(self._plain[:_PIECE]), last=False)
            del self._plain[:_PIECE]
        self._seal(bytes(self._plain), last=True)
        return self._taken()

    def _seal(self, piece: bytes, *, last: bool) -> None:
        self._out += self._aead.encrypt(_nonce(self._number, last=last), piece, self._associated)
        self._number += 1

    def _taken(self) -> bytes:
        taken = bytes(self._out)
        self._out.clear()
        return taken


async def unsealed(pieces: AsyncIterator[bytes], unwrap: Unwrap, associated: bytes) -> AsyncIterator[bytes]:
    """The bytes that were fed, piece by piece as they come; `CorruptStream`, or what `unwrap` raises."""
    unpacker, number, held, aead = zstandard.ZstdDecompressor().decompressobj(), 0, bytearray(), None
    try:
        async for data in pieces:
            held += data
            if aead is None:
                parted = _parted(held)
                if parted is None:
                    continue
                wrapped, begin = parted
                aead = AESGCM(unwrap(wrapped))
                del held[:begin]
            while len(held) > _PIECE + _TAG:
                piece = bytes(held[: _PIECE + _TAG])
                del held[: _PIECE + _TAG]
                yield unpacker.decompress(aead.decrypt(_nonce(number, last=False), piece, associated))
                number += 1
        if aead is None:
            raise CorruptStream("the object ends within its head")
        yield unpacker.decompress(aead.decrypt(_nonce(number, last=True), bytes(held), associated))
    except InvalidTag:
        raise CorruptStream(f"piece {number} does not open") from None
    except (zstandard.ZstdError, ValueError) as error:
        raise CorruptStream(f"piece {number} does not unpack: {error}") from None
    if not unpacker.eof:
        raise CorruptStream("the packed bytes end too soon")


async def handed_over(pieces: AsyncIterator[bytes], unwrap: Unwrap, wrap: Wrap) -> AsyncIterator[bytes]:
    """The same object with its key wrapped by somebody else; `CorruptStream`, or what `unwrap` raises."""
    held: bytearray | None = bytearray()
    async for data in pieces:
        if held is None:
            yield data
            continue
        held += data
        parted = _parted(held)
        if parted is not None:
            wrapped, begin = parted
            yield _head(wrap(unwrap(wrapped))) + bytes(held[begin:])
            held = None
    if held is not None:
        raise CorruptStream("the object ends within its head")


def wrapped_key(begin: bytes) -> bytes | None:
    """The wrapped key at an object's begin; None when more of it is needed. `CorruptStream`."""
    parted = _parted(begin)
    return None if parted is None else parted[0]


def _head(wrapped: bytes) -> bytes:
    return _MAGIC + _LENGTH.pack(len(wrapped)) + wrapped


def _parted(held: bytes | bytearray) -> tuple[bytes, int] | None:
    """The wrapped key and where the frames begin."""
    if not _MAGIC.startswith(bytes(held[: len(_MAGIC)])):
        raise CorruptStream("no sealed object of version 1")
    begin = len(_MAGIC) + _LENGTH.size
    if len(held) < begin:
        return None
    (length,) = _LENGTH.unpack_from(held, len(_MAGIC))
    return None if len(held) < begin + length else (bytes(held[begin : begin + length]), begin + length)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11) + (b"\1" if last else b"\0")
