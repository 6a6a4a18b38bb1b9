"""Work on what events left in the object store, once they are old enough: a little at a time, in the background.

The log says what is due, in order. A turn goes on where the last one ended and stops at the first event that is too
young, so it reads what became due since then and never lists the store. Its age is by the worker's clock
since Postgres stored it: by its own time, of an API host whose clock is ahead, it would stop a chore for all. The
position is an object of its own; if it is lost or old, work is done again, which must do no harm. One turn of a chore
runs at a time, by a lock in Postgres.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from psycopg import Connection

from domain.events.event import Event
from infra.away import LETTING_GO, or_unavailable
from infra.event_store.mapper import MAPPER, UndecodableEvent
from infra.event_store.reader import LogReader, Selection
from infra.event_store.rows import Row
from infra.keys import MasterKeys
from infra.object_store import Objects

E = TypeVar("E", bound=Event)

_REMEMBERED_EVERY: Final = 100  # events


class LogChore(Generic[E]):
    """Events of one kind as they become due, over one connection to the primary, in autocommit."""

    def __init__(
        self,
        name: str,
        kind: type[E],
        after: timedelta,
        connection: Connection,
        master: MasterKeys,
        objects: Objects,
        clock: Callable[[], datetime],
    ) -> None:
        self._name = name
        self._kind = kind
        self._after = after
        self._connection = connection
        self._reader = LogReader(connection, master)
        self._objects = objects
        self._clock = clock
        self._failed = False
        self.has_turn = False  # from when `due` began, as long as the connection is there

    async def due(self) -> AsyncIterator[E]:
        """What is due. It counts as done when the next one is asked for, unless it `failed`. `StoreUnavailable`."""
        self.has_turn = await asyncio.to_thread(self._lock)
        if not self.has_turn:
            return  # another process is at it
        self._failed = False
        begin = reached = int(await self._objects.get(self._key) or b"0")
        count = 0
        async for position, event in self._rows(begin):
            if event is not None:
                yield event
            if self._failed:
                continue
            count, reached = count + 1, position
            if count % _REMEMBERED_EVERY == 0:
                await self._remember(reached)
        if reached > begin:
            await self._remember(reached)

    def failed(self) -> None:
        """What was given last is not done: the next turn begins with it, and does again what comes after it in this."""
        self._failed = True

    async def _rows(self, after: int) -> AsyncIterator[tuple[int, E | None]]:
        """What is due, with its positions; where that is all, at last the position up to which was read, with None."""
        old = self._clock() - self._after
        upto = await asyncio.to_thread(self._reader.decided)
        pages = self._reader.scan(after, upto, Selection(topics=MAPPER.topics_of([self._kind])))
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            young = await asyncio.to_thread(self._first_after, old, page)
            for row in page:
                if row.position == young:
                    return
                if (event := self._event(row)) is not None:
                    yield row.position, event
        yield upto, None

    def _first_after(self, old: datetime, page: Sequence[Row]) -> int | None:
        """Where the first of these rows is that was stored after this time."""
        with or_unavailable():
            row = self._connection.execute(_FIRST_AFTER, ([row.position for row in page], old)).fetchone()
        return None if row is None else row[0]

    def _event(self, row: Row) -> E | None:
        """None for what this code cannot read: that is the projections' matter."""
        try:
            event = MAPPER.decode(row.topic, row.state)
        except UndecodableEvent:
            return None
        return event if isinstance(event, self._kind) else None

    @property
    def _key(self) -> str:
        return f"{self._name}/position"

    async def _remember(self, position: int) -> None:
        await self._objects.replace(self._key, str(position).encode())

    def _lock(self) -> bool:
        """Held as long as the connection is."""
        with or_unavailable():
            self._connection.execute(LETTING_GO)
            row = self._connection.execute(_LOCK, (self._name,)).fetchone()
        return row is not None and bool(row[0])


_FIRST_AFTER: Final = """
    SELECT min(notification_id) FROM stored_events WHERE notification_id = ANY(%s) AND recorded_at > %s
"""
_LOCK: Final = "SELECT pg_try_advisory_lock(hashtext('cairn ' || %s))"
