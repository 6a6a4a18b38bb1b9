"""Recordings that come in numbered slices, in any order and any number of times: what is held, and what is missing."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from msgspec import Struct

from domain.errors import DomainError
from domain.measures import ActivityId, UserId

MAX_CHUNKS: Final = 10_000  # of a recording: a day at one in nine seconds
_TOLD: Final = 20  # ranges in words

Range = tuple[int, int]  # first and last, both within


class Upload(NamedTuple):
    """Whose recording it is, and under which id. The same id of another runner's is another upload."""

    user_id: UserId
    activity_id: ActivityId


class Chunk(Struct, frozen=True):
    """A slice of a recording that is held. `digest` tells it from others, to those who know the secret."""

    seq: int
    size: int
    digest: str
    at: datetime


def ranges(numbers: Iterable[int]) -> tuple[Range, ...]:
    """Ascending numbers as ranges."""
    found: list[Range] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def gaps(held: Sequence[Chunk], count: int | None = None) -> tuple[Range, ...]:
    """What is missing of the first `count` chunks; without it, before the last one that is held."""
    there = {chunk.seq for chunk in held}
    return ranges(seq for seq in range(max(there, default=0) if count is None else count) if seq not in there)


def beginning(held: Sequence[Chunk]) -> Sequence[Chunk]:
    """What is held of the recording from its first byte on, up to the first gap."""
    return [chunk for place, chunk in enumerate(held) if chunk.seq == place]


class ChunkArrival(Protocol):
    """A chunk on its way in. Nothing of it counts before `keep`."""

    @property
    def size(self) -> int:
        """Bytes so far."""
        ...

    @property
    def digest(self) -> str:
        """Of the bytes so far."""
        ...

    async def write(self, data: bytes) -> None:
        """Go on."""
        ...

    async def keep(self) -> bool:
        """Make the chunk durable; whether it is new. `ChunkDiffers` when others are held under its number."""
        ...


class Chunks(Protocol):
    """Recordings that are not whole yet. They need the object store and nothing else."""

    def arrive(self, upload: Upload, seq: int, session_id: UUID) -> AbstractAsyncContextManager[ChunkArrival]:
        """Begin to take a chunk in, sent in this session."""
        ...

    async def begin(self, upload: Upload) -> None:
        """Remember, before its first chunk is kept, that the upload is under way. The same again changes nothing."""
        ...

    async def has_begun(self, upload: Upload) -> bool:
        """Whether the upload is under way: not from when it is cleared or discarded on, until it begins anew."""
        ...

    async def held(self, upload: Upload) -> Sequence[Chunk]:
        """What is durable of the upload, by number."""
        ...

    def pieces(self, upload: Upload, chunks: Sequence[Chunk]) -> AsyncIterator[bytes]:
        """Their bytes, one after another. A damaged chunk is dropped, to be sent again: `ChunksMissing`."""
        ...

    async def session_of(self, upload: Upload, chunk: Chunk) -> UUID:
        """The session that the chunk was sent in; `ChunksMissing` as above."""
        ...

    async def drop(self, upload: Upload, seq: int) -> None:
        """Take one chunk away."""
        ...

    async def clear(self, upload: Upload) -> None:
        """Take all chunks of an accepted recording away. What they were can still be told. Cut off, it is repeated."""
        ...

    async def discard(self, upload: Upload) -> None:
        """Take all chunks of a recording away that is not wanted. Cut off, it is repeated."""
        ...

    async def taken(self, upload: Upload) -> Sequence[str]:
        """Digests, by number, of the chunks that an accepted recording came in."""
        ...

    def under_way(self) -> AsyncIterator[tuple[Upload, datetime]]:
        """Uploads that are not cleared yet, with the time of their beginning."""
        ...


class ChunkOutOfRange(DomainError):
    """Chunks are numbered from 0 to 9999: cut the recording into larger ones."""

    code = "chunk-out-of-range"


class ChunkEmpty(DomainError):
    """The chunk has no bytes: send those of the recording that come next."""

    code = "chunk-empty"


class ChunkDiffers(DomainError):
    """Another chunk is held under this number, or the recording is whole without it. What was sent is not kept."""

    code = "chunk-differs"


class ChunksMissing(DomainError):
    """The recording is not whole: send the missing chunks, then finish again."""

    code = "chunks-missing"

    def __init__(self, missing: Sequence[Range]) -> None:
        told = [f"{first}-{last}" for first, last in missing[:_TOLD]]
        more = " and more" if len(missing) > _TOLD else ""
        detail = f"The recording is not whole. Send the missing chunks ({', '.join(told)}{more}), then finish again."
        super().__init__(detail, told)


class ChecksumDiffers(DomainError):
    """The chunks together are not the bytes that the client says. They are kept: send the file whole, by PUT."""

    code = "checksum-differs"
