"""How far live projections are behind what was appended."""

from typing import Final, LiteralString

from msgspec import Struct
from psycopg import Connection
from psycopg.rows import class_row

from infra.projecting.builds import FOLLOWED
from infra.projecting.shards import FILLED

LATE_SECONDS: Final = 30.0  # behind: more than any page or exchange takes, and what a runner notices


class Lag(Struct, frozen=True):
    """Of one build: events that it has not taken yet, and the age of the oldest of them."""

    schema_name: str
    position: int
    events: int
    seconds: float
    holders: int  # workers that fill it
    paused: bool
    stopped: str | None
    updated_seconds: float  # since the last page
    busy_seconds: float  # since the transaction began that has one of its shards; 0: none, or it is another role's


def lags(connection: Connection) -> dict[str, Lag]:
    """Of all builds that workers follow, by schema. At most 100,000 events are counted."""
    with connection.cursor(row_factory=class_row(Lag)) as cursor:
        return {lag.schema_name: lag for lag in cursor.execute(_LAGS, (list(FOLLOWED),))}


def live_lag_seconds(connection: Connection) -> float:
    """The age of the oldest event that a build that is read has not taken yet. 0: all are at the end of the log.

    Shards that nobody fills do not count: there is nobody to give way to.
    """
    row = connection.execute(_LIVE).fetchone()
    return float(row[0]) if row else 0.0


_LAGS: Final[LiteralString] = (
    """
    WITH busy AS MATERIALIZED (
        SELECT l.transactionid, a.xact_start FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
    )
    SELECT s.schema_name, s.position, late.events,
        coalesce(extract(epoch FROM clock_timestamp() - late.since), 0)::float8 AS seconds,
        s.holders, s.paused, s.stopped,
        extract(epoch FROM clock_timestamp() - s.updated_at)::float8 AS updated_seconds,
        coalesce(extract(epoch FROM clock_timestamp() - s.busy_since), 0)::float8 AS busy_seconds
    FROM (
        SELECT s.schema_name, min(s.position) AS position, min(s.updated_at) AS updated_at,
            count(DISTINCT s.holder) FILTER (WHERE """  # noqa: S608 - texts of ours
    + FILLED
    + """) AS holders, bool_or(s.paused) AS paused, max(s.stopped) AS stopped, min(busy.xact_start) AS busy_since
        FROM projection_shards s JOIN projection_builds b USING (schema_name)
        LEFT JOIN busy ON busy.transactionid = s.xmax
        WHERE b.state = ANY(%s)
        GROUP BY s.schema_name
    ) s CROSS JOIN LATERAL (
        SELECT count(*) AS events, min(e.recorded_at) AS since FROM (
            SELECT recorded_at FROM stored_events WHERE notification_id > s.position
            ORDER BY notification_id LIMIT 100000) e
    ) late
    """
)
_LIVE: Final[LiteralString] = (
    """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - e.recorded_at)), 0)
    FROM projection_pointers p
    CROSS JOIN LATERAL (
        SELECT min(s.position) AS position FROM projection_shards s
        WHERE s.schema_name = p.active AND NOT s.paused AND s.stopped IS NULL AND """  # noqa: S608 - texts of ours
    + FILLED
    + """
    ) s
    CROSS JOIN LATERAL (
        SELECT recorded_at FROM stored_events WHERE notification_id > s.position ORDER BY notification_id LIMIT 1
    ) e
    """
)
