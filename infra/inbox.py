"""The inbox of accepted uploads, in the object store alone, so that runs are taken in while all else is down.

Keys: `bodies/{user}/{sha256}` the bytes; `manifests/{xx}/{activity}` what was accepted under an id, for ever;
`verdicts/{xx}/{activity}` what became of it; `pending/{activity}` a mark from before the ack until the verdict.
"""

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from domain.activity import ActivityMissing, RecordingDiffers
from domain.measures import ActivityId, UserId
from domain.uploads import BodyDamaged, Manifest, Verdict
from infra.objects import Objects

_MANIFESTS: Final = msgspec.json.Decoder(Manifest)
_VERDICTS: Final = msgspec.json.Decoder(Verdict)


class ObjectInbox:
    """Implements `domain.uploads.Inbox`. Every step may be repeated, and cut off between any two."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def accept(self, manifest: Manifest, body: bytes) -> None:
        """Bytes, then the mark that the sweeper looks for, then the manifest, whose first writer decides."""
        earlier = await self.manifest(manifest.activity_id)
        if earlier is None:
            await self._objects.put_new(_body_key(manifest.user_id, manifest.sha256), body)
            await self._objects.put_new(f"pending/{manifest.activity_id}", b"")
            if await self._objects.put_new(_sharded("manifests", manifest.activity_id), msgspec.json.encode(manifest)):
                return
            earlier = await self.manifest(manifest.activity_id)
        if earlier is None or earlier.user_id != manifest.user_id:
            raise ActivityMissing
        if earlier.sha256 != manifest.sha256:
            raise RecordingDiffers

    async def manifest(self, activity_id: ActivityId) -> Manifest | None:
        """See `domain.uploads.Inbox`."""
        found = await self._objects.get(_sharded("manifests", activity_id))
        return None if found is None else _MANIFESTS.decode(found)

    async def verdict(self, activity_id: ActivityId) -> Verdict | None:
        """See `domain.uploads.Inbox`."""
        found = await self._objects.get(_sharded("verdicts", activity_id))
        return None if found is None else _VERDICTS.decode(found)

    async def body(self, manifest: Manifest) -> bytes:
        """The accepted bytes; `BodyDamaged` when they are gone or changed."""
        body = await self._objects.get(_body_key(manifest.user_id, manifest.sha256))
        if body is None or hashlib.sha256(body).hexdigest() != manifest.sha256:
            raise BodyDamaged(manifest.activity_id)
        return body

    async def close(self, activity_id: ActivityId, verdict: Verdict) -> None:
        """The verdict, then the mark goes: cut off in between, the next try finds the verdict."""
        await self._objects.put_new(_sharded("verdicts", activity_id), msgspec.json.encode(verdict))
        await self.forget(activity_id)

    async def pending(self) -> AsyncIterator[tuple[ActivityId, datetime]]:
        """See `domain.uploads.Inbox`."""
        async for key, written in self._objects.keys("pending"):
            yield ActivityId(UUID(key.rpartition("/")[2])), written

    async def forget(self, activity_id: ActivityId) -> None:
        """See `domain.uploads.Inbox`."""
        await self._objects.delete(f"pending/{activity_id}")


def _body_key(user_id: UserId, sha256: str) -> str:
    return f"bodies/{user_id}/{sha256}"


def _sharded(kind: str, activity_id: ActivityId) -> str:
    return f"{kind}/{activity_id.hex[:2]}/{activity_id}"  # no folder of a million names
