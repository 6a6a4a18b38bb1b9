"""The inbox of accepted uploads, in the object store alone, so that runs are taken in while all else is down.

Keys: `inbox/{activity}.{owner and hash}` bytes that wait, sealed under a key that the master key wraps; for ever
`manifests/{xx}/{activity}` what was accepted under an id and `verdicts/{xx}/{activity}` what became of it;
`originals/{user}/{hash}` the bytes once there is a verdict, their key wrapped by the user's. So that they go some day,
without content, `twins/{user}/{activity}/{hash}` for bytes that were the same run as an activity, and
`failures/{activity}.{owner and hash}` for uploads that failed.
"""

import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from domain.activity import ActivityMissing, RecordingDiffers
from domain.errors import StoreUnavailable
from domain.measures import ActivityId, Sport, UserId, Visibility
from domain.streams import OwnerErased
from domain.uploads import (
    BODY_DAMAGED,
    Arrival,
    BodyDamaged,
    Cover,
    Manifest,
    Received,
    RecordingClosed,
    UploadDamaged,
    Verdict,
    Waiting,
)
from infra.keys import MasterKeys, UserCipher, UserKeys
from infra.object_store import Draft, Objects
from infra.sealed_stream import CorruptStream, Sealer, Unwrap, Wrap, handed_over, unsealed
from infra.wrapping import master_unwrap, master_wrap, users_unwrap, users_wrap

_log = logging.getLogger(__name__)

T = TypeVar("T")

HEAD_BYTES: Final = 16 * 1024
_LENGTH_BYTES: Final = 4
_MANIFESTS: Final = msgspec.json.Decoder(Manifest)
_VERDICTS: Final = msgspec.json.Decoder(Verdict)
_COVERS: Final = msgspec.json.Decoder(Cover)


class ObjectInbox:
    """Implements `domain.uploads.Inbox`. Every step may be repeated, and cut off between any two."""

    def __init__(self, objects: Objects, master: MasterKeys, keys: UserKeys) -> None:
        self._objects = objects
        self._master = master
        self._keys = keys

    @asynccontextmanager
    async def arrive(self, activity_id: ActivityId, user_id: UserId, cover: Cover) -> AsyncIterator[Arrival]:
        """See `domain.uploads.Inbox`."""
        async with self._objects.draft("inbox") as draft:
            sealer = Sealer(master_wrap(self._master, user_id), _whose(user_id))
            arrival = _Arrival(self, draft, sealer, activity_id, user_id, cover)
            await arrival.begin()
            yield arrival

    async def settle(self, draft: Draft, manifest: Manifest) -> Manifest:
        """Bytes, which the sweeper looks for, then the manifest, whose first writer decides; what is kept."""
        earlier = await self.manifest(manifest.activity_id)
        if earlier is None:
            await draft.commit(_name(manifest))
            if await self._objects.put_new(_sharded("manifests", manifest.activity_id), msgspec.json.encode(manifest)):
                return manifest
            earlier = await self.manifest(manifest.activity_id)
        if earlier is None:  # it was there just now
            raise StoreUnavailable
        if earlier.user_id != manifest.user_id:
            raise ActivityMissing
        if earlier.sha256 != manifest.sha256:
            raise RecordingClosed if earlier.partial else RecordingDiffers
        verdict = await self.verdict(manifest.activity_id)
        if verdict is not None and verdict.passing:
            if verdict.fault is not None and verdict.fault.code == BODY_DAMAGED:
                await self._make_way(manifest)
            await self._objects.delete(_sharded("verdicts", manifest.activity_id))
        if verdict is None or verdict.passing:
            await draft.commit(_name(manifest))  # as a rule it is there
        return earlier

    async def _make_way(self, manifest: Manifest) -> None:
        """For whole bytes: damaged ones have their name. `StoreUnavailable` until these are put away, as sweeps do."""
        if await self.waits(manifest):
            raise StoreUnavailable
        await self.remove_original(manifest.user_id, manifest.sha256)

    async def manifest(self, activity_id: ActivityId) -> Manifest | None:
        """See `domain.uploads.Inbox`."""
        return await self._read(_MANIFESTS, _sharded("manifests", activity_id))

    async def verdict(self, activity_id: ActivityId) -> Verdict | None:
        """See `domain.uploads.Inbox`."""
        return await self._read(_VERDICTS, _sharded("verdicts", activity_id))

    async def _read(self, decoder: msgspec.json.Decoder[T], key: str) -> T | None:
        found = await self._objects.get(key)
        try:
            return None if found is None else decoder.decode(found)
        except (msgspec.DecodeError, UnicodeDecodeError) as damage:
            _log.error("%s in the object store cannot be read: %s", key, damage)
            raise UploadDamaged from damage

    async def received(self, manifest: Manifest) -> Received:
        """See `domain.uploads.Inbox`. Of an upload that is tried anew, the bytes may be kept already."""
        unwrap = master_unwrap(self._master, manifest.user_id)
        plain = unsealed(self._objects.pieces(f"inbox/{_name(manifest)}"), unwrap, _whose(manifest.user_id))
        try:
            cover, body = await _parted(plain)
        except CorruptStream:
            cover, body = await self._kept(manifest)
        if hashlib.sha256(body).hexdigest() != manifest.sha256:
            raise BodyDamaged(manifest.activity_id)
        return Received(cover, bytes(body))

    async def _kept(self, manifest: Manifest) -> tuple[Cover, bytearray]:
        try:
            return await _parted(self._opened(manifest.user_id, manifest.sha256))
        except CorruptStream:
            raise BodyDamaged(manifest.activity_id) from None

    async def close(self, manifest: Manifest, verdict: Verdict) -> None:
        """See `domain.uploads.Inbox`. Cut off anywhere, the next try finds the verdict, and tidies up."""
        await self._objects.put_new(_sharded("verdicts", manifest.activity_id), msgspec.json.encode(verdict))
        await self.tidy(manifest)

    async def tidy(self, manifest: Manifest) -> None:
        """See `domain.uploads.Inbox`."""
        await self._keep(manifest)
        verdict = await self.verdict(manifest.activity_id)
        if verdict is not None:  # else it was reopened in between
            await self._note(manifest, verdict)
            await self._objects.delete(f"inbox/{_name(manifest)}")
            if await self.verdict(manifest.activity_id) is None:  # by who found the bytes still there
                with contextlib.suppress(OwnerErased):
                    await self._put_back(manifest, await self._keys.to_seal(manifest.user_id))

    async def _keep(self, manifest: Manifest) -> None:
        try:
            cipher = await self._keys.to_seal(manifest.user_id)
            await self._hand_over(
                (f"inbox/{_name(manifest)}", master_unwrap(self._master, manifest.user_id)),
                (f"originals/{manifest.user_id}", manifest.sha256, users_wrap(cipher)),
            )
        except (CorruptStream, OwnerErased):  # it went over before, or nothing may be kept
            return

    async def _note(self, manifest: Manifest, verdict: Verdict) -> None:
        """With what the bytes go, where no activity is made of them."""
        if verdict.fault is not None:
            await self._objects.replace(f"failures/{_name(manifest)}", b"")  # as of now, if it failed before
        elif verdict.duplicate_of is not None and verdict.matched == "track":
            await self._objects.put_new(f"{_twins(manifest.user_id, verdict.duplicate_of)}/{manifest.sha256}", b"")

    async def _hand_over(self, source: tuple[str, Unwrap], target: tuple[str, str, Wrap]) -> None:
        (key, unwrap), (folder, name, wrap) = source, target
        async with self._objects.draft(folder) as draft:
            async for piece in handed_over(self._objects.pieces(key), unwrap, wrap):
                await draft.write(piece)
            await draft.commit(name)

    async def reopen(self, manifest: Manifest) -> None:
        """See `domain.uploads.Inbox`. Cut off in between, it is called again."""
        cipher = await self._keys.to_seal(manifest.user_id)  # without it, the verdict stays
        await self._objects.delete(_sharded("verdicts", manifest.activity_id))
        await self._put_back(manifest, cipher)

    async def _put_back(self, manifest: Manifest, cipher: UserCipher) -> None:
        with contextlib.suppress(CorruptStream):  # then the bytes are in the inbox still, or nowhere
            await self._hand_over(
                (f"originals/{manifest.user_id}/{manifest.sha256}", users_unwrap(cipher)),
                ("inbox", _name(manifest), master_wrap(self._master, manifest.user_id)),
            )

    async def original(self, user_id: UserId, sha256: str) -> AsyncIterator[bytes]:
        """See `domain.uploads.Inbox`."""
        held: bytearray | None = bytearray()
        try:
            async for piece in self._opened(user_id, sha256):
                if held is None:
                    yield piece
                    continue
                held += piece
                if (end := _cover_end(held)) is not None:
                    yield bytes(held[end:])
                    held = None
        except CorruptStream as damage:
            raise BodyDamaged(sha256) from damage
        if held is not None and await self._keys.to_open(user_id) is not None:
            raise BodyDamaged(sha256)

    async def _opened(self, user_id: UserId, sha256: str) -> AsyncIterator[bytes]:
        """Cover and bytes that are kept; nothing when they are not, or when their owner's key was destroyed."""
        pieces = self._objects.pieces(f"originals/{user_id}/{sha256}")
        first = await anext(pieces, None)
        cipher = None if first is None else await self._keys.to_open(user_id)
        if first is None or cipher is None:
            return

        async def again() -> AsyncIterator[bytes]:
            yield first
            async for piece in pieces:
                yield piece

        async for piece in unsealed(again(), users_unwrap(cipher), _whose(user_id)):
            yield piece

    async def remove_original(self, user_id: UserId, sha256: str) -> None:
        """See `domain.uploads.Inbox`."""
        await self._objects.delete(f"originals/{user_id}/{sha256}")

    async def twins(self, user_id: UserId, activity_id: ActivityId) -> AsyncIterator[str]:
        """See `domain.uploads.Inbox`."""
        async for key, _ in self._objects.keys(_twins(user_id, activity_id)):
            yield key.rpartition("/")[2]

    async def forget_twins(self, user_id: UserId, activity_id: ActivityId) -> None:
        """See `domain.uploads.Inbox`."""
        async for key, _ in self._objects.keys(_twins(user_id, activity_id)):
            await self._objects.delete(key)
        await self._objects.prune(_twins(user_id, activity_id))

    def failures(self) -> AsyncIterator[Waiting]:
        """See `domain.uploads.Inbox`."""
        return self._named("failures")

    async def note_failure(self, manifest: Manifest) -> None:
        """See `domain.uploads.Inbox`."""
        await self._objects.put_new(f"failures/{_name(manifest)}", b"")

    async def forget_failure(self, failure: Waiting) -> None:
        """See `domain.uploads.Inbox`."""
        await self._objects.delete(f"failures/{failure.name}")

    def waiting(self) -> AsyncIterator[Waiting]:
        """See `domain.uploads.Inbox`."""
        return self._named("inbox")

    async def _named(self, folder: str) -> AsyncIterator[Waiting]:
        async for key, written in self._objects.keys(folder):
            name = key.rpartition("/")[2]
            try:
                activity_id = ActivityId(UUID(name.partition(".")[0]))
            except ValueError:  # not ours, as `lost+found` is not
                continue
            yield Waiting(activity_id, written, name)

    async def waits(self, manifest: Manifest) -> bool:
        """See `domain.uploads.Inbox`."""
        return await anext(self._objects.pieces(f"inbox/{_name(manifest)}"), None) is not None

    async def forget(self, left: Waiting) -> None:
        """See `domain.uploads.Inbox`."""
        await self._objects.delete(f"inbox/{left.name}")


class _Arrival:
    """Implements `domain.uploads.Arrival`."""

    def __init__(
        self,
        inbox: ObjectInbox,
        draft: Draft,
        sealer: Sealer,
        activity_id: ActivityId,
        user_id: UserId,
        cover: Cover,
    ) -> None:
        self._inbox = inbox
        self._draft = draft
        self._sealer = sealer
        self._activity_id = activity_id
        self._user_id = user_id
        self._cover = cover
        self._hash = hashlib.sha256()
        self.head = b""
        self.size = 0

    async def begin(self) -> None:
        """The cover comes first."""
        cover = msgspec.json.encode(self._cover)
        await self._draft.write(self._sealer.feed(len(cover).to_bytes(_LENGTH_BYTES) + cover))

    async def write(self, data: bytes) -> None:
        """See `domain.uploads.Arrival`."""
        self._hash.update(data)
        self.size += len(data)
        if len(self.head) < HEAD_BYTES:
            self.head = (self.head + data[:HEAD_BYTES])[:HEAD_BYTES]
        await self._draft.write(self._sealer.feed(data))

    @property
    def sha256(self) -> str:
        """See `domain.uploads.Arrival`."""
        return self._hash.hexdigest()

    async def accept(
        self, *, visibility: Visibility | None = None, sport: Sport | None = None, partial: bool = False
    ) -> Manifest:
        """See `domain.uploads.Arrival`."""
        await self._draft.write(self._sealer.end())
        manifest = Manifest(
            activity_id=self._activity_id,
            user_id=self._user_id,
            sha256=self.sha256,
            size=self.size,
            received_at=self._cover.received_at,
            visibility=visibility,
            sport=sport,
            partial=partial,
        )
        return await self._inbox.settle(self._draft, manifest)


async def _parted(plain: AsyncIterator[bytes]) -> tuple[Cover, bytearray]:
    """The cover and the bytes, which are held once."""
    cover, held = None, bytearray()
    async for piece in plain:
        held += piece
        if cover is None and (end := _cover_end(held)) is not None:
            cover = _COVERS.decode(held[_LENGTH_BYTES:end])
            del held[:end]
    if cover is None:
        raise CorruptStream("there is no cover")
    return cover, held


def _cover_end(held: bytearray) -> int | None:
    """Where the bytes begin; None when the cover is not whole yet."""
    end = _LENGTH_BYTES + int.from_bytes(held[:_LENGTH_BYTES])
    return end if len(held) >= max(end, _LENGTH_BYTES) else None


def _whose(user_id: UserId) -> bytes:
    """What binds sealed bytes to their owner; which of theirs they are, their hash says."""
    return b"recording of " + user_id.bytes


def _name(manifest: Manifest) -> str:
    """Of waiting bytes: others under the same id, or another's, have another name."""
    whose = hashlib.blake2b(manifest.user_id.bytes + manifest.sha256.encode(), digest_size=16).hexdigest()
    return f"{manifest.activity_id}.{whose}"


def _twins(user_id: UserId, activity_id: ActivityId) -> str:
    return f"twins/{user_id}/{activity_id}"


def _sharded(kind: str, activity_id: ActivityId) -> str:
    return f"{kind}/{activity_id.hex[:2]}/{activity_id}"  # no folder of a million names
