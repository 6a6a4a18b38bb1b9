"""What was kept of deleted activities is removed from the object store a week later; of failed uploads, after 90 days.

Until then a backup of the log and the store fit together, and a rebuild of what was deleted by mistake has its tracks.
"""

import logging
from collections.abc import Callable, Set
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from psycopg import Connection

from domain.activity import Activity
from domain.chunks import Upload
from domain.events.activity import ActivityDeleted
from domain.measures import ActivityId, UserId
from domain.streams import Streams, StreamUnreadable
from domain.uploads import Inbox, UploadDamaged, Waiting
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
        if self._chore.has_turn:
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
        """What was kept of failed uploads for long enough. Bytes stay for one that failed at the same ones later."""
        failures = [failure async for failure in self._inbox.failures()]
        await self._note_earlier({failure.activity_id for failure in failures})
        until = self._clock() - FAILED_KEPT
        young = {failure.bytes_id for failure in failures if failure.since > until}
        old = [failure for failure in failures if failure.since <= until]
        for failure in old:
            with suppress(StreamUnreadable, UploadDamaged):  # then it stays until that can be read
                await self._remove_if_failed(failure, young)

    async def _note_earlier(self, noted: Set[ActivityId]) -> None:
        """Earlier versions did not note in the store what failed. Its time begins now."""
        for activity_id in await self._attempts.buried():
            if activity_id not in noted:
                with suppress(UploadDamaged):
                    if (manifest := await self._inbox.manifest(activity_id)) is not None:
                        await self._inbox.note_failure(manifest)

    async def _remove_if_failed(self, failure: Waiting, kept: Set[str]) -> None:
        """The bytes, unless they are among these, and the upload's place in `cairn queue`."""
        manifest = await self._inbox.manifest(failure.activity_id)
        if manifest is not None:
            async with self._claims.alone(manifest.user_id) as alone:
                verdict = await self._inbox.verdict(failure.activity_id) if alone else None
                if verdict is None:  # it is tried again, or somebody is at it
                    return
                if verdict.fault is not None:
                    if failure.bytes_id not in kept:
                        await self._remove(manifest.user_id, manifest.sha256, failed_ones=True)
                    await self._attempts.let_go(failure.activity_id)
        await self._inbox.forget_failure(failure)

    async def _remove(self, user_id: UserId, sha256: str, *, failed_ones: bool = False) -> None:
        """Unless the bytes are another activity's or of its run: of another session in them, or handed in anew since.
        What an upload failed at is kept for another try, unless `failed_ones` are to go as well.
        """
        holder = await self._claims.holder(user_id, sha256)
        if holder is None or await self._nothing_is_left(holder, sha256, failed_ones=failed_ones):
            await self._inbox.remove_original(user_id, sha256)

    async def _nothing_is_left(self, upload_id: ActivityId, sha256: str, *, failed_ones: bool) -> bool:
        verdict = await self._inbox.verdict(upload_id)
        if verdict is None:
            return False
        if verdict.fault is not None:
            return failed_ones
        for activity_id in verdict.became:
            activity = await self._streams.load(Activity, activity_id)
            of_them = activity.source is not None and activity.source.sha256 == sha256  # also by an earlier upload
            if not activity.deleted and (of_them or activity_id in (*verdict.activities, verdict.duplicate_of)):
                return False
        return True
