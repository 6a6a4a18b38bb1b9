"""The container of version 2: blocks of bytes by number, readable one by one, as they are or sealed.

    magic "CRNT" · version 2 · flags · points (u32) · how many blocks · of each its number and its length (u32) ·
    of a sealed blob: 11 random bytes · the blocks · CRC-32 of everything before (u32)

Numbers are little-endian, version, flags, the count and numbers of blocks a byte each. Flags: 1 sealed, 2 recompacted.
A sealed block has 16 bytes more, AES-256-GCM's tag. Readers pass over blocks whose numbers they do not know.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag

if TYPE_CHECKING:  # the process that packs tracks has no keys, and does not load what they need
    from infra.keys import UserCipher

VERSION: Final = 2
_BEGIN: Final = b"CRNT" + bytes([VERSION])
_HEAD: Final = struct.Struct("<5sBIB")
_LISTED: Final = struct.Struct("<BI")
_SEALED: Final = 1
_COLD: Final = 2
MOST_POINTS: Final = 2**22  # more than any recording may have: what damage says of points takes no more memory
_STEM_BYTES: Final = 11  # and `_TAG_BYTES`: as `infra.keys` has them
_TAG_BYTES: Final = 16
_CRC: Final = struct.Struct("<I")


class CorruptTrack(Exception):
    """The blob is not what was written: a checksum, the magic or a length does not fit."""


@dataclass(frozen=True)
class Key:
    """What a blob is sealed with: the owner's cipher, and bytes that say whose and which track it is."""

    cipher: "UserCipher"
    associated: bytes


@dataclass(frozen=True)
class Blob:
    """A blob taken apart. `stem` is what all nonces begin with; None when it is not sealed."""

    header: bytes
    points: int
    cold: bool
    stem: bytes | None
    blocks: Mapping[int, bytes]

    def block(self, number: int, key: Key | None) -> bytes:
        """A block as it was before it was sealed; `CorruptTrack`."""
        if self.stem is None:
            return self.blocks[number]
        if key is None:
            raise CorruptTrack("the blob is sealed, and there is no key")
        place = list(self.blocks).index(number)
        try:
            return key.cipher.open_part(self.stem, place, self.blocks[number], _bound(key, self.header, number))
        except InvalidTag:
            raise CorruptTrack(f"block {number} is not what was sealed") from None


def write(points: int, blocks: Mapping[int, bytes], *, cold: bool) -> bytes:
    """Blocks in their order, not sealed."""
    if points > MOST_POINTS:
        raise ValueError(f"a track has at most {MOST_POINTS} points")
    lengths = {number: len(block) for number, block in blocks.items()}
    return _joined([_header(points, lengths, _COLD if cold else 0), *blocks.values()])


def read(blob: bytes) -> Blob:
    """Take a blob apart without looking into its blocks; `CorruptTrack`. The checksum is `check`'s matter."""
    if len(blob) < _HEAD.size or blob[: len(_BEGIN)] != _BEGIN:
        raise CorruptTrack(f"no track blob of version {VERSION}")
    _, flags, points, count = _HEAD.unpack_from(blob)
    at = _HEAD.size + count * _LISTED.size
    if points > MOST_POINTS or at > len(blob) or flags & ~(_SEALED | _COLD):
        raise CorruptTrack("the header is cut, has more points than any recording, or a flag that is not known")
    lengths = dict(_LISTED.iter_unpack(blob[_HEAD.size : at]))
    header, stem, blocks = blob[:at], None, {}
    if flags & _SEALED:
        stem = blob[at : at + _STEM_BYTES]
        at += _STEM_BYTES
    for number, length in lengths.items():
        blocks[number] = blob[at : at + length]
        at += length
    if at + _CRC.size != len(blob):
        raise CorruptTrack("the blob is cut, or something follows it")
    return Blob(header, points, bool(flags & _COLD), stem, blocks)


def check(blob: bytes) -> None:
    """`CorruptTrack` unless the checksum is right. No key is needed."""
    if len(blob) < _CRC.size or zlib.crc32(memoryview(blob)[: -_CRC.size]) != _CRC.unpack(blob[-_CRC.size :])[0]:
        raise CorruptTrack("the blob does not match its checksum")


def seal(packed: bytes, key: Key) -> bytes:
    """The blob with each block sealed on its own, bound to the header, its number and the key's `associated`."""
    check(packed)
    plain = read(packed)
    lengths = {number: len(block) + _TAG_BYTES for number, block in plain.blocks.items()}
    header = _header(plain.points, lengths, _SEALED | (_COLD if plain.cold else 0))
    stem, sealed = key.cipher.seal_parts(
        [(block, _bound(key, header, number)) for number, block in plain.blocks.items()]
    )
    return _joined([header, stem, *sealed])


def to_varint(number: int) -> bytes:
    """LEB128 of a number that is not negative."""
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def from_varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, below 2^64, and where it ends; `CorruptTrack`."""
    number = shift = 0
    for place in range(at, min(at + 10, len(raw))):
        number |= (raw[place] & 127) << shift
        if raw[place] < 128:
            return number, place + 1
        shift += 7
    raise CorruptTrack("a number does not end")


def _header(points: int, lengths: Mapping[int, int], flags: int) -> bytes:
    return _HEAD.pack(_BEGIN, flags, points, len(lengths)) + b"".join(starmap(_LISTED.pack, lengths.items()))


def _joined(parts: Sequence[bytes]) -> bytes:
    whole = b"".join(parts)
    return whole + _CRC.pack(zlib.crc32(whole))


def _bound(key: Key, header: bytes, number: int) -> bytes:
    return key.associated + header + bytes([number])
