"""Tracks that have cooled down are packed again, as small as can be.

Every `activity.recorded` says of one (`log_chores.py`). The blobs say themselves whether they were recompacted. A turn
rests three times as long as it works: at most a quarter of a core.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from psycopg import Connection

from domain.activity import Activity
from domain.events.activity import ActivityRecorded
from domain.streams import Streams, StreamUnreadable
from infra.keys import KeyUnusable, MasterKeys
from infra.log_chores import LogChore
from infra.object_store import Objects
from infra.tracks import ObjectTracks

_log = logging.getLogger(__name__)

COOLING: Final = timedelta(days=7)  # in which most are looked at, and some are deleted again
_REST: Final = 3.0  # times as long as the work took


class Recompaction:
    """Over one connection to the primary, in autocommit. Cut off anywhere it loses nothing, and does little again."""

    def __init__(
        self,
        connection: Connection,
        master: MasterKeys,
        streams: Streams,
        tracks: ObjectTracks,
        objects: Objects,
        clock: Callable[[], datetime],
    ) -> None:
        self._chore = LogChore("recompaction", ActivityRecorded, COOLING, connection, master, objects, clock)
        self._streams = streams
        self._tracks = tracks

    async def turn(self) -> tuple[int, int]:
        """All that is due; how many tracks that were, and how many bytes it saved. `StoreUnavailable`."""
        tracks = saved = 0
        async for event in self._chore.due():
            began = time.monotonic()
            saved += await self._recompacted(event)
            tracks += 1
            await asyncio.sleep(_REST * (time.monotonic() - began))
        return tracks, saved

    async def _recompacted(self, event: ActivityRecorded) -> int:
        """The bytes that were saved. None of what was deleted: its track is removed meanwhile, and would be back."""
        try:
            if (await self._streams.load(Activity, event.activity_id)).deleted:
                return 0
            return await self._tracks.recompact(event.user_id, event.activity_id)
        except (KeyUnusable, StreamUnreadable) as fault:
            _log.warning("a track stays as it is: %s", fault)
            return 0
