"""The log for those who follow it and those who replay it: fenced pages, and COPY scans from a position."""

import logging
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from operator import attrgetter
from typing import Final, LiteralString, TypeVar, cast
from uuid import UUID

from msgspec import Struct
from msgspec.structs import astuple
from psycopg import Connection
from psycopg.sql import SQL, Composable, Composed, Literal

from domain.events import EVENTS
from domain.events.event import Recorded
from domain.measures import UserId
from infra.away import or_unavailable
from infra.event_store.copying import Events, Ids, Lines, events_of, owners_of, rows_of
from infra.event_store.fence import Fence
from infra.event_store.mapper import HEAD, MAPPER, SEALED, UndecodableEvent, is_sealed, place_of
from infra.event_store.rows import Row, partition_of
from infra.keys import KeyUnusable, MasterKeys, PageKeys, UserCipher

_log = logging.getLogger(__name__)

_PAGE: Final = 5_000  # rows of a scan at once

_DECODERS: Final = {topic.encode(): decode for topic, decode in MAPPER.decoders.items()}
PRIVATE: Final = frozenset(MAPPER.topics_of(event for event in EVENTS if event.PRIVATE))  # topics
_ANY: Final = SQL("")

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
        self._owners = Ids()
        self._coming: Lines | None = None

    def page(self, after: int, limit: int, opened: Collection[str] = PRIVATE) -> tuple[Sequence[Recorded], int]:
        """The next decided events after a position, and the position up to which they are all there is.

        What is sealed is opened for topics in `opened`; for others it does not even leave the server.
        Streams with an event that cannot be read are parked: from it on, their events are left out, and it is told.
        The position is never past the last committed event: a value that was drawn and rolled back may be drawn again
        after a crash of the server.
        """
        with or_unavailable():
            decided = self._fence.decided()
        if decided <= after:
            return [], after
        statement = _copy(_unsealed_of(opened), after, decided, limit=limit)
        with or_unavailable():
            parts = list(self._decoded(statement, opened))
        return [event for events, *_ in parts for event in events], parts[-1][2] if parts else after

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
            with or_unavailable():
                stored = self._connection.execute(_PARKED).fetchall()
            self._parked = {parked.stream_id: parked for parked in (Parked(*row) for row in stored)}
        return self._parked

    def _park(self, row: Row, reason: str) -> None:
        reason = reason if reason.startswith("stream ") else f"{place_of(row)}: {reason}"
        _log.error("parked, its later events are held back: %s", reason)
        parked = Parked(row.stream_id, row.owner_id, row.version, row.position, reason)
        with or_unavailable():
            self._connection.execute(_PARK, astuple(parked))
        self.parked()[row.stream_id] = parked

    def decided(self, *, of_all: bool = False) -> int:
        """The position of the last event up to which the log is decided; 0 while it is empty (`Fence.last_event`)."""
        with or_unavailable():
            return self._fence.last_event(of_all=of_all)

    def scan(self, after: int = 0, upto: int | None = None, of: "Selection | None" = None) -> Iterator[Sequence[Row]]:
        """The decided rows of the log in order, in pages, by COPY. `upto`: it is waited for; None: up to now.

        What is appended while it runs comes not in. A page may be empty, so that whoever shows progress hears of it.
        Each page is a command of its own: between two of them the connection is free for others, and no snapshot holds
        vacuum up.
        """
        condition = (of or Selection()).condition()

        def page(after: int, upto: int) -> Generator[Sequence[Row], None, tuple[int, int]]:
            rows = rows_of(self._connection, _copy(_AS_IT_IS, after, upto, condition), self._owners)
            yield rows
            return len(rows), rows[-1].position if rows else upto

        return self._windows(after, upto, page)

    def replay(
        self, after: int, upto: int, of: "Selection | AnyOf", opened: Collection[str]
    ) -> Generator[tuple[Sequence[Recorded], int, int]]:
        """The same as events, some at once: what they are, how many rows that were, and the position of the last.

        What is sealed is opened for these topics. For others it does not even leave the server, which halves the time.
        They are given while the server still sends: until they all were, or this is closed, the connection is not free.
        """
        state, condition = _unsealed_of(opened), of.condition()

        def page(after: int, upto: int) -> Generator[tuple[Sequence[Recorded], int, int], None, tuple[int, int]]:
            total, position = 0, upto
            for events, count, position in self._decoded(_copy(state, after, upto, condition), opened):
                yield events, count, position
                total += count
            if not total:
                yield [], 0, upto
            return total, position

        return self._windows(after, upto, page)

    def take_in(self) -> None:
        """Receive the rest of the page that a replay is in, for who means to rest: the server is done with it then, and
        no snapshot holds vacuum up.
        """
        if self._coming is not None:
            self._coming.rest()

    def _decoded(self, statement: Composed, opened: Collection[str]) -> Iterator[tuple[Sequence[Recorded], int, int]]:
        """What the statement copies, some at once. Should anything be asked meanwhile, all lines are taken in first."""
        topics = frozenset(topic.encode() for topic in opened)
        self.parked()
        with closing(Lines(self._connection, statement)) as lines:
            self._coming = lines
            ciphers = self._keys.of_page(lambda: owners_of(lines.rest(), topics)) if topics else {}
            for some in lines:
                found = events_of(some, self._owners, _DECODERS, topics, ciphers)
                if found.left:
                    lines.rest()
                yield self._whole(found, opened), len(some), found.last

    def _whole(self, found: Events, opened: Collection[str]) -> Sequence[Recorded]:
        """With the events of the rows that were left, and without those of parked streams."""
        events = found.events
        if found.left:
            events = sorted([*events, *self.events(found.left, opened=opened)], key=attrgetter("position"))
        parked = self.parked()
        if not parked:
            return events
        return [one for one in events if one.stream_id not in parked or one.position < parked[one.stream_id].position]

    def _windows(
        self, after: int, upto: int | None, page: Callable[[int, int], Generator[T, None, tuple[int, int]]]
    ) -> Generator[T]:
        """By windows of positions, which grow while few of their rows are wanted. Of a page: how many, and the last.

        A LIMIT alone would not do: for each page the server would sort all that is left, or read past what others own.
        """
        with or_unavailable():
            last = self.decided() if upto is None else min(upto, self._fence.decided(upto))
        window = _PAGE
        while after < last:
            end = min(last, after + window)
            with or_unavailable():
                count, ended = yield from page(after, end)
            if count == _PAGE:  # there may be more in this window
                after, window = ended, max(_PAGE, window // 2)
            else:
                after, window = end, window * 2 if count < _PAGE // 2 else window


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
        wanted = {"owner_id": self.owners, "topic": self.topics}
        return SQL("").join(
            [
                *_ranges(sorted(partitions) if partitions is not None else None),
                *(
                    SQL(" AND {} = ANY({}::{})").format(SQL(column), Literal(sorted(values)), SQL(_ARRAYS[column]))
                    for column, values in wanted.items()
                    if values is not None
                ),
            ]
        )


class AnyOf(Struct, frozen=True):
    """Of the log, what is in one of these."""

    selections: Sequence[Selection]

    def condition(self) -> Composable:
        """As `Selection.condition`."""
        found = [SQL("(true{})").format(selection.condition()) for selection in self.selections]
        return SQL(" AND ({})").format(SQL(" OR ").join(found))


def _ranges(partitions: Sequence[int] | None) -> Iterator[Composable]:
    """Neighbours as a range, which is compared faster than a list is searched."""
    if partitions is None:
        return
    if partitions and partitions[-1] - partitions[0] == len(partitions) - 1:
        bounds = (Literal(partitions[0]), Literal(partitions[-1]))
        yield SQL(" AND partition_id BETWEEN {}::smallint AND {}::smallint").format(*bounds)
        return
    yield SQL(" AND partition_id = ANY({}::smallint[])").format(Literal(list(partitions)))


_ARRAYS: Final[Mapping[str, LiteralString]] = {"owner_id": "uuid[]", "topic": "text[]"}


def _unsealed_of(opened: Collection[str]) -> Composable:
    if PRIVATE.issubset(opened):
        return _AS_IT_IS
    return _CUT.format(opened=Literal(sorted(opened)), sealed=Literal(SEALED), head=Literal(HEAD))


def _copy(state: Composable, after: int, last: int, condition: Composable = _ANY, limit: int = _PAGE) -> Composed:
    """COPY takes no parameters: they are written as literals."""
    return _COPY.format(
        state=state, after=Literal(after), last=Literal(last), condition=condition, limit=Literal(limit)
    )


_COPY: Final = SQL("""
    COPY (
        SELECT notification_id, originator_id, originator_version, topic, {state}, owner_id FROM stored_events
        WHERE notification_id > {after} AND notification_id <= {last}{condition}
        ORDER BY notification_id LIMIT {limit}
    ) TO STDOUT (FORMAT BINARY)
""")
_AS_IT_IS: Final = SQL("state")
# The map of the public fields alone, as `Mapper` has it.
_CUT: Final = SQL("""
    CASE WHEN octet_length(state) > {head} AND get_byte(state, 0) = {sealed} AND topic <> ALL({opened}::text[])
    THEN substr(
        state, {head} + 1, get_byte(state, 1) * 65536 + get_byte(state, 2) * 256 + get_byte(state, 3)
    ) ELSE state END
""")
# Without those of accounts that are gone, which nobody misses: but for the stream that has yet to take their rows away.
PARKED_AND_MISSED: Final[LiteralString] = """
    parked_streams p WHERE NOT EXISTS (
        SELECT FROM user_keys k WHERE k.owner_id = p.owner_id AND k.destroyed_at IS NOT NULL
    ) OR EXISTS (
        SELECT FROM stored_events e WHERE e.originator_id = p.stream_id AND starts_with(e.topic, 'user.erased@')
    )
"""
_PARKED: Final = "SELECT stream_id, owner_id, version, position, reason FROM parked_streams"
_PARK: Final = """
    INSERT INTO parked_streams (stream_id, owner_id, version, position, reason) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (stream_id) DO NOTHING
"""
