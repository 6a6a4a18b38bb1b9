"""Recordings whose phone died: closed with what there is, a day after the last chunk came."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from domain.chunks import Chunk, Chunks, Upload, beginning
from domain.errors import StoreUnavailable
from domain.measures import Visibility
from domain.uploads import Cover, Inbox

_log = logging.getLogger(__name__)

QUIET: Final = timedelta(days=1)  # a phone without power or network has as long to come back
_AT_ONCE: Final = 100  # closed by a sweep
_SWEEP_SECONDS: Final = 600.0


class Abandoned:
    """Runs until it is cancelled. Several may run at once: the first one's manifest stays."""

    def __init__(self, chunks: Chunks, inbox: Inbox, clock: Callable[[], datetime]) -> None:
        self._chunks = chunks
        self._inbox = inbox
        self._clock = clock

    async def run(self) -> None:
        """For ever; a store that is away is waited for."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable:
                _log.warning("the object store is away: abandoned recordings are closed later")
            await asyncio.sleep(_SWEEP_SECONDS)

    async def sweep(self) -> int:
        """Close what was abandoned, at most a hundred; how many."""
        closed = 0
        async for upload, since in self._chunks.under_way():
            if self._clock() - since < QUIET:
                continue
            try:
                closed += await self._close(upload)
            except StoreUnavailable:
                raise
            except Exception as failure:  # noqa: BLE001 - one upload's fault, of whatever kind, must not stop the others
                _log.warning("%s could not be closed: %s", upload.activity_id, failure)
            if closed >= _AT_ONCE:
                break
        return closed

    async def _close(self, upload: Upload) -> bool:
        """Whether the upload was abandoned. Ingest judges what there is, as of any upload."""
        held = await self._chunks.held(upload)
        if held and self._clock() - max(chunk.at for chunk in held) < QUIET:
            return False
        if held and await self._inbox.manifest(upload.activity_id) is None:
            await self._accept(upload, held)
        await self._chunks.clear(upload)
        return True

    async def _accept(self, upload: Upload, held: Sequence[Chunk]) -> None:
        """What there is from the first byte on, seen by its owner only: nobody has said yet who else may."""
        last = max(held, key=lambda chunk: chunk.at)
        cover = Cover(received_at=last.at, session_id=await self._chunks.session_of(upload, last))
        async with self._inbox.arrive(upload.activity_id, upload.user_id, cover) as arrival:
            async for piece in self._chunks.pieces(upload, beginning(held)):
                await arrival.write(piece)
            await arrival.accept(visibility=Visibility.PRIVATE, partial=True)
        _log.info("%s was closed with %d of its bytes: nothing had come for a day", upload.activity_id, arrival.size)
