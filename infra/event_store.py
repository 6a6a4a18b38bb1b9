"""The event store: the `eventsourcing` library's Postgres recorder behind the async write port."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    InterfaceError,
    OperationalError,
    StoredEvent,
)
from eventsourcing.popo import POPOApplicationRecorder
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict

from domain.errors import StoreUnavailable
from domain.events.event import Event, Recorded
from domain.measures import UserId
from domain.streams import Aggregate, Decision, StreamContended
from infra.mapper import decode, encode
from infra.positions import to_token

EVENTS_TABLE: Final = "stored_events"
PARTITIONS: Final = 256  # a fixed hash of the owner: the key for sharded projectors, and for a distributed Postgres
_ATTEMPTS: Final = 8  # of one decision against others on the same stream
_LOST: Final = (OperationalError, InterfaceError)  # the connection, or the wait for one

A = TypeVar("A", bound=Aggregate)
T = TypeVar("T")


@dataclass(frozen=True)
class OwnedEvent(StoredEvent):
    """The library's stored event with the user that its stream belongs to."""

    owner_id: UUID

    @property
    def partition_id(self) -> int:
        """Stable over processes and releases: the last byte of a UUID is as good as a hash of it."""
        return self.owner_id.bytes[-1] % PARTITIONS


class _Datastore(PostgresDatastore):
    """The library's pool, without its look at composite types, which we do not use: a process must be able to start
    while Postgres is down.
    """

    def register_type_adapters(self) -> None:
        """Nothing to register, so nothing to connect for."""


class PostgresRecorder(PostgresApplicationRecorder):
    """The library's recorder over our columns. Appends hold its table lock, so that readers skip no position.

    Unlike the library it never repeats an append by itself (a connection lost in COMMIT may have committed: the
    caller reads again), and it sends no NOTIFY, which serialises commits.
    """

    def insert_events(self, stored_events: Sequence[StoredEvent], **_kwargs: Any) -> Sequence[int] | None:  # noqa: ANN401 - the library's signature
        """Append all or nothing; their positions. `IntegrityError` when a version is taken."""
        events = [event for event in stored_events if isinstance(event, OwnedEvent)]
        with self.datastore.get_connection() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.execute(_LOCK)
            cursor.execute(
                _INSERT,
                (
                    [event.originator_id for event in events],
                    [event.originator_version for event in events],
                    [event.topic for event in events],
                    [event.state for event in events],
                    [event.owner_id for event in events],
                    [event.partition_id for event in events],
                ),
            )
            return [row["notification_id"] for row in cursor]

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """One stream in the order of its versions, without the library's ten tries of two seconds."""
        unlimited = 2**63 - 1
        statement = _SELECT_DESCENDING if desc else _SELECT
        with self.datastore.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute(
                statement,
                (originator_id, gt or 0, unlimited if lte is None else lte, unlimited if limit is None else limit),
            )
            return [StoredEvent(**row) for row in cursor]

    def max_notification_id(self) -> int | None:
        """The last position of the log; None while it is empty."""
        with self.datastore.get_connection() as connection, connection.cursor() as cursor:
            row = cursor.execute("SELECT max(notification_id) AS last FROM stored_events").fetchone()
            return row["last"] if row else None

    def read(self, after: int, limit: int) -> list[Recorded]:
        """The next events of the whole log after a position, in order. `StoreUnavailable`, `UndecodableEvent`."""
        try:
            return self._read(after, limit)
        except _LOST as error:
            raise StoreUnavailable from error

    def _read(self, after: int, limit: int) -> list[Recorded]:
        with self.datastore.get_connection() as connection, connection.cursor(binary=True) as cursor:
            cursor.execute(_READ, (after, limit))
            return [
                Recorded(
                    event=decode(row["topic"], row["state"]),
                    stream_id=row["originator_id"],
                    version=row["originator_version"],
                    position=row["notification_id"],
                    owner_id=UserId(row["owner_id"]),
                )
                for row in cursor
            ]


_LOCK: Final = "LOCK TABLE stored_events IN EXCLUSIVE MODE"
_INSERT: Final = """
    INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
    SELECT * FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::bytea[], %s::uuid[], %s::smallint[])
    RETURNING notification_id
"""
_SELECT: Final = """
    SELECT originator_id, originator_version, topic, state FROM stored_events
    WHERE originator_id = %s AND originator_version > %s AND originator_version <= %s
    ORDER BY originator_version LIMIT %s
"""
_SELECT_DESCENDING: Final = """
    SELECT originator_id, originator_version, topic, state FROM stored_events
    WHERE originator_id = %s AND originator_version > %s AND originator_version <= %s
    ORDER BY originator_version DESC LIMIT %s
"""
_READ: Final = """
    SELECT notification_id, originator_id, originator_version, topic, state, owner_id FROM stored_events
    WHERE notification_id > %s ORDER BY notification_id LIMIT %s
"""


def postgres_recorder(database_url: str, *, connections: int) -> PostgresRecorder:
    """A recorder with a pool of its own, opened at first use. The tables are made by `cairn migrate`."""
    given = {name: str(value) for name, value in conninfo_to_dict(database_url).items() if value is not None}
    datastore = _Datastore(
        dbname=given.pop("dbname", "postgres"),
        host=given.pop("host", "localhost"),
        port=given.pop("port", "5432"),
        user=given.pop("user", "postgres"),
        password=given.pop("password", ""),
        pool_size=1,
        max_overflow=connections - 1,
        connect_timeout=2.0,  # a request should hear "unavailable" rather than wait longer
        idle_in_transaction_session_timeout=30,
        pre_ping=True,
    )
    datastore.pool.reconnect_timeout = 3.0  # then the next request connects: longer pauses would outlast the outage
    if isinstance(datastore.pool.kwargs, dict):
        datastore.pool.kwargs.update(given, connect_timeout=5)  # what the library has no argument for: sslmode, ...
    return PostgresRecorder(datastore, events_table_name=EVENTS_TABLE)


def memory_recorder() -> ApplicationRecorder:
    """A store for tests of rules and of HTTP: fast, and gone with the process."""
    return POPOApplicationRecorder()


class EventStore:
    """The write port over a recorder, whose blocking calls run in a bounded pool of threads."""

    def __init__(
        self, recorder: ApplicationRecorder, *, threads: int = 8, appended: Callable[[], None] = lambda: None
    ) -> None:
        self._recorder = recorder
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="event-store")
        self._places = asyncio.Semaphore(threads * 32)  # beyond this, waiting longer helps nobody
        self._appended = appended

    async def load(self, aggregate: type[A], stream_id: UUID) -> A:
        """The state now; the empty state when the stream has no events."""
        state, _ = await self._run(partial(self._load, aggregate, stream_id))
        return state

    async def transact(self, aggregate: type[A], stream_id: UUID, owner_id: UserId, decide: Decision[A]) -> str:
        """See `domain.streams.Streams.transact`."""
        for attempt in range(_ATTEMPTS):
            try:
                position = await self._run(partial(self._attempt, aggregate, stream_id, owner_id, decide))
            except IntegrityError:
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter, not a secret
            else:
                self._appended()
                return to_token(position)
        raise StreamContended

    def _attempt(self, aggregate: type[A], stream_id: UUID, owner_id: UserId, decide: Decision[A]) -> int:
        state, version = self._load(aggregate, stream_id)
        events = decide(state)
        if not events:
            return self._recorder.max_notification_id() or 0  # covers whatever made this decide nothing
        positions = self._recorder.insert_events(
            [_stored(event, stream_id, version + 1 + i, owner_id) for i, event in enumerate(events)]
        )
        return positions[-1] if positions else 0

    def _load(self, aggregate: type[A], stream_id: UUID) -> tuple[A, int]:
        state, version = aggregate(), 0
        for stored in self._recorder.select_events(stream_id):
            state, version = state.evolve(decode(stored.topic, stored.state)), stored.originator_version
        return state, version

    async def _run(self, work: Callable[[], T]) -> T:
        if self._places.locked():
            raise StoreUnavailable
        async with self._places:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, partial(_again_once, work))
            except _LOST as error:
                raise StoreUnavailable from error

    def close(self) -> None:
        """Finish what runs, and let go of the connections."""
        self._threads.shutdown()
        if isinstance(self._recorder, PostgresRecorder):
            self._recorder.datastore.close()


def _again_once(work: Callable[[], T]) -> T:
    """A pooled connection may have died since its last use. Safe to repeat: the work begins by reading."""
    with contextlib.suppress(*_LOST):
        return work()
    return work()


def _stored(event: Event, stream_id: UUID, version: int, owner_id: UserId) -> OwnedEvent:
    topic, state = encode(event)
    return OwnedEvent(originator_id=stream_id, originator_version=version, topic=topic, state=state, owner_id=owner_id)
