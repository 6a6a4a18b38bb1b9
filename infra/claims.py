"""Bookkeeping of ingest in Postgres: whose bytes are whose, when activities were, and how often an upload was tried."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

from psycopg import AsyncConnection

from domain.measures import ActivityId, UserId
from domain.recordings.similarity import Span
from domain.uploads import Manifest, Verdict
from infra.views import ReadModels

_LONGEST: Final = timedelta(days=15)  # longer than any recording may be
_REASON_LENGTH: Final = 500


class PostgresClaims:
    """Which upload of a runner has which bytes, and which activities were when."""

    def __init__(self, database: ReadModels) -> None:
        self._database = database

    @asynccontextmanager
    async def alone(self, user_id: UserId) -> AsyncIterator[None]:
        """Let nobody else look for this runner's duplicates meanwhile. The lock dies with the connection."""
        async with self._database.connection() as connection, _locked(connection, _LOCK, f"recordings of {user_id}"):
            yield

    async def claim(self, user_id: UserId, sha256: str, activity_id: ActivityId) -> ActivityId:
        """Take the bytes for this upload, unless another has them; whose they are."""
        async with self._database.connection() as connection:
            found = await connection.execute(_CLAIM, (_bytes_id(user_id, sha256), activity_id))
            row = await found.fetchone()
        return ActivityId(row[0]) if row else activity_id

    async def holder(self, user_id: UserId, sha256: str) -> ActivityId | None:
        """Which upload has these bytes."""
        async with self._database.connection() as connection:
            found = await connection.execute(_HOLDER, (_bytes_id(user_id, sha256),))
            row = await found.fetchone()
        return None if row is None else ActivityId(row[0])

    async def hand_over(self, user_id: UserId, sha256: str, holder: ActivityId, activity_id: ActivityId) -> ActivityId:
        """Take the bytes over from this holder; whose they are, when another was faster."""
        async with self._database.connection() as connection:
            await connection.execute(_HAND_OVER, (activity_id, _bytes_id(user_id, sha256), holder))
        return await self.claim(user_id, sha256, activity_id)

    async def around(self, user_id: UserId, span: Span) -> Sequence[tuple[ActivityId, Span]]:
        """The runner's activities that were at the same time, at least in part; the earliest first."""
        end = span.started_at + timedelta(seconds=span.elapsed_s)
        async with self._database.connection() as connection:
            found = await connection.execute(_AROUND, (user_id, span.started_at - _LONGEST, end, span.started_at))
            rows = await found.fetchall()
        return [(ActivityId(activity_id), Span(*rest)) for activity_id, *rest in rows]

    async def mark(self, user_id: UserId, activity_id: ActivityId, span: Span) -> None:
        """Remember when an activity was, while `alone`. The same again changes nothing."""
        async with self._database.connection() as connection:
            await connection.execute(_MARK, (user_id, span.started_at, activity_id, span.elapsed_s, span.distance_m))


class PostgresAttempts:
    """How often an upload was tried without coming to a verdict, and those that were given up."""

    def __init__(self, database: ReadModels) -> None:
        self._database = database

    @asynccontextmanager
    async def alone(self, activity_id: ActivityId) -> AsyncIterator[bool]:
        """Whether nobody else tries this upload meanwhile. The lock dies with the connection."""
        name = f"upload {activity_id}"
        async with self._database.connection() as connection, _locked(connection, _TRY_LOCK, name) as alone:
            yield alone

    async def begin(self, activity_id: ActivityId) -> int:
        """Count one more; the number of this one, from 1."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_BEGIN, (activity_id,))).fetchone()
        return int(row[0]) if row else 1

    async def failed(self, activity_id: ActivityId, reason: str) -> None:
        """Note why the last try came to nothing."""
        await self._execute(_FAILED, reason[:_REASON_LENGTH], activity_id)

    async def take_back(self, activity_id: ActivityId) -> None:
        """Do not count the last try: it was not the upload's fault."""
        await self._execute("UPDATE ingest_attempts SET attempts = attempts - 1 WHERE activity_id = %s", activity_id)

    async def end(self, manifest: Manifest, verdict: Verdict) -> None:
        """Forget the count; of an upload that became no activity, keep why."""
        if verdict.fault is None:
            await self._execute(_END, manifest.activity_id, manifest.activity_id)
            return
        values = manifest.activity_id, manifest.user_id, verdict.fault.code, verdict.fault.detail
        await self._execute(_BURY, *values, manifest.received_at, manifest.activity_id)

    async def let_go(self, activity_id: ActivityId) -> None:
        """Do not list a failed upload any more."""
        await self._execute("DELETE FROM dead_letters WHERE activity_id = %s", activity_id)

    async def _execute(self, statement: str, *values: object) -> None:
        async with self._database.connection() as connection:
            await connection.execute(statement, values)


class PostgresSessions:
    """Sessions, as far as ingest asks."""

    def __init__(self, database: ReadModels) -> None:
        self._database = database

    async def had_ended(self, session_id: UUID, at: datetime) -> bool:
        """Whether the session was ended before this time."""
        async with self._database.connection() as connection:
            return await (await connection.execute(_ENDED, (session_id, at))).fetchone() is not None


def _bytes_id(user_id: UserId, sha256: str) -> UUID:
    """These bytes of this runner. Half a digest is enough: two files of one runner would have to meet in 128 bits.

    It tells nothing of either, so that its row may stay when the runner is erased.
    """
    return UUID(bytes=hashlib.sha256(user_id.bytes + bytes.fromhex(sha256)).digest()[:16])


@asynccontextmanager
async def _locked(connection: AsyncConnection, lock: LiteralString, name: str) -> AsyncIterator[bool]:
    """The session's, without a transaction: what is done meanwhile may take long. Whether it is locked."""
    row = await (await connection.execute(lock, (name,))).fetchone()
    locked = row is not None and row[0] is not False  # the lock that waits answers with nothing
    try:
        yield locked
    finally:
        if locked:
            try:
                await connection.execute(_UNLOCK, (name,))
            except BaseException:
                await connection.close()  # the pool gets no connection that holds a lock
                raise


_LOCK: Final = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
_TRY_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"
# the no-op update makes RETURNING tell the row that was there
_CLAIM: Final = """
    INSERT INTO recording_claims AS c (bytes_id, activity_id) VALUES (%s, %s)
    ON CONFLICT (bytes_id) DO UPDATE SET activity_id = c.activity_id RETURNING activity_id
"""
_HOLDER: Final = "SELECT activity_id FROM recording_claims WHERE bytes_id = %s"
_HAND_OVER: Final = "UPDATE recording_claims SET activity_id = %s WHERE bytes_id = %s AND activity_id = %s"
_AROUND: Final = """
    SELECT activity_id, started_at, elapsed_s, distance_m FROM recorded_spans
    WHERE user_id = %s AND started_at > %s AND started_at < %s
        AND started_at + make_interval(secs => elapsed_s) > %s
    ORDER BY started_at, activity_id
"""
# who is alone with the runner's recordings: nobody marks the same in between
_MARK: Final = """
    INSERT INTO recorded_spans (user_id, started_at, activity_id, elapsed_s, distance_m)
    SELECT new.* FROM (VALUES (%s::uuid, %s::timestamptz, %s::uuid, %s::real, %s::real))
        AS new (user_id, started_at, activity_id, elapsed_s, distance_m)
    WHERE NOT EXISTS (SELECT FROM recorded_spans s
        WHERE s.user_id = new.user_id AND s.started_at = new.started_at AND s.activity_id = new.activity_id)
"""
_BEGIN: Final = """
    INSERT INTO ingest_attempts AS a (activity_id, attempts) VALUES (%s, 1)
    ON CONFLICT (activity_id) DO UPDATE SET attempts = a.attempts + 1 RETURNING attempts
"""
_FAILED: Final = "UPDATE ingest_attempts SET reason = %s WHERE activity_id = %s"
_END: Final = """
    WITH revived AS (DELETE FROM dead_letters WHERE activity_id = %s)
    DELETE FROM ingest_attempts WHERE activity_id = %s
"""
# why the last try failed says more than what the runner is told
_BURY: Final = """
    WITH told (activity_id, user_id, code, detail, received_at) AS (
        SELECT %s::uuid, %s::uuid, %s::text, %s::text, %s::timestamptz
    ), tried AS (
        DELETE FROM ingest_attempts WHERE activity_id = %s RETURNING activity_id, attempts, reason
    )
    INSERT INTO dead_letters (activity_id, user_id, code, reason, attempts, received_at)
    SELECT activity_id, user_id, code, coalesce(nullif(reason, ''), detail), coalesce(attempts, 1), received_at
    FROM told LEFT JOIN tried USING (activity_id)
    ON CONFLICT (activity_id) DO UPDATE
    SET code = excluded.code, reason = excluded.reason, attempts = excluded.attempts, died_at = now()
    WHERE dead_letters.code <> excluded.code OR dead_letters.reason <> excluded.reason
"""
_ENDED: Final = "SELECT 1 FROM sessions WHERE session_id = %s AND revoked_at < %s"
