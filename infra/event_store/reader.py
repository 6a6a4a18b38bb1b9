"""The log for those who follow it and those who replay it: fenced pages, and COPY scans from a position."""

import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar
from uuid import UUID, SafeUUID

import psycopg
from msgspec import Struct
from psycopg import Connection
from psycopg.sql import SQL, Composed, Literal

from domain.errors import StoreUnavailable
from domain.events.event import Recorded
from domain.measures import UserId
from infra.event_store.fence import Fence
from infra.event_store.mapper import MAPPER, UndecodableEvent, is_sealed, place_of
from infra.event_store.rows import Row
from infra.keys import KeyUnusable, MasterKeys, PageKeys

_log = logging.getLogger(__name__)

_PAGE: Final = 5_000  # rows of a scan at once

T = TypeVar("T")


class Parked(Struct, frozen=True):
    """A stream whose events followers hold back, from this version and position on."""

    stream_id: UUID
    owner_id: UUID
    version: int
    position: int
    reason: str


class LogReader:
    """One connection to the primary, in autocommit. After `StoreUnavailable` it and the reader must be made anew."""

    def __init__(self, connection: Connection, master: MasterKeys) -> None:
        self._connection = connection
        self._fence = Fence(connection)
        self._keys = PageKeys(connection, master)
        self._parked: dict[UUID, Parked] | None = None

    def page(self, after: int, limit: int) -> tuple[Sequence[Recorded], int]:
        """The next decided events after a position, opened, and the position up to which they are all there is.

        Streams with an event that cannot be read are parked: from it on, their events are left out, and it is told.
        The position is never past the last committed event: a value that was drawn and rolled back may be drawn again
        after a crash of the server.
        """
        rows = self._asked(lambda: self._rows(after, limit))
        return self.events(rows), rows[-1].position if rows else after

    def events(self, rows: Sequence[Row], *, private: bool = True) -> Sequence[Recorded]:
        """What the rows hold, without those of parked streams. `private=False` leaves what is sealed redacted."""
        parked = self.parked()
        sealed = {row.owner_id for row in rows if is_sealed(row.state)} if private else ()
        keys = self._keys.of(sealed) if sealed else {}
        found = []
        for row in rows:
            if row.stream_id in parked and row.position >= parked[row.stream_id].position:
                continue
            try:
                key = keys.get(row.owner_id) if is_sealed(row.state) else None
                if isinstance(key, KeyUnusable):
                    raise key
                event = MAPPER.event(row, key)
            except (UndecodableEvent, KeyUnusable) as fault:
                self._park(row, str(fault))
                continue
            found.append(Recorded(event, row.stream_id, row.version, row.position, UserId(row.owner_id)))
        return found

    def parked(self) -> dict[UUID, Parked]:
        """The streams that are parked, by their ids."""
        if self._parked is None:
            stored = self._asked(lambda: self._connection.execute(_PARKED).fetchall())
            self._parked = {parked.stream_id: parked for parked in (Parked(*row) for row in stored)}
        return self._parked

    def _park(self, row: Row, reason: str) -> None:
        reason = reason if reason.startswith("stream ") else f"{place_of(row)}: {reason}"
        _log.error("parked, its later events are held back: %s", reason)
        parked = Parked(row.stream_id, row.owner_id, row.version, row.position, reason)
        self._asked(lambda: self._connection.execute(_PARK, (*_fields(parked),)))
        self.parked()[row.stream_id] = parked

    def decided(self) -> int:
        """The position of the last event up to which the log is decided; 0 while it is empty."""
        return self._asked(lambda: self._number(_LAST_BEFORE, (self._fence.decided(),)))

    def scan(self, after: int = 0, upto: int | None = None, owner_id: UUID | None = None) -> Iterator[Sequence[Row]]:
        """The decided rows of the log in order, in pages, by one COPY: for replays. `upto` None: up to now.

        What is appended while it runs comes not in. Of one owner, when one is given.
        """
        last = self.decided() if upto is None else min(upto, self.decided())
        try:
            yield from _pages(self._connection, _copy(after, last, owner_id))
        except psycopg.OperationalError as error:
            raise StoreUnavailable from error

    def _rows(self, after: int, limit: int) -> Sequence[Row]:
        decided = self._fence.decided()
        if decided <= after:
            return []
        with self._connection.cursor(binary=True) as cursor:
            return [Row(*row) for row in cursor.execute(_NEXT, (after, decided, limit), prepare=True)]

    def _number(self, statement: str, values: Sequence[object]) -> int:
        row = self._connection.execute(statement, values, prepare=True).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def _asked(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except psycopg.OperationalError as error:
            raise StoreUnavailable from error


def _fields(parked: Parked) -> tuple[object, ...]:
    return parked.stream_id, parked.owner_id, parked.version, parked.position, parked.reason


def _copy(after: int, last: int, owner_id: UUID | None) -> Composed:
    """COPY takes no parameters: they are written as literals."""
    owned = SQL("") if owner_id is None else SQL("AND owner_id = {}").format(Literal(owner_id))
    return _COPY.format(after=Literal(after), last=Literal(last), owned=owned)


_HEADER_BYTES: Final = 19  # PostgreSQL documentation, COPY, "Binary Format": signature, flags, length of extensions
_FIXED: Final = struct.Struct("!h iq i16s iq i16s i")  # fields; each with its length; last the length of the topic
_LENGTH: Final = struct.Struct("!i")


def _pages(connection: Connection, statement: Composed) -> Iterator[Sequence[Row]]:
    rows: list[Row] = []
    owners: dict[bytes, UUID] = {}
    topics: dict[bytes, str] = {}
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        offset = _HEADER_BYTES  # the first row comes behind the header
        for data in copy:
            if len(data) - offset < _FIXED.size:
                continue  # the trailer; read on, to the end of the command
            _, _, position, _, stream, _, version, _, owner, length = _FIXED.unpack_from(data, offset)
            begin = offset + _FIXED.size
            end = begin + length
            name = bytes(data[begin:end])
            if name not in topics:
                topics[name] = name.decode()
            if owner not in owners:
                owners[owner] = UUID(bytes=owner)
            rows.append(
                Row(position, _uuid(stream), version, topics[name], bytes(data[end + _LENGTH.size :]), owners[owner])
            )
            offset = 0
            if len(rows) == _PAGE:
                yield rows
                rows = []
    if rows:
        yield rows


def _uuid(value: bytes, new: Callable[[type[UUID]], UUID] = object.__new__) -> UUID:
    """A UUID without the checks of its constructor, which take longer than the rest of the row."""
    made = new(UUID)
    object.__setattr__(made, "int", int.from_bytes(value))
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


_COPY: Final = SQL("""
    COPY (
        SELECT notification_id, originator_id, originator_version, owner_id, topic, state FROM stored_events
        WHERE notification_id > {after} AND notification_id <= {last} {owned} ORDER BY notification_id
    ) TO STDOUT (FORMAT BINARY)
""")
_NEXT: Final = """
    SELECT notification_id, originator_id, originator_version, topic, state, owner_id FROM stored_events
    WHERE notification_id > %s AND notification_id <= %s ORDER BY notification_id LIMIT %s
"""
_LAST_BEFORE: Final = "SELECT max(notification_id) FROM stored_events WHERE notification_id <= %s"
_PARKED: Final = "SELECT stream_id, owner_id, version, position, reason FROM parked_streams"
_PARK: Final = """
    INSERT INTO parked_streams (stream_id, owner_id, version, position, reason) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (stream_id) DO NOTHING
"""
