"""How the ingest queue is doing: what waits in the inbox, what the hints say, and what was given up."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from domain.errors import StoreUnavailable
from domain.measures import ActivityId
from domain.uploads import Inbox, Waiting
from infra.queue import IngestQueue
from infra.views import ReadModels

_LISTING_SECONDS: Final = 3.0  # S3 lists some ten thousand meanwhile


class QueueState(Struct, frozen=True, kw_only=True):
    """Counts. None: the server that would know is away."""

    waiting: int | None  # accepted uploads without a verdict: the truth, in the object store; of very many, at least
    oldest_age_s: float | None  # of those; 0 when there is none
    hints: int | None  # in Valkey: fewer than `waiting` is fine, the sweeper finds the others
    taken: int | None  # of the hints, those that a worker holds
    failed: Mapping[str, int] | None  # uploads that became no activity, by code


class Tried(Struct, frozen=True):
    """An upload that waits, how often it was tried, and why that came to nothing."""

    activity_id: UUID
    since: datetime
    attempts: int
    reason: str


class Failed(Struct, frozen=True):
    """An upload that became no activity."""

    activity_id: UUID
    user_id: UUID
    code: str
    reason: str
    attempts: int
    received_at: datetime
    died_at: datetime


class QueueWatch:
    """Looks; changes nothing."""

    def __init__(self, inbox: Inbox, queue: IngestQueue, database: ReadModels, clock: Callable[[], datetime]) -> None:
        self._inbox = inbox
        self._queue = queue
        self._database = database
        self._clock = clock

    async def state(self) -> QueueState:
        """Of all that answers."""
        waiting = oldest = hints = taken = failed = None
        if (listed := await self._listed()) is not None:
            waiting = len(listed)
            oldest = (self._clock() - min(listed)).total_seconds() if listed else 0.0
        with contextlib.suppress(StoreUnavailable):
            hints, taken = await self._queue.length()
        with contextlib.suppress(StoreUnavailable):
            async with self._database.connection() as connection:
                rows = await connection.execute("SELECT code, count(*) FROM dead_letters GROUP BY code ORDER BY code")
                failed = {str(code): int(count) async for code, count in rows}
        return QueueState(waiting=waiting, oldest_age_s=oldest, hints=hints, taken=taken, failed=failed)

    async def _listed(self) -> Sequence[datetime] | None:
        """Since when uploads wait: those that the store tells of in time, None if it tells nothing."""
        found: list[datetime] = []
        try:
            async with asyncio.timeout(_LISTING_SECONDS):
                async for left in self._inbox.waiting():
                    found.append(left.since)  # noqa: PERF401 - what came in time is told
        except StoreUnavailable:
            return None
        except TimeoutError:
            return found or None
        return found

    async def waiting(self) -> Sequence[Waiting]:
        """Uploads without a verdict, the oldest first."""
        return sorted([left async for left in self._inbox.waiting()], key=lambda left: left.since)

    async def tried(self) -> Sequence[Tried]:
        """The same with what is known of their tries. `StoreUnavailable`."""
        waiting = await self.waiting()
        async with self._database.connection() as connection:
            rows = await connection.execute(_TRIED, ([left.activity_id for left in waiting],))
            known = {activity_id: (attempts, reason) async for activity_id, attempts, reason in rows}
        return [Tried(left.activity_id, left.since, *known.get(left.activity_id, (0, ""))) for left in waiting]

    async def failed(self, codes: Sequence[str] = (), limit: int | None = None) -> Sequence[Failed]:
        """Uploads that became no activity, the latest first; of all codes if none is named. `StoreUnavailable`."""
        async with self._database.connection() as connection:
            rows = await connection.execute(_FAILED, (list(codes), list(codes), limit))
            return [Failed(*row) async for row in rows]

    async def known(self, activity_id: ActivityId) -> bool:
        """Whether an upload failed and was not let go of since."""
        async with self._database.connection() as connection:
            rows = await connection.execute("SELECT 1 FROM dead_letters WHERE activity_id = %s", (activity_id,))
            return await rows.fetchone() is not None


_TRIED = "SELECT activity_id, attempts, reason FROM ingest_attempts WHERE activity_id = ANY(%s)"
_FAILED = """
    SELECT activity_id, user_id, code, reason, attempts, received_at, died_at FROM dead_letters
    WHERE code = ANY(%s) OR cardinality(%s::text[]) = 0 ORDER BY died_at DESC, activity_id LIMIT %s
"""
