"""Users whose rows need not be as the log has them: of whom something cannot be read any more.

Those who are being erased: their key is gone, and the event that takes their rows away is yet to come. And those of
whom a stream is parked: rows from before it was damaged are better than what can be folded now.
"""

from datetime import timedelta
from typing import Final, LiteralString
from uuid import UUID

from psycopg import Connection

from infra.event_store.mapper import MAPPER
from infra.event_store.reader import PARKED_AND_MISSED
from projections.projection import Projection

_SLACK: Final = timedelta(minutes=1)  # clocks are read before transactions commit


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


def unread_tables(connection: Connection, projection: Projection) -> list[str]:
    """Tables of which any row may lack what a parked stream said: their rows hang on everybody's streams."""
    topics = {topic for (topic,) in connection.execute(_PARKED_TOPICS)}
    return [fold.table.name for fold in projection.folds if fold.foreign and topics & MAPPER.topics_of(fold.events)]


_PARKED_TOPICS: Final[LiteralString] = (
    "SELECT topic FROM stored_events WHERE notification_id IN (SELECT position FROM "  # noqa: S608 - ours
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
