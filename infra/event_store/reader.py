"""The log for those who follow it and those who replay it: fenced pages, and COPY scans from a position."""

import logging
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, LiteralString, TypeVar, cast
from uuid import UUID, SafeUUID

import psycopg
from msgspec import Struct
from msgspec.structs import astuple
from psycopg import Connection
from psycopg.sql import SQL, Composable, Composed, Literal

from domain.errors import StoreUnavailable
from domain.events.event import Recorded
from domain.measures import UserId
from infra.event_store.fence import Fence
from infra.event_store.mapper import MAPPER, UndecodableEvent, is_sealed, place_of
from infra.event_store.rows import Row, partition_of
from infra.keys import KeyUnusable, MasterKeys, PageKeys, UserCipher

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

    def events(self, rows: Sequence[Row], *, opened: Collection[str] | None = None) -> Sequence[Recorded]:
        """What the rows hold, without those of parked streams. What is sealed is opened for these topics; None: all."""
        parked = self.parked()
        keys = self._keys.of({row.owner_id for row in rows if opened is None or row.topic in opened})
        found = []
        for row in rows:
            if parked and row.stream_id in parked and row.position >= parked[row.stream_id].position:
                continue
            try:
                if opened is None or row.topic in opened:
                    event = MAPPER.event(row, _usable(keys.get(row.owner_id), row))
                else:
                    event = MAPPER.decode(row.topic, row.state)
            except (UndecodableEvent, KeyUnusable) as fault:
                self._park(row, str(fault))
                continue
            found.append(Recorded(event, row.stream_id, row.version, row.position, cast("UserId", row.owner_id)))
        return found

    def look_again(self) -> None:
        """Take nothing for granted of what was parked: an operator may have healed it."""
        self._parked = None

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
        self._asked(lambda: self._connection.execute(_PARK, astuple(parked)))
        self.parked()[row.stream_id] = parked

    def decided(self) -> int:
        """The position of the last event up to which the log is decided; 0 while it is empty."""
        return self._asked(self._fence.last_event)

    def scan(self, after: int = 0, upto: int | None = None, of: "Selection | None" = None) -> Iterator[Sequence[Row]]:
        """The decided rows of the log in order, in pages, by COPY: for replays. `upto` None: up to now.

        What is appended while it runs comes not in. With a selection, only what it takes; a page may then be empty, so
        that whoever shows progress hears of it. Each page is a command of its own: between two of them the connection
        is free for others, and no snapshot holds vacuum up.
        """
        last = self.decided() if upto is None else min(upto, self.decided())
        if of is None:
            return self._pages(after, last)
        return self._selected(after, last, of)

    def _pages(self, after: int, last: int) -> Iterator[Sequence[Row]]:
        owners = _Ids()
        while rows := self._asked(partial(_copied, self._connection, _copy(after, last, SQL("")), owners)):
            yield rows
            if len(rows) < _PAGE:
                return
            after = rows[-1].position

    def _selected(self, after: int, last: int, of: "Selection") -> Iterator[Sequence[Row]]:
        """By windows of positions, which grow while few of their rows are wanted.

        A LIMIT would not do: for each page the server would sort all that is left, or read past what others own.
        """
        window, condition, owners = _PAGE, of.condition(), _Ids()
        while after < last:
            upto = min(last, after + window)
            rows = self._asked(partial(_copied, self._connection, _copy(after, upto, condition), owners))
            yield rows
            if len(rows) == _PAGE:  # there may be more in this window
                after, window = rows[-1].position, max(_PAGE, window // 2)
            else:
                after, window = upto, window * 2 if len(rows) < _PAGE // 2 else window

    def _rows(self, after: int, limit: int) -> Sequence[Row]:
        decided = self._fence.decided()
        if decided <= after:
            return []
        with self._connection.cursor(binary=True) as cursor:
            return [Row(*row) for row in cursor.execute(_NEXT, (after, decided, limit), prepare=True)]

    def _asked(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except psycopg.OperationalError as error:
            raise StoreUnavailable from error


def _usable(key: UserCipher | KeyUnusable | None, row: Row) -> UserCipher | None:
    """The key, unless it is missing or damaged and the row needs it."""
    if not isinstance(key, KeyUnusable):
        return key
    if is_sealed(row.state):
        raise key
    return None


class Selection(Struct, frozen=True):
    """Of the log, what is of these partitions and owners and has one of these topics; None: any."""

    partitions: Collection[int] | None = None
    owners: Collection[UUID] | None = None
    topics: Collection[str] | None = None

    def condition(self) -> Composable:
        """What to add to a WHERE."""
        partitions = self.partitions
        if self.owners is not None:  # the index is by partition
            partitions = {partition_of(owner) for owner in self.owners}
        wanted = {"partition_id": partitions, "owner_id": self.owners, "topic": self.topics}
        return SQL("").join(
            SQL(" AND {} = ANY({}::{})").format(SQL(column), Literal(sorted(values)), SQL(_ARRAYS[column]))
            for column, values in wanted.items()
            if values is not None
        )


_ARRAYS: Final[Mapping[str, LiteralString]] = {"partition_id": "smallint[]", "owner_id": "uuid[]", "topic": "text[]"}


def _copy(after: int, last: int, condition: Composable) -> Composed:
    """COPY takes no parameters: they are written as literals."""
    return _COPY.format(after=Literal(after), last=Literal(last), condition=condition, limit=Literal(_PAGE))


def _copied(connection: Connection, statement: Composed, owners: "_Ids") -> Sequence[Row]:
    """A page. Lines are taken apart here: psycopg's general way takes longer than the server needs to send them."""
    head, topics, rows = _HEAD, _Topics(), list[Row]()
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        received = connection.pgconn.get_copy_data
        while True:
            size, data = received(1)
            if size < 0:
                ended = connection.pgconn.get_result()
                raise psycopg.OperationalError(ended.get_error_message() if ended else "the server ended the copy")
            line = bytes(data) if size else bytes(copy.read())  # which waits for more
            if len(line) < head.size:  # the end mark
                copy.read()
                break
            if line.startswith(_SIGNATURE):
                line = line[_FILE_HEAD:]
            _, _, position, _, stream, _, version, size = head.unpack_from(line)
            begin = head.size + size
            topic, owner = topics[line[head.size : begin]], owners[line[-16:]]
            rows.append(Row(position, _id(stream), version, topic, line[begin + 4 : -20], owner))
    return rows


# A line of a binary COPY (PostgreSQL manual, COPY, "Binary Format"): the number of fields, then each with its length.
# This is up to the length of the topic; behind it come the topic, the state with its length, and the owner with its.
_HEAD: Final = struct.Struct("!hiqi16siqi")
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_FILE_HEAD: Final = 19
_OWNERS: Final = 100_000  # whose ids a scan keeps


def _id(data: bytes) -> UUID:
    """What `UUID(bytes=data)` gives, in half the time."""
    made = object.__new__(UUID)
    object.__setattr__(made, "int", int.from_bytes(data))
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


class _Ids(dict[bytes, UUID]):
    """Ids by their bytes, each made when it is first asked for: owners come again and again."""

    def __missing__(self, data: bytes) -> UUID:
        if len(self) >= _OWNERS:
            self.clear()
        made = self[data] = _id(data)
        return made


class _Topics(dict[bytes, str]):
    """Topics by their bytes."""

    def __missing__(self, data: bytes) -> str:
        made = self[data] = data.decode()
        return made


_COPY: Final = SQL("""
    COPY (
        SELECT notification_id, originator_id, originator_version, topic, state, owner_id FROM stored_events
        WHERE notification_id > {after} AND notification_id <= {last}{condition}
        ORDER BY notification_id LIMIT {limit}
    ) TO STDOUT (FORMAT BINARY)
""")
_NEXT: Final = """
    SELECT notification_id, originator_id, originator_version, topic, state, owner_id FROM stored_events
    WHERE notification_id > %s AND notification_id <= %s ORDER BY notification_id LIMIT %s
"""
_PARKED: Final = "SELECT stream_id, owner_id, version, position, reason FROM parked_streams"
_PARK: Final = """
    INSERT INTO parked_streams (stream_id, owner_id, version, position, reason) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (stream_id) DO NOTHING
"""
