"""What was kept of activities that were deleted is removed from the object store, a week later.

Until then a backup of the log and the store fit together, and a rebuild of what was deleted by mistake has its tracks.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from psycopg import Connection

from domain.activity import Activity
from domain.chunks import Upload
from domain.events.activity import ActivityDeleted
from domain.measures import ActivityId, UserId
from domain.streams import Streams, StreamUnreadable
from domain.uploads import Inbox
from infra.chunks import ObjectChunks
from infra.claims import PostgresClaims
from infra.keys import MasterKeys
from infra.log_chores import LogChore
from infra.object_store import Objects
from infra.tracks import ObjectTracks

_log = logging.getLogger(__name__)

KEPT: Final = timedelta(days=7)


class Collection:
    """Over one connection to the primary, in autocommit. Every step may be repeated."""

    def __init__(
        self,
        connection: Connection,
        master: MasterKeys,
        streams: Streams,
        claims: PostgresClaims,
        inbox: Inbox,
        tracks: ObjectTracks,
        chunks: ObjectChunks,
        objects: Objects,
        clock: Callable[[], datetime],
    ) -> None:
        self._chore = LogChore("collection", ActivityDeleted, KEPT, connection, master, objects, clock)
        self._streams = streams
        self._claims = claims
        self._inbox = inbox
        self._tracks = tracks
        self._chunks = chunks

    async def turn(self) -> int:
        """All that is due; how many activities that were. `StoreUnavailable`. Those whose stream cannot be read are due
        again at the next turn.
        """
        count = 0
        async for event in self._chore.due():
            await self._tracks.remove(event.user_id, event.activity_id)
            await self._chunks.forget(Upload(event.user_id, event.activity_id))
            try:
                if await self._remove_original(event.user_id, event.activity_id):
                    count += 1
                else:
                    self._chore.failed()
            except StreamUnreadable:
                _log.warning("the original of activity %s stays until its stream can be read", event.activity_id)
                self._chore.failed()
        return count

    async def _remove_original(self, user_id: UserId, activity_id: ActivityId) -> bool:
        """Unless another activity is of the same bytes: of another session in them, or handed in anew since. What an
        upload failed at is kept for another try. False: another worker is at the runner's recordings.
        """
        source = (await self._streams.load(Activity, activity_id)).source
        if source is None:
            return True
        async with self._claims.alone(user_id) as alone:  # nobody hands the bytes in anew meanwhile
            if not alone:
                return False
            holder = await self._claims.holder(user_id, source.sha256)
            verdict = None if holder is None else await self._inbox.verdict(holder)
            settled = verdict is not None and verdict.fault is None and not await self._any_left(verdict.activities)
            if holder is None or settled:
                await self._inbox.remove_original(user_id, source.sha256)
        return True

    async def _any_left(self, activity_ids: tuple[ActivityId, ...]) -> bool:
        for activity_id in activity_ids:
            if not (await self._streams.load(Activity, activity_id)).deleted:
                return True
        return False
