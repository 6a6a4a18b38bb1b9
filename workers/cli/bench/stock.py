"""The `eventsourcing` library as it comes, beside ours in the benches: its recorder, its mapper, its cipher."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import psycopg
from eventsourcing.application import Application
from eventsourcing.cryptography import AESCipher
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import (
    DatetimeAsISO,
    JSONTranscoder,
    Mapper,
    StoredEvent,
    Tracking,
    UUIDAsHex,
)
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from domain.events.activity import ActivityRecorded
from domain.events.event import Event
from domain.events.packing import unpack_json
from workers.cli.bench.events import Made

_PAGE: Final = 1_000  # notifications at once; its own default section is 10

_COPY: Final = SQL("COPY {} (originator_id, originator_version, topic, state) FROM STDIN (FORMAT BINARY)")


@dataclass(frozen=True)
class Happened(DomainEvent):
    """One of our events as the library would have it: ids and times of their types, all else in plain JSON."""

    what: str
    fields: dict[str, Any]


class StockLog:
    """A table of the library's own, in a database of ours."""

    def __init__(self, database_url: str, table: str, *, encrypted: bool = False) -> None:
        self._database_url, self._table = database_url, table
        given = conninfo_to_dict(database_url)
        self._datastore = PostgresDatastore(
            dbname=str(given["dbname"]),
            host=str(given["host"]),
            port=str(given["port"]),
            user=str(given["user"]),
            password="",
        )
        self._recorder = PostgresApplicationRecorder(self._datastore, events_table_name=table)
        self._recorder.create_table()
        transcoder = JSONTranscoder()
        for transcoding in (UUIDAsHex(), DatetimeAsISO()):
            transcoder.register(transcoding)
        key = Environment("", {"CIPHER_KEY": AESCipher.create_key(32)})
        self._mapper: Mapper[UUID] = Mapper(transcoder, cipher=AESCipher(key) if encrypted else None)

    def close(self) -> None:
        """Let go of the connections."""
        self._datastore.close()

    def fill(self, log: Iterator[Made]) -> None:
        """Store the events, each in a stream of its own."""
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            with connection.cursor() as cursor, cursor.copy(_COPY.format(Identifier(self._table))) as copy:
                copy.set_types(["uuid", "int8", "text", "bytea"])
                for made in log:
                    stored = self._mapper.to_stored_event(_happened(made.event))
                    copy.write_row((stored.originator_id, stored.originator_version, stored.topic, stored.state))
            connection.execute(SQL("VACUUM (ANALYZE) {}").format(Identifier(self._table)))

    def stored(self) -> Sequence[StoredEvent]:
        """All there is, page by page, not mapped."""
        return [notification for page in self._pages() for notification in page]

    def map(self, stored: Sequence[StoredEvent]) -> float:
        """Events a second of mapping alone."""
        began = time.perf_counter()
        for event in stored:
            self._mapper.to_domain_event(event)
        return len(stored) / (time.perf_counter() - began)

    def read_and_map(self) -> float:
        """Events a second of paging through the log and mapping."""
        began, count = time.perf_counter(), 0
        for page in self._pages():
            for notification in page:
                self._mapper.to_domain_event(notification)
            count += len(page)
        return count / (time.perf_counter() - began)

    def _pages(self) -> Iterator[Sequence[StoredEvent]]:
        start = 1
        while page := self._recorder.select_notifications(start=start, limit=_PAGE):
            yield page
            start = page[-1].id + 1

    def append(self, state: bytes, threads: int, seconds: float) -> float:
        """Saves a second of single events by many threads."""
        counts = [0] * threads
        until = time.monotonic() + seconds

        def work(number: int) -> None:
            while time.monotonic() < until:
                self._recorder.insert_events([StoredEvent(uuid4(), 1, ActivityRecorded.TOPIC, state)])
                counts[number] += 1

        began = time.monotonic()
        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(counts) / (time.monotonic() - began)


def _fields(event: Event) -> dict[str, Any]:
    fields = msgspec.structs.asdict(event)
    packed = {name: msgspec.json.decode(unpack_json(value)) for name, value in fields.items() if type(value) is bytes}
    return msgspec.to_builtins({**fields, **packed}, builtin_types=(UUID, datetime))  # type: ignore[no-any-return]


def _happened(event: Event) -> Happened:
    place: dict[str, Any] = {"originator_id": uuid4(), "originator_version": 1, "timestamp": event.at}
    return Happened(**place, what=event.TOPIC, fields=_fields(event))


class _Seen(PostgresTrackingRecorder):
    """A table of one row for each event, as simple as a read model can be."""

    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:  # noqa: ANN401 - as the library has it
        super().__init__(datastore, **kwargs)
        self.sql_create_statements.append(
            SQL("CREATE TABLE IF NOT EXISTS {} (originator_id uuid, version bigint, what text)").format(
                Identifier("stock_seen")
            )
        )

    def add(self, event: Happened, tracking: Tracking) -> None:
        """A row and how far it is, in one transaction."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            values = (event.originator_id, event.originator_version, event.what)
            cursor.execute("INSERT INTO stock_seen VALUES (%s, %s, %s)", values)


class StockRunner:
    """The library's own projection runner over a log of its own: an event, a transaction."""

    def __init__(self, database_url: str, log: Iterator[Made], events: int) -> None:
        given = conninfo_to_dict(database_url)
        self._events = events
        self._env = {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": str(given["dbname"]),
            "POSTGRES_HOST": str(given["host"]),
            "POSTGRES_PORT": str(given["port"]),
            "POSTGRES_USER": str(given["user"]),
            "POSTGRES_PASSWORD": "unused",
        }
        self._database_url = database_url
        filled = StockLog(database_url, "stockapp_events")
        filled.fill(islice(log, events))
        filled.close()

    def run(self) -> float:
        """Events a second until all were taken."""
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            for table in ("stock_seen", "seenprojection_tracking"):
                connection.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(table)))
        began = time.perf_counter()
        with ProjectionRunner(
            application_class=_StockApp, projection_class=_SeenProjection, view_class=_Seen, env=self._env
        ) as runner:
            runner.wait(runner.app.recorder.max_notification_id(), timeout=600)
        return self._events / (time.perf_counter() - began)


class _StockApp(Application[UUID]):
    name = "stockapp"


class _SeenProjection(Projection[_Seen]):
    name = "seenprojection"

    def process_event(self, domain_event: Happened, tracking: Tracking) -> None:
        """Of the library."""
        self.view.add(domain_event, tracking)
