"""Which versions API processes know. They say so by locks, which end with their connections: there is nothing
to renew, and nobody who is gone is waited for.
"""

from collections.abc import Iterable, Sequence
from typing import Final, LiteralString

from psycopg import AsyncConnection, Connection

from infra.projecting.builds import Build
from infra.projecting.shards import known_as
from projections.projection import Projection


async def announce(connection: AsyncConnection, knows: Iterable[tuple[str, int]]) -> None:
    """Say, as long as the connection lives, that code which declares these versions reads over it. Waits for nobody."""
    await connection.execute(_ANNOUNCE, ([known_as(*one) for one in knows],))


def not_readable(connection: Connection, projections: Sequence[Projection]) -> str | None:
    """Which projections this code cannot read: it declares neither the version that is read nor the one on standby.

    One that is not read yet is not among them: who deploys it reads it once it is filled.
    """
    versions = [known_as(one.name, one.version) for one in projections]
    found = connection.execute(_NOT_READABLE, ([one.name for one in projections], versions)).fetchall()
    if not found:
        return None
    return (
        f"{', '.join(name for (name,) in found)}: read in a version that this code does not declare: run code that does"
    )


def only_knowing(connection: Connection, old: Build, others: Sequence[Build]) -> list[str]:
    """Where there are processes whose code can read the old build, and none of the others: host addresses."""
    versions = known_as(old.name, old.version), [known_as(other.name, other.version) for other in others]
    return [host for (host,) in connection.execute(_ONLY_KNOWING, versions)]


_ANNOUNCE: Final[LiteralString] = """
    SELECT pg_advisory_lock_shared(hashtext('cairn readers'), hashtext(known)) FROM unnest(%s::text[]) AS known
"""
_NOT_READABLE: Final[LiteralString] = """
    SELECT p.name || ' v' || max(b.version) FILTER (WHERE b.schema_name = p.active)
    FROM projection_pointers p JOIN projection_builds b ON b.schema_name IN (p.active, p.standby)
    WHERE p.name = ANY(%s)
    GROUP BY p.name HAVING NOT bool_or(b.name || ' ' || b.version = ANY(%s)) ORDER BY p.name
"""
_ONLY_KNOWING: Final[LiteralString] = """
    WITH told AS (
        SELECT pid, array_agg(objid) AS knows FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2 AND classid = hashtext('cairn readers')::oid
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        GROUP BY pid
    )
    SELECT DISTINCT coalesce(host(a.client_addr), 'this server') FROM told LEFT JOIN pg_stat_activity a USING (pid)
    WHERE hashtext(%s)::oid = ANY(knows)
      AND NOT EXISTS (SELECT FROM unnest(%s::text[]) AS other WHERE hashtext(other)::oid = ANY(knows))
    ORDER BY 1
"""
