"""The `eventsourcing` library's own face of our log: a recorder and a mapper for applications that are built on it.

The recorder appends by the same group commit as all others and reads behind the same fence. What only reads a log at
rest can be the library's recorder as it is; following the log live with that one is not supported, for it would skip
events, and it wakes by NOTIFY, which nothing here sends.
"""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from eventsourcing.persistence import (
    Cipher,
    Compressor,
    IntegrityError,
    JSONTranscoder,
    Mapper,
    MapperDeserialisationError,
    Notification,
    OperationalError,
    StoredEvent,
    Transcoder,
)
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from msgspec import Struct
from psycopg.conninfo import make_conninfo

from domain.errors import StoreUnavailable
from domain.events.event import Event
from infra.event_store.fence import Fence
from infra.event_store.mapper import MAPPER, UndecodableEvent
from infra.event_store.postgres import PostgresLog
from infra.event_store.rows import Save, VersionTaken

_TABLE: Final = "stored_events"


class LibraryEvent(Struct, frozen=True):
    """An event with its place, as the library's protocols ask for it. Private fields that are sealed stay redacted."""

    originator_id: UUID
    originator_version: int
    event: Event
    owner_id: UUID | None = None  # needed to store it


@dataclass(frozen=True)
class OwnedEvent(StoredEvent):
    """The library's stored event with the user that its stream belongs to."""

    owner_id: UUID


class LibraryMapper(Mapper[UUID]):
    """Our mapper: name it in MAPPER_TOPIC, with CREATE_TABLE=no, in an application whose name is empty."""

    def __init__(
        self,
        transcoder: Transcoder | None = None,
        compressor: Compressor | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        if compressor is not None or cipher is not None:
            raise ValueError("events have a form of their own: unset COMPRESSOR_TOPIC and CIPHER_TOPIC")
        super().__init__(transcoder or JSONTranscoder())

    def to_stored_event(self, domain_event: Any) -> StoredEvent:  # noqa: ANN401 - the library's protocol is generic
        """`LibraryEvent` to a stored event, in the clear: the library knows no keys."""
        topic, state = MAPPER.encode(domain_event.event)
        place = domain_event.originator_id, domain_event.originator_version
        if domain_event.owner_id is None:
            raise ValueError(f"the event of stream {place[0]} version {place[1]} needs an owner_id to be stored")
        return OwnedEvent(*place, topic, state, domain_event.owner_id)

    def to_domain_event(self, stored_event: StoredEvent) -> Any:  # noqa: ANN401 - as above
        """A stored event or notification to a `LibraryEvent`."""
        place = f"stream {stored_event.originator_id} version {stored_event.originator_version}"
        try:
            event = MAPPER.decode(stored_event.topic, stored_event.state)
        except UndecodableEvent as fault:
            raise MapperDeserialisationError(f"{place}: {fault}") from fault
        return LibraryEvent(UUID(str(stored_event.originator_id)), stored_event.originator_version, event)


class Recorder(PostgresApplicationRecorder):
    """The blocking face of `PostgresLog`: the saves of many threads are gathered like those of many coroutines."""

    def __init__(self, datastore: PostgresDatastore, *, events_table_name: str = _TABLE) -> None:
        if events_table_name != _TABLE:
            raise ValueError(f"there is one log, {_TABLE}: name the application '', or leave its name out")
        super().__init__(datastore, events_table_name=events_table_name)
        self._log = PostgresLog(_conninfo(datastore))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-log", daemon=True)
        self._thread.start()

    def insert_events(self, stored_events: Sequence[StoredEvent], **_kwargs: Any) -> Sequence[int] | None:  # noqa: ANN401 - the library's signature
        """Append events of one stream, all or none; their positions. They are `OwnedEvent`s.

        `IntegrityError` when a version is taken; `OperationalError` when Postgres is away, and perhaps it was done.
        """
        events = [event for event in stored_events if isinstance(event, OwnedEvent)]
        if len(events) != len(stored_events) or len({event.originator_id for event in events}) > 1:
            raise ValueError("one stream at once, each event with its owner: one aggregate is one save")
        if not events:
            return []
        first = events[0]
        stored = tuple((event.topic, event.state) for event in events)
        save = Save(UUID(str(first.originator_id)), first.owner_id, first.originator_version, stored)
        try:
            asyncio.run_coroutine_threadsafe(self._log.append(save), self._loop).result()
        except VersionTaken:
            raise IntegrityError(f"stream {first.originator_id} has version {first.originator_version}") from None
        except StoreUnavailable as away:
            raise OperationalError from away
        with self.datastore.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute(_POSITIONS, (first.originator_id, first.originator_version, len(events)))
            return [row["notification_id"] for row in cursor]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """As the library's, up to where the log is decided."""
        with self.datastore.get_connection() as connection:
            decided = Fence(connection).decided()
        stop = decided if stop is None else min(stop, decided)
        found: Sequence[Notification] = super().select_notifications(
            start, limit, stop, topics, inclusive_of_start=inclusive_of_start
        )
        return found

    def close(self) -> None:
        """Finish what is under way. The datastore is its owner's to close."""
        asyncio.run_coroutine_threadsafe(self._log.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_POSITIONS: Final = """
    SELECT notification_id FROM stored_events WHERE originator_id = %s AND originator_version >= %s
    ORDER BY originator_version LIMIT %s
"""


def _conninfo(datastore: PostgresDatastore) -> str:
    given = datastore.pool.kwargs
    if not isinstance(given, dict):
        raise TypeError("the datastore's connection is given by a function: give its parameters")
    return make_conninfo("", **{name: value for name, value in given.items() if name != "row_factory"})
