"""The log as operators look at it: nothing is parked by looking, and what does not decode is shown, not left out."""

import sys
from collections.abc import Iterator, Sequence
from typing import Final, LiteralString
from uuid import UUID

from cryptography.exceptions import InvalidTag
from msgspec import Struct
from psycopg import Connection
from psycopg.rows import class_row

from domain.events.event import Event
from infra.event_store.belonging import strayed
from infra.event_store.mapper import MAPPER, UndecodableEvent, associated, is_sealed
from infra.event_store.reader import PARKED_AND_MISSED
from infra.event_store.rows import Row
from infra.keys import KeyUnusable, MasterKeys, PageKeys, UserCipher


class Seen(Struct, frozen=True):
    """A row, and its event or why there is none. `erased`: what was sealed has no key any more."""

    row: Row
    event: Event | None = None
    problem: str = ""
    erased: bool = False


class HeldBack(Struct, frozen=True):
    """A stream that followers parked, from this version and position on."""

    stream_id: UUID
    version: int
    position: int
    reason: str


class Figures(Struct, frozen=True):
    """How much there is, now. Streams are counted by their first events; what is not decided yet is counted too."""

    events: int
    streams: int
    owners: int
    table_bytes: int
    index_bytes: int
    last_position: int
    writing: int  # transactions under way that hold followers up, and the age of the oldest
    oldest_writing_seconds: float
    keys_live: int
    keys_destroyed: int
    kept_replies: int
    snapshots: int


class Finding(Struct, frozen=True):
    """What is wrong with an event. A position is told where the stream alone does not say it.

    None, None: it is no event, but a kept reply.
    """

    stream_id: UUID | None
    version: int | None
    problem: str


class Inspection:
    """One connection, in autocommit, from which nothing is written."""

    def __init__(self, connection: Connection, master: MasterKeys) -> None:
        self._connection = connection
        self._keys = PageKeys(connection, master)

    def last_position(self) -> int:
        """The position of the last event, decided or not; 0 while the log is empty."""
        row = self._connection.execute(_LAST).fetchone()
        return int(row[0]) if row else 0

    def past_sequence(self) -> int:
        """The last position when it is past all that were drawn, as in a dump that was restored without its sequence;
        else 0: such rows are never decided.
        """
        last = self.last_position()  # before: what is appended meanwhile is drawn then
        row = self._connection.execute(_DRAWN).fetchone()
        return last if row is None or last > int(row[0]) else 0

    def before_last(self, count: int, upto: int) -> int:
        """The position after which this many events come, up to another; 0 when there are no more than that."""
        row = self._connection.execute(_BEFORE_LAST, (upto, count)).fetchone()
        return int(row[0]) if row else 0

    def after(self, position: int, upto: int, limit: int) -> Sequence[Row]:
        """The next rows of the log."""
        with self._connection.cursor(binary=True) as cursor:
            return [Row(*row) for row in cursor.execute(_AFTER, (position, upto, limit), prepare=True)]

    def stream(self, stream_id: UUID) -> Iterator[Row]:
        """The rows of one stream by version, in pages of a thousand."""
        version = 0
        while rows := self._stream_after(stream_id, version):
            yield from rows
            version = rows[-1].version

    def _stream_after(self, stream_id: UUID, version: int) -> Sequence[Row]:
        with self._connection.cursor(binary=True) as cursor:
            return [Row(*row) for row in cursor.execute(_STREAM, (stream_id, version), prepare=True)]

    def at(self, position: int) -> Sequence[Row]:
        """The row at a position; none when there is no event."""
        return self.after(position - 1, position, 1)

    def seen(self, rows: Sequence[Row]) -> Iterator[Seen]:
        """What the rows hold, each opened, so that what does not open is seen."""
        owners = {row.owner_id for row in rows if is_sealed(row.state)}
        keys = self._keys.of(owners) if owners else {}
        for row in rows:
            sealed = is_sealed(row.state)
            key = keys[row.owner_id] if sealed else None
            if isinstance(key, KeyUnusable):
                yield Seen(row, problem=str(key))
                continue
            try:
                place = associated(row.owner_id, row.stream_id, row.version)
                yield Seen(row, MAPPER.open(row.topic, row.state, key, place), erased=sealed and key is None)
            except UndecodableEvent as fault:
                yield Seen(row, problem=str(fault))

    def has_checksums(self) -> bool:
        """Whether Postgres would notice that a disk changed its pages."""
        return self._connection.execute("SHOW data_checksums").fetchone() != ("off",)

    def figures(self) -> Figures:
        """Reads the whole table once."""
        with self._connection.cursor(row_factory=class_row(Figures)) as cursor:
            return cursor.execute(_FIGURES).fetchone() or Figures(*[0] * len(Figures.__struct_fields__))

    def topics(self) -> dict[str, int]:
        """The number of events by topic, by name. Reads the whole table once."""
        return dict(self._connection.execute(_TOPICS).fetchall())

    def parked(self) -> Sequence[HeldBack]:
        """The streams of accounts that are there which followers hold back, in the order in which they stopped."""
        return [HeldBack(*row) for row in self._connection.execute(_PARKED)]

    def misplaced(self) -> Iterator[Finding]:
        """What is wrong with rows beside what they hold: their partition, a place past the sequence; and snapshots."""
        for statement in (_OTHER_PARTITION, _PAST_SEQUENCE, _SNAPSHOT_WITHOUT_EVENT):
            with self._connection.cursor() as cursor:
                for row in cursor.stream(statement):
                    yield Finding(*row)

    def unopened_replies(self) -> Iterator[Finding]:
        """Kept replies that do not open, but for those whose key is destroyed."""
        last = b""
        while replies := self._replies_after(last):
            keys = self._keys.of({owner_id for _, owner_id, _ in replies})
            for key_hash, owner_id, sealed in replies:
                if problem := _unopened(keys[owner_id], sealed, key_hash):
                    what = f"the reply kept for user {owner_id} under {key_hash.hex()} does not open: {problem}"
                    yield Finding(None, None, what)
            last = replies[-1][0]

    def _replies_after(self, key_hash: bytes) -> Sequence[tuple[bytes, UUID, bytes]]:
        with self._connection.cursor(binary=True) as cursor:
            return cursor.execute(_REPLIES, (key_hash,), prepare=True).fetchall()


def _unopened(key: UserCipher | KeyUnusable | None, sealed: bytes, key_hash: bytes) -> str:
    if isinstance(key, KeyUnusable):
        return str(key)
    try:
        if key is not None:
            key.open(sealed, key_hash)
    except InvalidTag:
        return "its bytes were changed"
    return ""


class Verification:
    """Checks rows in the order of the log. Of each stream it keeps the last version, the owner and of what kind it is:
    about 250 bytes.
    """

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._streams: dict[int, tuple[int, UUID, str]] = {}
        self._position = 0
        self.events = 0

    @property
    def streams(self) -> int:
        """How many were seen."""
        return len(self._streams)

    def check(self, rows: Sequence[Row]) -> Iterator[Finding]:
        """What is wrong with the next rows."""
        for seen in self._inspection.seen(rows):
            row = seen.row
            for problem in (seen.problem, *_belied(seen), *self._misplaced(row)):
                if problem:
                    yield Finding(row.stream_id, row.version, problem)
            self.events += 1

    def _misplaced(self, row: Row) -> Iterator[str]:
        of = sys.intern(row.topic.partition(".")[0])
        last, owner_id, kind = self._streams.get(row.stream_id.int, (0, row.owner_id, of))
        if row.version > last + 1:
            missing = (
                f"version {last + 1} is" if row.version == last + 2 else f"versions {last + 1} to {row.version - 1} are"
            )
            yield f"{missing} missing before it"
        elif row.version <= last:
            yield f"it stands behind version {last} in the log (position {row.position})"
        if row.owner_id != owner_id:
            yield f"its owner is {row.owner_id}, that of the stream's first event {owner_id}"
        if of != kind:
            yield f"its topic is {row.topic}, in a stream that begins with {kind}"
        if row.position <= self._position:
            yield f"its position {row.position} does not come after {self._position}, that of the row before"
        self._position = row.position
        self._streams[row.stream_id.int] = (max(last, row.version), owner_id, kind)


def _belied(seen: Seen) -> Iterator[str]:
    """What of the row an event that decodes does not bear out; empty where nothing is wrong."""
    if seen.event is not None:
        yield MAPPER.misfit(seen.row.topic, seen.row.state)
        yield from strayed(seen.event, seen.row)


_DRAWN: Final = "SELECT coalesce(pg_sequence_last_value('stored_events_notification_id_seq'), 0)"
_LAST: Final = "SELECT coalesce(max(notification_id), 0) FROM stored_events"
_BEFORE_LAST: Final = """
    SELECT notification_id FROM stored_events WHERE notification_id <= %s
    ORDER BY notification_id DESC OFFSET %s LIMIT 1
"""
_AFTER: Final = """
    SELECT notification_id, originator_id, originator_version, topic, state, owner_id FROM stored_events
    WHERE notification_id > %s AND notification_id <= %s ORDER BY notification_id LIMIT %s
"""
_STREAM: Final = """
    SELECT notification_id, originator_id, originator_version, topic, state, owner_id FROM stored_events
    WHERE originator_id = %s AND originator_version > %s ORDER BY originator_version LIMIT 1000
"""
_REPLIES: Final = "SELECT key_hash, owner_id, sealed FROM kept_replies WHERE key_hash > %s ORDER BY key_hash LIMIT 500"
_FIGURES: Final = """
    WITH owned AS (
        SELECT count(*) AS events, count(*) FILTER (WHERE originator_version = 1) AS streams
        FROM stored_events GROUP BY owner_id
    ), writing AS (
        SELECT count(DISTINCT l.virtualtransaction) AS writing,
            coalesce(extract(epoch FROM clock_timestamp() - min(a.xact_start)), 0)::float8 AS oldest_writing_seconds
        FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.relation = 'stored_events'::regclass
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
    SELECT (SELECT coalesce(sum(events), 0)::bigint FROM owned) AS events,
        (SELECT coalesce(sum(streams), 0)::bigint FROM owned) AS streams,
        (SELECT count(*) FROM owned) AS owners,
        pg_table_size('stored_events') AS table_bytes,
        pg_indexes_size('stored_events') AS index_bytes,
        (SELECT coalesce(max(notification_id), 0) FROM stored_events) AS last_position,
        writing.*,
        (SELECT count(*) FROM user_keys WHERE wrapped IS NOT NULL) AS keys_live,
        (SELECT count(*) FROM user_keys WHERE wrapped IS NULL) AS keys_destroyed,
        (SELECT count(*) FROM kept_replies) AS kept_replies,
        (SELECT count(*) FROM stream_snapshots) AS snapshots
    FROM writing
"""
_TOPICS: Final = "SELECT topic, count(*) FROM stored_events GROUP BY topic ORDER BY topic"
_PARKED: Final[LiteralString] = (
    "SELECT stream_id, version, position, reason FROM " + PARKED_AND_MISSED + " ORDER BY position"  # noqa: S608 - ours
)
_OTHER_PARTITION: Final = """
    SELECT originator_id, originator_version, format('its partition is %s, that of its owner %s', partition_id, owned)
    FROM stored_events, LATERAL (SELECT get_byte(uuid_send(owner_id), 15)) AS o (owned) WHERE partition_id <> owned
"""
# Rows there are never decided, so that no follower comes to them; a dump that was restored without its sequence.
_PAST_SEQUENCE: Final = """
    SELECT originator_id, originator_version,
        format('its position %s is past the last that was drawn, %s: set the sequence', notification_id, drawn)
    FROM stored_events, coalesce(pg_sequence_last_value('stored_events_notification_id_seq'), 0) AS drawn
    WHERE notification_id > drawn
"""
_SNAPSHOT_WITHOUT_EVENT: Final = """
    SELECT s.stream_id, s.version, format('the snapshot %s sums it up, and it is not there', s.topic)
    FROM stream_snapshots s WHERE NOT EXISTS (
        SELECT FROM stored_events WHERE originator_id = s.stream_id AND originator_version = s.version
    )
"""
