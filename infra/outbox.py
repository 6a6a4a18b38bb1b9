"""Notices that were decided, each once: keyed by the reaction and the event that it was for."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

from msgspec import Struct
from psycopg import Connection
from psycopg.rows import class_row

from domain.events.event import Recorded
from domain.measures import UserId, derived_id
from domain.notices import Notice
from infra.away import or_unavailable
from infra.event_store.fence import Fence
from infra.shared_reads import Changes
from infra.views import ReadModels

_Told = tuple[Recorded, Sequence[Notice], str | None]
_Step = tuple[Sequence[_Told], Sequence[UserId], int]


class PostgresOutbox:
    """Implements `workers.reactor.Outbox`. One connection, in autocommit.

    Who has the lock of a reaction's row, still at the position that the page was read from, is the one who tells. Whose
    notices become others is said before that is committed, so that nobody who dies in between leaves it unsaid: what is
    read until then is from before that position, and not kept.
    """

    def __init__(self, connection: Connection, changes: Changes | None = None) -> None:
        self._connection = connection
        self._changes = changes

    def register(self, names: Collection[str]) -> None:
        """New reactions begin at the end of the log: nobody is told today of what happened last year."""
        end = Fence(self._connection).last_event(of_all=True)
        for name in names:
            self._connection.execute(_REGISTER, (name, end))

    def advance(self, name: str, step: Callable[[int], _Step]) -> int | None:
        """Take a step from where the reaction is. `StoreUnavailable`."""
        with or_unavailable():
            row = self._connection.execute(_POSITION, (name,)).fetchone()
            position = int(row[0]) if row else 0
            told, erased, ceiling = step(position)
            if row is None or ceiling <= position:  # nothing is locked, and nothing written, while nothing happens
                self._say((), position)
                return None
            with self._connection.transaction():
                if self._connection.execute(_TAKE, (name, position)).fetchone() is None:
                    return None
                for recorded, notices, fault in told:
                    self._write(name, recorded, notices, fault)
                if erased:
                    self._connection.execute(_FORGET, (list(erased), list(erased)))
                self._connection.execute(_MOVE, (ceiling, name))
                recipients = {notice.recipient_id for _, notices, _ in told for notice in notices}
                self._say(recipients.union(erased), ceiling)
                return ceiling

    def _say(self, users: Collection[UserId], position: int) -> None:
        if self._changes is not None:
            self._changes.tell(users, position)

    def _write(self, name: str, recorded: Recorded, notices: Sequence[Notice], fault: str | None) -> None:
        place = (name, recorded.stream_id, recorded.version)
        if fault is not None:
            self._connection.execute(_FAILED, (*place, recorded.position, fault))
        for number, notice in enumerate(notices):
            notice_id = notice_id_of(name, recorded, number)
            values = (notice_id, notice.recipient_id, notice.kind, notice.about_id, recorded.event.at)
            self._connection.execute(_WRITE, (*place, number, *values))


def notice_id_of(name: str, recorded: Recorded, number: int) -> UUID:
    """Of the notice of this number that a reaction decided on for an event."""
    return derived_id("notice", name, recorded.stream_id, str(recorded.version), str(number))


class StoredNotice(Struct, frozen=True):
    """A notice as its recipient finds it."""

    notice_id: UUID
    kind: str
    about_id: UUID
    at: datetime


class Notices:
    """What is in the outbox for a runner. Implements `api.services.Notices`."""

    def __init__(self, database: ReadModels) -> None:
        self._database = database

    async def of(self, user_id: UserId, before: tuple[datetime, UUID], limit: int) -> list[StoredNotice]:
        """The latest first, from before a place in that order. `StoreUnavailable`."""
        async with (
            self._database.connection() as connection,
            connection.cursor(row_factory=class_row(StoredNotice)) as cursor,
        ):
            await cursor.execute(_OF_USER, (user_id, *before, limit))
            return await cursor.fetchall()


_REGISTER: Final[LiteralString] = "INSERT INTO reactors (name, position) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_POSITION: Final[LiteralString] = "SELECT position FROM reactors WHERE name = %s"
_TAKE: Final[LiteralString] = "SELECT FROM reactors WHERE name = %s AND position = %s FOR UPDATE SKIP LOCKED"
_MOVE: Final[LiteralString] = "UPDATE reactors SET position = %s, updated_at = now() WHERE name = %s"
_WRITE: Final[LiteralString] = """
    INSERT INTO outbox (reactor, stream_id, version, number, notice_id, recipient_id, kind, about_id, at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_FAILED: Final[LiteralString] = """
    INSERT INTO reactor_faults (reactor, stream_id, version, position, reason) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""
_FORGET: Final[LiteralString] = "DELETE FROM outbox WHERE recipient_id = ANY(%s) OR about_id = ANY(%s)"
_OF_USER: Final[LiteralString] = """
    SELECT notice_id, kind, about_id, at FROM outbox
    WHERE recipient_id = %s AND (at, notice_id) < (%s, %s) ORDER BY at DESC, notice_id DESC LIMIT %s
"""
