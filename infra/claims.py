"""Bookkeeping of ingest in Postgres: whose bytes are whose, and how often an upload was tried."""

from typing import Final

from domain.measures import ActivityId, UserId
from infra.views import ReadModels


class PostgresClaims:
    """Which upload of a runner has which bytes. A unique key decides between two at the same time."""

    def __init__(self, database: ReadModels) -> None:
        self._database = database

    async def claim(self, user_id: UserId, sha256: str, activity_id: ActivityId) -> ActivityId:
        """Take the bytes for this upload, unless another has them; whose they are."""
        async with self._database.connection() as connection:
            found = await connection.execute(_CLAIM, (user_id, bytes.fromhex(sha256), activity_id))
            row = await found.fetchone()
        return ActivityId(row[0]) if row else activity_id

    async def hand_over(self, user_id: UserId, sha256: str, holder: ActivityId, activity_id: ActivityId) -> ActivityId:
        """Take the bytes over from this holder; whose they are, when another was faster."""
        async with self._database.connection() as connection:
            await connection.execute(_HAND_OVER, (activity_id, user_id, bytes.fromhex(sha256), holder))
        return await self.claim(user_id, sha256, activity_id)


class PostgresAttempts:
    """How often an upload was tried without coming to a verdict."""

    def __init__(self, database: ReadModels) -> None:
        self._database = database

    async def begin(self, activity_id: ActivityId) -> int:
        """Count one more; the number of this one, from 1."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_BEGIN, (activity_id,))).fetchone()
        return int(row[0]) if row else 1

    async def end(self, activity_id: ActivityId) -> None:
        """Forget the count."""
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM ingest_attempts WHERE activity_id = %s", (activity_id,))


# the no-op update makes RETURNING tell the row that was there
_CLAIM: Final = """
    INSERT INTO recording_claims AS c (user_id, sha256, activity_id) VALUES (%s, %s, %s)
    ON CONFLICT (user_id, sha256) DO UPDATE SET activity_id = c.activity_id RETURNING activity_id
"""
_HAND_OVER: Final = """
    UPDATE recording_claims SET activity_id = %s WHERE user_id = %s AND sha256 = %s AND activity_id = %s
"""
_BEGIN: Final = """
    INSERT INTO ingest_attempts AS a (activity_id, attempts) VALUES (%s, 1)
    ON CONFLICT (activity_id) DO UPDATE SET attempts = a.attempts + 1 RETURNING attempts
"""
