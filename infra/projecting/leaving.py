"""Users whose rows need not be as the log has them: of whom something cannot be read any more.

Those who are being erased: their key is gone, and the event that takes their rows away is yet to come. And those of
whom a stream is parked: rows from before it was damaged are better than what can be folded now.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, LiteralString, TypeAlias
from uuid import UUID

from psycopg import Connection

from infra.event_store.mapper import MAPPER
from infra.event_store.reader import PARKED_AND_MISSED
from projections.projection import Projection

_SLACK: Final = timedelta(minutes=1)  # clocks are read before transactions commit

Concerned: TypeAlias = Mapping[UUID, set[UUID]]  # streams, and whose rows hang on them


def leaving(connection: Connection, position: int) -> list[UUID]:
    """Those whose key was destroyed at about the time of the event at the position, or later.

    What was private of theirs is in rows that were written before, and redacted in those written afterwards, until
    both take the event that erases them: two builds at one position may differ there.
    """
    return [owner for (owner,) in connection.execute(_LEAVING, (_SLACK, position))]


def parked_owners(connection: Connection) -> dict[UUID, list[UUID]]:
    """The streams that are parked, by their owners, whose accounts are there."""
    found: dict[UUID, list[UUID]] = {}
    for owner, stream in connection.execute(_PARKED):
        found.setdefault(owner, []).append(stream)
    return found


def let_go(connection: Connection, unparked: Concerned) -> tuple[Concerned, set[UUID]]:
    """Of the streams that are to be let go, those that can be; and whom a stream concerns that cannot.

    One that concerns somebody who is left out stays parked: its events would be passed by, and not be in their rows.
    """
    parked = parked_owners(connection).items()
    unread = {owner for owner, streams in parked if not unparked.keys() >= set(streams)}
    while held := {stream for stream, concerned in unparked.items() if concerned & unread}:
        unread = unread.union(*(unparked[stream] for stream in held))
        unparked = {stream: concerned for stream, concerned in unparked.items() if stream not in held}
    return unparked, unread


def unread_tables(connection: Connection, projection: Projection) -> list[str]:
    """Tables of which any row may lack what a parked stream said: their rows hang on everybody's streams."""
    hung_on = streams_hung_on(connection, projection)
    return [table for table, streams in hung_on.items() if streams]


def streams_hung_on(connection: Connection, projection: Projection) -> dict[str, set[UUID]]:
    """By table whose rows hang on everybody's streams: the parked ones among these."""
    parked = connection.execute(_PARKED_TOPICS).fetchall()
    return {
        fold.table.name: {stream for stream, topic in parked if topic in MAPPER.topics_of(fold.events)}
        for fold in projection.folds
        if fold.foreign
    }


_PARKED_TOPICS: Final[LiteralString] = (
    "SELECT originator_id, topic FROM stored_events WHERE notification_id IN (SELECT position FROM "  # noqa: S608 - ours
    + PARKED_AND_MISSED
    + ")"
)
_PARKED: Final[LiteralString] = (
    "SELECT owner_id, stream_id FROM " + PARKED_AND_MISSED + " ORDER BY position"  # noqa: S608 - ours
)
_LEAVING: Final[LiteralString] = """
    SELECT owner_id FROM user_keys
    WHERE destroyed_at > (SELECT recorded_at - %s FROM stored_events WHERE notification_id = %s)
"""
