"""Tracks that have cooled down are packed again, as small as can be.

The log says which there are: every `activity.recorded`, in order. A turn goes on where the last one ended and stops at
the first that is younger than `COOLING`, so it reads what became due since then and never lists the store. The position
is an object of its own; if it is lost or old, the blobs say themselves that they were recompacted. One turn runs at a
time, by a lock in Postgres, and rests three times as long as it works: at most a quarter of a core.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Final

from psycopg import Connection, OperationalError

from domain.errors import StoreUnavailable
from domain.events.activity import ActivityRecorded
from infra.event_store.mapper import MAPPER, UndecodableEvent
from infra.event_store.reader import LogReader, Selection
from infra.event_store.rows import Row
from infra.keys import KeyUnusable, MasterKeys
from infra.objects import Objects
from infra.tracks import ObjectTracks

_log = logging.getLogger(__name__)

COOLING: Final = timedelta(days=7)  # in which most are looked at, and some are deleted again
_POSITION: Final = "recompaction/position"
_REST: Final = 3.0  # times as long as the work took
_REMEMBERED_EVERY: Final = 100  # tracks


class Recompaction:
    """Over one connection to the primary, in autocommit. Cut off anywhere it loses nothing, and does little again."""

    def __init__(
        self,
        connection: Connection,
        master: MasterKeys,
        tracks: ObjectTracks,
        objects: Objects,
        clock: Callable[[], datetime],
    ) -> None:
        self._connection = connection
        self._reader = LogReader(connection, master)
        self._tracks = tracks
        self._objects = objects
        self._clock = clock

    async def turn(self) -> tuple[int, int]:
        """All that is due; how many tracks that were, and how many bytes it saved. `StoreUnavailable`."""
        if not await asyncio.to_thread(self._lock):
            return 0, 0  # another process is at it
        tracks = saved = 0
        position = int(await self._objects.get(_POSITION) or b"0")
        async for row, event in self._due(position):
            began = time.monotonic()
            saved += await self._recompacted(event)
            tracks, position = tracks + 1, row.position
            if tracks % _REMEMBERED_EVERY == 0:
                await self._remember(position)
            await asyncio.sleep(_REST * (time.monotonic() - began))
        if tracks:
            await self._remember(position)
        return tracks, saved

    async def _due(self, after: int) -> AsyncIterator[tuple[Row, ActivityRecorded]]:
        cool = self._clock() - COOLING
        pages = self._reader.scan(after, of=Selection(topics=MAPPER.topics_of([ActivityRecorded])))
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            for row in page:
                event = _event(row)
                if event is not None and event.at > cool:
                    return
                if event is not None:
                    yield row, event

    async def _recompacted(self, event: ActivityRecorded) -> int:
        try:
            return await self._tracks.recompact(event.user_id, event.activity_id)
        except KeyUnusable as fault:
            _log.warning("a track stays as it is: %s", fault)
            return 0

    def _lock(self) -> bool:
        """Held as long as the connection is."""
        try:
            row = self._connection.execute("SELECT pg_try_advisory_lock(hashtext('cairn recompaction'))").fetchone()
        except OperationalError as error:
            raise StoreUnavailable from error
        return row is not None and bool(row[0])

    async def _remember(self, position: int) -> None:
        await self._objects.replace(_POSITION, str(position).encode())


def _event(row: Row) -> ActivityRecorded | None:
    """None for what this code cannot read: that is the projections' matter."""
    try:
        event = MAPPER.decode(row.topic, row.state)
    except UndecodableEvent:
        return None
    return event if isinstance(event, ActivityRecorded) else None
