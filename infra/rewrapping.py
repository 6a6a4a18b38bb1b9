"""Master-key rotation in the object store: what waits there, sealed under keys that the master key wraps.

What has a verdict is wrapped by its owner's key, and not touched. Cut off anywhere, it is run again.
"""

from collections.abc import AsyncIterator

from domain.chunks import Upload
from domain.measures import UserId
from infra.chunks import ObjectChunks
from infra.faults import Fault
from infra.inbox import ObjectInbox
from infra.keys import KeyUnusable, MasterKeys
from infra.object_store import Objects
from infra.sealed_stream import CorruptStream, handed_over
from infra.wrapping import is_wrapped_by, master_unwrap, master_wrap


async def rewrap_waiting(objects: Objects, master: MasterKeys, inbox: ObjectInbox, chunks: ObjectChunks) -> int:
    """Bring uploads and chunks that wait under the first master key; how many. `Fault` when one does not open."""
    count = 0
    async for key, owner_id, upload in _waiting(objects, inbox, chunks):
        try:
            count += await _rewrapped(objects, master, key, owner_id)
            if upload is not None and not await chunks.has_begun(upload):
                await objects.delete(key)  # it went meanwhile, and came back by this
        except KeyUnusable as fault:
            raise Fault(f"{key} in the object store: {fault}; until then it cannot be rotated.") from None
        except CorruptStream:  # ingest tells its runner
            continue
    return count


async def _waiting(
    objects: Objects, inbox: ObjectInbox, chunks: ObjectChunks
) -> AsyncIterator[tuple[str, UserId, Upload | None]]:
    """The key, whose it is, and of a chunk its upload. What waits in the inbox is looked at there, if it is back."""
    async for left in inbox.waiting():
        manifest = await inbox.manifest(left.activity_id)
        if manifest is not None:  # else it was never acked
            yield f"inbox/{left.name}", manifest.user_id, None
    async for upload, _ in chunks.under_way():
        async for key, _ in objects.keys(f"chunks/{upload.user_id}/{upload.activity_id}"):
            yield key, upload.user_id, upload


async def _rewrapped(objects: Objects, master: MasterKeys, key: str, owner_id: UserId) -> bool:
    sealed = await objects.get(key)
    if sealed is None or is_wrapped_by(master, sealed):
        return False

    async def pieces() -> AsyncIterator[bytes]:
        yield sealed

    unwrap, wrap = master_unwrap(master, owner_id), master_wrap(master, owner_id)
    await objects.replace(key, b"".join([piece async for piece in handed_over(pieces(), unwrap, wrap)]))
    return True
