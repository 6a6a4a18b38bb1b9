"""Bookkeeping of ingest in Postgres: whose bytes are whose, when activities were, and how often an upload was tried.

Each upload asks some nine times: over `Channels`, which cost a fifth of what psycopg's cursors take.
"""

import hashlib
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg.errors import LockNotAvailable
from psycopg.pq.abc import PGresult

from domain.measures import ActivityId, UserId
from domain.recordings.recording import LONGEST
from domain.recordings.similarity import Span
from domain.uploads import Manifest, Verdict
from infra.away import ANSWER_SECONDS, or_unavailable
from infra.channels import Channels, number_of, value_of
from infra.timestamps import CLOCKS_DIFFER, EPOCH, MICROSECOND

_REASON_LENGTH: Final = 500
_REAL: Final = struct.Struct("!f")


class PostgresClaims:
    """Which upload of a runner has which bytes, and which activities were when."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    @asynccontextmanager
    async def alone(self, user_id: UserId) -> AsyncIterator[bool]:
        """Whether nobody else looks for this runner's duplicates meanwhile. Who does is waited for, in turn, for two
        seconds: it may be a worker that was frozen. The lock dies with the connection.
        """
        async with _locked(self._channels, b"lock", f"recordings of {user_id}") as alone:
            yield alone

    async def claim(self, user_id: UserId, sha256: str, activity_id: ActivityId) -> ActivityId:
        """Take the bytes for this upload, unless another has them; whose they are."""
        found = await _asked(self._channels, b"claim", _bytes_id(user_id, sha256), activity_id.bytes)
        return _id_of(found, 0)

    async def holder(self, user_id: UserId, sha256: str) -> ActivityId | None:
        """Which upload has these bytes."""
        found = await _asked(self._channels, b"holder", _bytes_id(user_id, sha256))
        return _id_of(found, 0) if found.ntuples else None

    async def hand_over(self, user_id: UserId, sha256: str, holder: ActivityId, activity_id: ActivityId) -> ActivityId:
        """Take the bytes over from this holder; whose they are, when another was faster."""
        await _asked(self._channels, b"hand_over", activity_id.bytes, _bytes_id(user_id, sha256), holder.bytes)
        return await self.claim(user_id, sha256, activity_id)

    async def around(self, user_id: UserId, span: Span) -> Sequence[tuple[ActivityId, Span]]:
        """The runner's activities that were at the same time, at least in part; the earliest first."""
        end = span.started_at + timedelta(seconds=span.elapsed_s)
        times = span.started_at - LONGEST, end, span.started_at
        found = await _asked(self._channels, b"around", user_id.bytes, *map(_time, times))
        return [(_id_of(found, at), _span_of(found, at)) for at in range(found.ntuples)]

    async def mark(self, user_id: UserId, activity_id: ActivityId, span: Span) -> None:
        """Remember when an activity was, while `alone`. The same again changes nothing."""
        amounts = _REAL.pack(span.elapsed_s), _REAL.pack(span.distance_m)
        await _asked(self._channels, b"mark", user_id.bytes, _time(span.started_at), activity_id.bytes, *amounts)


class PostgresAttempts:
    """How often an upload was tried without coming to a verdict, and those that were given up."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    @asynccontextmanager
    async def alone(self, activity_id: ActivityId) -> AsyncIterator[bool]:
        """Whether nobody else tries this upload meanwhile. The lock dies with the connection."""
        async with _locked(self._channels, b"try_lock", f"upload {activity_id}") as alone:
            yield alone

    async def begin(self, activity_id: ActivityId) -> int:
        """Count one more; the number of this one, from 1."""
        return number_of(await _asked(self._channels, b"begin", activity_id.bytes), 0, 0)

    async def failed(self, activity_id: ActivityId, reason: str) -> None:
        """Note why the last try came to nothing."""
        await _asked(self._channels, b"failed", _text(reason[:_REASON_LENGTH]), activity_id.bytes)

    async def take_back(self, activity_id: ActivityId) -> None:
        """Do not count the last try: it was not the upload's fault."""
        await _asked(self._channels, b"take_back", activity_id.bytes)

    async def end(self, manifest: Manifest, verdict: Verdict) -> None:
        """Forget the count; of an upload that became no activity, keep why."""
        activity_id = manifest.activity_id.bytes
        if verdict.fault is None:
            await _asked(self._channels, b"end", activity_id)
            return
        why = _text(verdict.fault.code), _text(verdict.fault.detail)
        whose = activity_id, manifest.user_id.bytes
        await _asked(self._channels, b"bury", *whose, *why, _time(manifest.received_at))

    async def buried(self) -> Sequence[ActivityId]:
        """Failed uploads that are listed."""
        found = await _asked(self._channels, b"buried")
        return [_id_of(found, at) for at in range(found.ntuples)]

    async def let_go(self, activity_id: ActivityId) -> None:
        """Do not list a failed upload any more."""
        await _asked(self._channels, b"let_go", activity_id.bytes)


class PostgresSessions:
    """Sessions, as far as ingest asks."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def had_ended(self, session_id: UUID, at: datetime) -> bool:
        """Whether the session was ended before this time, by whichever of two clocks: `at` is an API's, and the end is
        Postgres's. What was acked in good time must not fail; a few minutes too late do no harm.
        """
        return (await _asked(self._channels, b"ended", session_id.bytes, _time(at - CLOCKS_DIFFER))).ntuples > 0


def bookkeeping(database_url: str) -> Channels:
    """What the three of them ask over."""
    return Channels(database_url, _STATEMENTS)


def _bytes_id(user_id: UserId, sha256: str) -> bytes:
    """These bytes of this runner. Half a digest is enough: two files of one runner would have to meet in 128 bits.

    It tells nothing of either, so that its row may stay when the runner is erased.
    """
    return hashlib.sha256(user_id.bytes + bytes.fromhex(sha256)).digest()[:16]


async def _asked(channels: Channels, statement: bytes, *values: bytes) -> PGresult:
    with or_unavailable():
        async with channels.one() as channel:
            return await channel.run(statement, values, ANSWER_SECONDS)


@asynccontextmanager
async def _locked(channels: Channels, lock: bytes, name: str) -> AsyncIterator[bool]:
    """The connection's, without a transaction: what is done meanwhile may take long. Whether it is locked."""
    with or_unavailable():
        async with channels.one() as channel:
            try:
                found = await channel.run(lock, [_text(name)], ANSWER_SECONDS)
                locked = value_of(found, 0, 0) != _FALSE  # the lock that waits answers with nothing
            except LockNotAvailable:
                locked = False
            try:
                yield locked
            finally:
                if locked:
                    try:
                        await channel.run(b"unlock", [_text(name)], ANSWER_SECONDS)
                    except BaseException:
                        channel.close()  # nobody gets a connection that holds a lock
                        raise


def _text(value: str) -> bytes:
    """`text`, without what Postgres has no place for."""
    return value.encode(errors="replace").replace(b"\0", b"")


def _time(value: datetime) -> bytes:
    """`timestamptz`"""
    return ((value - EPOCH) // MICROSECOND).to_bytes(8, signed=True)


def _id_of(found: PGresult, at: int) -> ActivityId:
    return ActivityId(UUID(bytes=value_of(found, at, 0)))


def _span_of(found: PGresult, at: int) -> Span:
    elapsed_s, distance_m = (_REAL.unpack(value_of(found, at, column))[0] for column in (2, 3))
    return Span(EPOCH + number_of(found, at, 1) * MICROSECOND, elapsed_s, distance_m)


_FALSE: Final = b"\0"
_STATEMENTS: Final = {
    # another upload of the runner has it for as long as it stores what was read; less than `ANSWER_SECONDS`
    b"lock": b"SELECT pg_advisory_lock(hashtextextended($1, 0)) FROM set_config('lock_timeout', '2s', true)",
    b"try_lock": b"SELECT pg_try_advisory_lock(hashtextextended($1, 0))",
    b"unlock": b"SELECT pg_advisory_unlock(hashtextextended($1, 0))",
    # the no-op update makes RETURNING tell the row that was there
    b"claim": b"""
        INSERT INTO recording_claims AS c (bytes_id, activity_id) VALUES ($1, $2)
        ON CONFLICT (bytes_id) DO UPDATE SET activity_id = c.activity_id RETURNING activity_id
    """,
    b"holder": b"SELECT activity_id FROM recording_claims WHERE bytes_id = $1",
    b"hand_over": b"UPDATE recording_claims SET activity_id = $1 WHERE bytes_id = $2 AND activity_id = $3",
    b"around": b"""
        SELECT activity_id, started_at, elapsed_s, distance_m FROM recorded_spans
        WHERE user_id = $1 AND started_at > $2 AND started_at < $3
            AND started_at + make_interval(secs => elapsed_s) > $4
        ORDER BY started_at, activity_id
    """,
    # who is alone with the runner's recordings: nobody marks the same in between
    b"mark": b"""
        INSERT INTO recorded_spans (user_id, started_at, activity_id, elapsed_s, distance_m)
        SELECT new.* FROM (VALUES ($1::uuid, $2::timestamptz, $3::uuid, $4::real, $5::real))
            AS new (user_id, started_at, activity_id, elapsed_s, distance_m)
        WHERE NOT EXISTS (SELECT FROM recorded_spans s
            WHERE s.user_id = new.user_id AND s.started_at = new.started_at AND s.activity_id = new.activity_id)
    """,
    b"begin": b"""
        INSERT INTO ingest_attempts AS a (activity_id, attempts) VALUES ($1, 1)
        ON CONFLICT (activity_id) DO UPDATE SET attempts = a.attempts + 1 RETURNING attempts
    """,
    b"failed": b"UPDATE ingest_attempts SET reason = $1 WHERE activity_id = $2",
    b"take_back": b"UPDATE ingest_attempts SET attempts = attempts - 1 WHERE activity_id = $1",
    b"end": b"""
        WITH revived AS (DELETE FROM dead_letters WHERE activity_id = $1)
        DELETE FROM ingest_attempts WHERE activity_id = $1
    """,
    # why the last try failed says more than what the runner is told
    b"bury": b"""
        WITH told (activity_id, user_id, code, detail, received_at) AS (
            SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::timestamptz
        ), tried AS (
            DELETE FROM ingest_attempts WHERE activity_id = $1 RETURNING activity_id, attempts, reason
        )
        INSERT INTO dead_letters (activity_id, user_id, code, reason, attempts, received_at)
        SELECT activity_id, user_id, code, coalesce(nullif(reason, ''), detail), coalesce(attempts, 1), received_at
        FROM told LEFT JOIN tried USING (activity_id)
        ON CONFLICT (activity_id) DO UPDATE
        SET code = excluded.code, reason = excluded.reason, attempts = excluded.attempts, died_at = now()
        WHERE dead_letters.code <> excluded.code OR dead_letters.reason <> excluded.reason
    """,
    b"buried": b"SELECT activity_id FROM dead_letters",
    b"let_go": b"DELETE FROM dead_letters WHERE activity_id = $1",
    b"ended": b"SELECT 1 FROM sessions WHERE session_id = $1 AND revoked_at < $2",
}
