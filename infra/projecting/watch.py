"""How old what is read is, for who measures it: one query that counts nothing, however far behind a projection is."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from msgspec import Struct

from domain.errors import StoreUnavailable
from infra.event_store.reader import PARKED_AND_MISSED
from infra.projecting.shards import FILLED
from infra.views import ReadModels
from projections import PROJECTIONS


class ProjectionState(Struct, frozen=True):
    """One projection, of the builds that somebody reads the one that is worse."""

    lag_s: float  # the age of the oldest event that it has not taken yet; 0: none
    workers: int  # that fill it: 0 also while it is paused or stopped
    quarantined: int = 0  # keys
    parked: int = 0  # streams of accounts that are there, of the log: the same for all projections


class ProjectionWatch:
    """Looks; changes nothing."""

    def __init__(self, database: ReadModels) -> None:
        self._database = database

    async def state(self) -> Mapping[str, ProjectionState | None]:
        """By name. None: Postgres is away, or it is not read yet."""
        found: dict[str, ProjectionState | None] = dict.fromkeys(projection.name for projection in PROJECTIONS)
        with suppress(StoreUnavailable):
            async with self._database.connection() as connection:
                async for name, *told in await connection.execute(_STATE):
                    found[name] = ProjectionState(*told)
        return found


_STATE: Final = (
    """
    SELECT p.name, max(coalesce(extract(epoch FROM clock_timestamp() - e.recorded_at), 0))::float8, min(s.workers),
        max((SELECT count(*) FROM quarantined_keys q WHERE q.schema_name = r.schema_name)),
        (SELECT count(*) FROM """  # noqa: S608 - ours
    + PARKED_AND_MISSED
    + """)
    FROM projection_pointers p
    CROSS JOIN LATERAL (VALUES (p.active), (CASE WHEN p.shadow_percent > 0 THEN p.shadow END)) r (schema_name)
    CROSS JOIN LATERAL (
        SELECT min(position) AS position,
            count(DISTINCT s.holder) FILTER (WHERE NOT s.paused AND s.stopped IS NULL AND """
    + FILLED
    + """) AS workers
        FROM projection_shards s WHERE s.schema_name = r.schema_name
    ) s
    LEFT JOIN LATERAL (
        SELECT recorded_at FROM stored_events WHERE notification_id > s.position ORDER BY notification_id LIMIT 1
    ) e ON true
    WHERE r.schema_name IS NOT NULL GROUP BY p.name
"""
)
