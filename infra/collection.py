"""What was kept of deleted activities is removed from the object store a week later; of failed uploads, after 90 days.

Until then a backup of the log and the store fit together, and a rebuild of what was deleted by mistake has its tracks.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from psycopg import Connection

from domain.activity import Activity
from domain.chunks import Upload
from domain.events.activity import ActivityDeleted
from domain.measures import ActivityId, UserId
from domain.streams import Streams, StreamUnreadable
from domain.uploads import Inbox, UploadDamaged
from infra.chunks import ObjectChunks
from infra.claims import PostgresAttempts, PostgresClaims
from infra.keys import MasterKeys
from infra.log_chores import LogChore
from infra.object_store import Objects
from infra.tracks import ObjectTracks

_log = logging.getLogger(__name__)

KEPT: Final = timedelta(days=7)
FAILED_KEPT: Final = timedelta(days=90)  # told to operators, who may try them again until then: docs/operators/queue.md


class Collection:
    """Over one connection to the primary, in autocommit. Every step may be repeated."""

    def __init__(
        self,
        connection: Connection,
        master: MasterKeys,
        streams: Streams,
        claims: PostgresClaims,
        attempts: PostgresAttempts,
        inbox: Inbox,
        tracks: ObjectTracks,
        chunks: ObjectChunks,
        objects: Objects,
        clock: Callable[[], datetime],
    ) -> None:
        self._chore = LogChore("collection", ActivityDeleted, KEPT, connection, master, objects, clock)
        self._streams = streams
        self._claims = claims
        self._attempts = attempts
        self._inbox = inbox
        self._tracks = tracks
        self._chunks = chunks
        self._clock = clock

    async def turn(self) -> int:
        """All that is due; how many activities that were. `StoreUnavailable`. Those of which something cannot be read,
        or at whose runner's recordings another worker is, are due again at the next turn.
        """
        count = 0
        async for event in self._chore.due():
            await self._tracks.remove(event.user_id, event.activity_id)
            await self._chunks.forget(Upload(event.user_id, event.activity_id))
            try:
                done = await self._remove_originals(event.user_id, event.activity_id)
            except (StreamUnreadable, UploadDamaged):
                _log.warning("the original of activity %s stays until all of it can be read", event.activity_id)
                done = False
            count += done
            if not done:
                self._chore.failed()
        await self._remove_failed()
        return count

    async def _remove_originals(self, user_id: UserId, activity_id: ActivityId) -> bool:
        """The activity's, and those of the same run that came in other uploads. False: another worker is at them."""
        source = (await self._streams.load(Activity, activity_id)).source
        async with self._claims.alone(user_id) as alone:  # nobody hands the bytes in anew meanwhile
            if not alone:
                return False
            if source is not None:
                await self._remove(user_id, source.sha256)
            async for sha256 in self._inbox.twins(user_id, activity_id):
                await self._remove(user_id, sha256)
            await self._inbox.forget_twins(user_id, activity_id)
        return True

    async def _remove_failed(self) -> None:
        """What was kept for another try, for long enough, with the upload's place in `cairn queue`."""
        async for activity_id, since in self._inbox.failures():
            if self._clock() - since >= FAILED_KEPT:
                with suppress(StreamUnreadable, UploadDamaged):  # then it stays until that can be read
                    if await self._is_over(activity_id):
                        await self._inbox.forget_failure(activity_id)

    async def _is_over(self, activity_id: ActivityId) -> bool:
        """Whether the upload is no failed one any more: by now its bytes are removed, or it became something."""
        manifest, verdict = await self._inbox.manifest(activity_id), await self._inbox.verdict(activity_id)
        if manifest is None or verdict is None:
            return manifest is None  # else it is tried again
        if verdict.fault is not None:
            async with self._claims.alone(manifest.user_id) as alone:
                if not alone:
                    return False
                await self._remove(manifest.user_id, manifest.sha256, activity_id)
            await self._attempts.let_go(activity_id)
        return True

    async def _remove(self, user_id: UserId, sha256: str, failed: ActivityId | None = None) -> None:
        """Unless the bytes are another activity's or of its run: of another session in them, or handed in anew since.
        What another upload than this failed at is kept for another try.
        """
        holder = await self._claims.holder(user_id, sha256)
        if holder is None or holder == failed or await self._nothing_is_left(holder):
            await self._inbox.remove_original(user_id, sha256)

    async def _nothing_is_left(self, upload_id: ActivityId) -> bool:
        verdict = await self._inbox.verdict(upload_id)
        if verdict is None or verdict.fault is not None:
            return False
        of = verdict.duplicate_of
        for activity_id in verdict.activities if of is None else (of,):
            if not (await self._streams.load(Activity, activity_id)).deleted:
                return False
        return True
