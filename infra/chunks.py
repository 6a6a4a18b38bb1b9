"""Chunks of recordings that are not whole yet, in the object store alone, as the inbox is.

Keys: `chunks/{user}/{activity}/{seq}` the session and the bytes, sealed as in the inbox: its first writer decides what
the number stands for; `slices/{user}/{activity}/{seq}.{size}.{digest}`, without content, from when it counts, so that a
listing tells all; `chunked/{activity}.{user}` while the upload is under way; for ever `receipts/{user}/{activity}`, the
digests of the chunks that an accepted recording came in. Digests are made with a secret: a chunk may be so short that a
hash would tell where its runner was.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final
from uuid import UUID

from domain.chunks import Chunk, ChunkArrival, ChunkDiffers, ChunksMissing, Upload, beginning
from domain.errors import StoreUnavailable
from domain.measures import ActivityId, UserId
from infra.keys import MasterKeys, derived
from infra.object_store import Draft, Objects
from infra.sealed_stream import CorruptStream, Sealer, unsealed
from infra.wrapping import master_unwrap, master_wrap

_DIGEST_BYTES: Final = 8  # a runner's own chunks are told apart, not an adversary's
_SESSION_BYTES: Final = 16


class ObjectChunks:
    """Implements `domain.chunks.Chunks`. Every step may be repeated, and cut off between any two."""

    def __init__(self, objects: Objects, master: MasterKeys, secret: bytes) -> None:
        self._objects = objects
        self._master = master
        self._secret = derived(secret, b"cairn chunks")

    @asynccontextmanager
    async def arrive(self, upload: Upload, seq: int, session_id: UUID) -> AsyncIterator[ChunkArrival]:
        """See `domain.chunks.Chunks`."""
        async with self._objects.draft(_folder(upload)) as draft:
            sealer = Sealer(master_wrap(self._master, upload.user_id), _place(upload, seq))
            arrival = _Arrival(self, draft, sealer, upload, seq)
            await draft.write(sealer.feed(session_id.bytes))
            yield arrival

    def hasher(self) -> hashlib.blake2b:
        """Makes digests."""
        return hashlib.blake2b(key=self._secret, digest_size=_DIGEST_BYTES)

    async def settle(self, draft: Draft, upload: Upload, seq: int, size: int, digest: str) -> bool:
        """The bytes, whose first writer decides, then the name that makes them count; whether they are new."""
        created = await draft.commit(str(seq))
        if not created:
            known = next((chunk for chunk in await self.held(upload) if chunk.seq == seq), None)
            if known is not None and (known.size, known.digest) == (size, digest):
                return False
            stored = await self._stored(upload, seq)
            if stored != (size, digest):
                if known is None:  # whoever stored it was cut off before it counted: now the client can go on behind it
                    await self._name(upload, seq, *stored)
                raise ChunkDiffers
            if known is not None:  # its digest was made with an earlier secret
                return False
        await self._name(upload, seq, size, digest)
        return created

    async def _name(self, upload: Upload, seq: int, size: int, digest: str) -> None:
        await self._objects.put_new(f"{_names(upload)}/{seq}.{size}.{digest}", b"")

    async def _stored(self, upload: Upload, seq: int) -> tuple[int, str]:
        """The size and the digest of what is stored."""
        digest, size = self.hasher(), 0
        try:
            async for piece in self._opened(upload, seq):
                digest.update(piece)
                size += len(piece)
        except CorruptStream as damage:  # it was never acked, or is damaged: its place is free when the client repeats
            await self.drop(upload, seq)
            raise StoreUnavailable from damage
        return size, digest.hexdigest()

    async def begin(self, upload: Upload) -> None:
        """See `domain.chunks.Chunks`."""
        await self._objects.put_new(_mark(upload), b"")

    async def has_begun(self, upload: Upload) -> bool:
        """See `domain.chunks.Chunks`."""
        return await self._objects.get(_mark(upload)) is not None

    async def held(self, upload: Upload) -> Sequence[Chunk]:
        """See `domain.chunks.Chunks`."""
        found = []
        async for key, written in self._objects.keys(_names(upload)):
            try:
                seq, size, digest = key[key.rindex("/") + 1 :].split(".")
                found.append(Chunk(int(seq), int(size), digest, written))
            except ValueError:  # not ours
                continue
        return sorted(found, key=lambda chunk: chunk.seq)

    async def pieces(self, upload: Upload, chunks: Sequence[Chunk]) -> AsyncIterator[bytes]:
        """See `domain.chunks.Chunks`."""
        for chunk in chunks:
            try:
                async for piece in self._opened(upload, chunk.seq):
                    yield piece
            except CorruptStream:
                await self.drop(upload, chunk.seq)
                raise ChunksMissing([(chunk.seq, chunk.seq)]) from None

    async def session_of(self, upload: Upload, chunk: Chunk) -> UUID:
        """See `domain.chunks.Chunks`."""
        begin = b""
        try:
            async for piece in self._plain(upload, chunk.seq):
                begin += piece
                if len(begin) >= _SESSION_BYTES:
                    return UUID(bytes=begin[:_SESSION_BYTES])
        except CorruptStream:
            pass
        await self.drop(upload, chunk.seq)
        raise ChunksMissing([(chunk.seq, chunk.seq)])

    async def _opened(self, upload: Upload, seq: int) -> AsyncIterator[bytes]:
        """A chunk's bytes; `CorruptStream`, also when there are none."""
        before = _SESSION_BYTES
        async for piece in self._plain(upload, seq):
            yield piece[before:]
            before = max(0, before - len(piece))

    def _plain(self, upload: Upload, seq: int) -> AsyncIterator[bytes]:
        sealed = self._objects.pieces(f"{_folder(upload)}/{seq}")
        return unsealed(sealed, master_unwrap(self._master, upload.user_id), _place(upload, seq))

    async def drop(self, upload: Upload, seq: int) -> None:
        """See `domain.chunks.Chunks`. First it does not count any more, then it is gone."""
        for chunk in await self.held(upload):
            if chunk.seq == seq:
                await self._objects.delete(f"{_names(upload)}/{seq}.{chunk.size}.{chunk.digest}")
        await self._objects.delete(f"{_folder(upload)}/{seq}")

    async def clear(self, upload: Upload) -> None:
        """See `domain.chunks.Chunks`. The receipt comes first: whoever finds a chunk gone finds it there."""
        if held := await self.held(upload):
            digests = b"".join(bytes.fromhex(chunk.digest) for chunk in beginning(held))
            await self._objects.put_new(_receipt(upload), digests)
        await self.discard(upload)

    async def discard(self, upload: Upload) -> None:
        """See `domain.chunks.Chunks`. The mark goes between two looks: what is stored before the second one goes by it,
        and who stores anything later finds the mark gone.
        """
        await self._take_away(upload)
        await self._objects.delete(_mark(upload))
        await self._take_away(upload)

    async def _take_away(self, upload: Upload) -> None:
        for folder in (_names(upload), _folder(upload)):
            async for key, _ in self._objects.keys(folder):
                await self._objects.delete(key)
            await self._objects.prune(folder)

    async def taken(self, upload: Upload) -> Sequence[str]:
        """See `domain.chunks.Chunks`."""
        found = await self._objects.get(_receipt(upload)) or b""
        return [found[at : at + _DIGEST_BYTES].hex() for at in range(0, len(found), _DIGEST_BYTES)]

    async def forget(self, upload: Upload) -> None:
        """Do not know any more what an accepted recording came in."""
        await self._objects.delete(_receipt(upload))

    async def under_way(self) -> AsyncIterator[tuple[Upload, datetime]]:
        """See `domain.chunks.Chunks`."""
        async for key, written in self._objects.keys("chunked"):
            activity_id, _, user_id = key.rpartition("/")[2].partition(".")
            try:
                upload = Upload(UserId(UUID(user_id)), ActivityId(UUID(activity_id)))
            except ValueError:  # not ours, as `lost+found` is not
                continue
            yield upload, written


class _Arrival:
    """Implements `domain.chunks.ChunkArrival`."""

    def __init__(self, chunks: ObjectChunks, draft: Draft, sealer: Sealer, upload: Upload, seq: int) -> None:
        self._chunks = chunks
        self._draft = draft
        self._sealer = sealer
        self._upload = upload
        self._seq = seq
        self._hash = chunks.hasher()
        self.size = 0

    @property
    def digest(self) -> str:
        """See `domain.chunks.ChunkArrival`."""
        return self._hash.hexdigest()

    async def write(self, data: bytes) -> None:
        """See `domain.chunks.ChunkArrival`."""
        self._hash.update(data)
        self.size += len(data)
        await self._draft.write(self._sealer.feed(data))

    async def keep(self) -> bool:
        """See `domain.chunks.ChunkArrival`."""
        await self._draft.write(self._sealer.end())
        return await self._chunks.settle(self._draft, self._upload, self._seq, self.size, self.digest)


def _folder(upload: Upload) -> str:
    return f"chunks/{upload.user_id}/{upload.activity_id}"


def _names(upload: Upload) -> str:
    return f"slices/{upload.user_id}/{upload.activity_id}"


def _mark(upload: Upload) -> str:
    return f"chunked/{upload.activity_id}.{upload.user_id}"


def _receipt(upload: Upload) -> str:
    return f"receipts/{upload.user_id}/{upload.activity_id}"


def _place(upload: Upload, seq: int) -> bytes:
    """What binds a sealed chunk to its upload and its number."""
    return upload.user_id.bytes + upload.activity_id.bytes + seq.to_bytes(4)
