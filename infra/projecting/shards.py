"""Who fills which shard of which build: leases with an epoch, so that nobody who lost one can still write."""

from collections.abc import Collection, Sequence
from typing import Final, LiteralString
from uuid import UUID

from msgspec import Struct
from psycopg import Connection
from psycopg.sql import SQL

from infra.event_store.rows import PARTITIONS
from infra.projecting.builds import FOLLOWED

LEASE_SECONDS: Final = 5.0  # after which the shards of a worker that is gone are taken over


class Shard(Struct, frozen=True):
    """A shard that this worker has."""

    schema_name: str
    name: str
    version: int
    shard: int
    shards: int  # of the build
    position: int
    epoch: int
    hold_at: int | None  # not to be passed for now

    @property
    def partitions(self) -> range:
        """Of the log's partitions, those of this shard."""
        return range(self.shard * PARTITIONS // self.shards, (self.shard + 1) * PARTITIONS // self.shards)


class LeaseLost(Exception):
    """Another worker has a shard now, or it may not go on: nothing was written. Look again at what there is."""


class Leases:
    """One worker's hand on shards. One connection, in autocommit."""

    def __init__(self, connection: Connection, holder: UUID, knows: Collection[tuple[str, int]]) -> None:
        self._connection = connection
        self._holder = holder
        self._knows = [known_as(*one) for one in knows]  # what this worker's code declares

    def renew(self) -> Sequence[Shard]:
        """Say that this worker lives, take its fair share of what is free, and give back what is beyond it.

        A share is of the builds that this worker's code declares, each divided by how many workers know it; those that
        few know come first. So workers of an older deployment do not sit on what only newer ones can fill.
        """
        with self._connection.transaction():
            self._connection.execute(_SEEN, (self._holder, self._knows))
            self._connection.execute(_FORGET, (LEASE_SECONDS,))
            self._connection.execute(_LOCK_OWN, (self._holder,))
            self._connection.execute(_KEEP, (LEASE_SECONDS, self._holder))
            wanted = self._connection.execute(
                _WANTED, {"followed": list(FOLLOWED), "knows": self._knows, "holder": self._holder}
            ).fetchall()
            places = [schema for schema, _, _ in wanted], [shard for _, shard, _ in wanted]
            self._connection.execute(_GIVE_BACK, (self._holder, *places))
            if not all(mine for _, _, mine in wanted):
                self._connection.execute(_TAKE, (self._holder, LEASE_SECONDS, *places))
        return self.held()

    def held(self) -> Sequence[Shard]:
        """What this worker has and may go on with."""
        found = self._connection.execute(_HELD, (self._holder, list(FOLLOWED)))
        return [Shard(*row) for row in found]

    def release(self) -> None:
        """Give everything back, for the others to take at once."""
        with self._connection.transaction():
            self._connection.execute(_LOCK_OWN, (self._holder,))
            self._connection.execute(_RELEASE, (self._holder,))
            self._connection.execute("DELETE FROM projection_workers WHERE holder = %s", (self._holder,))

    def advance(self, shards: Sequence[Shard], ceiling: int) -> None:
        """In the transaction of the rows: the shards' new position. `LeaseLost` unless they are all as they were."""
        shards = sorted(shards, key=lambda shard: (shard.schema_name, shard.shard))  # locked in this order
        moved = self._connection.execute(
            _MOVE,
            (
                ceiling,
                self._holder,
                [shard.schema_name for shard in shards],
                [shard.shard for shard in shards],
                [shard.epoch for shard in shards],
                [shard.position for shard in shards],
            ),
            prepare=True,
        )
        if moved.rowcount != len(shards):
            raise LeaseLost


def known_as(name: str, version: int) -> str:
    """A version of a projection, as workers tell which ones they know."""
    return f"{name} {version}"


def lock_shards(connection: Connection, schemas: Sequence[str]) -> list[int]:
    """Lock all shards of these builds, in a transaction; their positions.

    Whoever changes several shards locks them first, by build and number: in two orders, two would wait for each other.
    """
    return [position for (position,) in connection.execute(_LOCK, (list(schemas),))]


def change_shards(
    connection: Connection, schemas: Sequence[str], change: LiteralString, values: Sequence[object] = ()
) -> int:
    """Change all shards of these builds alike, locked as `lock_shards` does; how many."""
    with connection.transaction():
        lock_shards(connection, schemas)
        return connection.execute(_CHANGE.format(SQL(change)), (*values, list(schemas))).rowcount


def stop(connection: Connection, schema: str, reason: str) -> None:
    """Stop all shards of a build, until an operator resumes it."""
    change_shards(connection, [schema], "stopped = %s", (reason,))


# Of a row `s` of `projection_shards`: whether a worker has it. Leases are renewed between pages, and a page may take
# longer than one: who writes it has the row locked, and is the transaction in `xmax`, until it commits.
FILLED: Final[LiteralString] = """
    (s.holder IS NOT NULL AND (s.leased_until > now() OR s.xmax IN (
        SELECT transactionid FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted)))
"""
_LOCK: Final[LiteralString] = """
    SELECT position FROM projection_shards WHERE schema_name = ANY(%s) ORDER BY schema_name, shard FOR UPDATE
"""
_CHANGE: Final = SQL("UPDATE projection_shards SET {} WHERE schema_name = ANY(%s)")
_LOCK_OWN: Final[LiteralString] = """
    SELECT FROM projection_shards WHERE holder = %s ORDER BY schema_name, shard FOR UPDATE
"""
_SEEN: Final[LiteralString] = """
    INSERT INTO projection_workers (holder, knows) VALUES (%s, %s)
    ON CONFLICT (holder) DO UPDATE SET seen_at = now(), knows = EXCLUDED.knows
"""
_FORGET: Final[LiteralString] = "DELETE FROM projection_workers WHERE seen_at < now() - make_interval(secs => %s)"
_KEEP: Final[LiteralString] = """
    UPDATE projection_shards SET leased_until = now() + make_interval(secs => %s) WHERE holder = %s
"""
_WANTED: Final[LiteralString] = """
    WITH known AS (
        SELECT s.schema_name, s.shard, s.holder = %(holder)s AS mine,
            s.holder IS NULL OR s.leased_until < now() AS free,
            greatest(1, (SELECT count(*) FROM projection_workers w WHERE b.name || ' ' || b.version = ANY(w.knows)))
                AS knowers
        FROM projection_shards s JOIN projection_builds b USING (schema_name)
        WHERE b.state = ANY(%(followed)s) AND b.name || ' ' || b.version = ANY(%(knows)s)
    )
    SELECT schema_name, shard, coalesce(mine, false) FROM known WHERE mine OR free
    ORDER BY knowers, mine DESC NULLS LAST, schema_name, shard
    LIMIT (SELECT ceil(round(sum(1.0 / knowers), 6)) FROM known)
"""
_GIVE_BACK: Final[LiteralString] = """
    UPDATE projection_shards SET holder = NULL, leased_until = NULL, epoch = epoch + 1
    WHERE holder = %s AND (schema_name, shard) NOT IN (SELECT * FROM unnest(%s::text[], %s::integer[]))
"""
_TAKE: Final[LiteralString] = """
    UPDATE projection_shards SET holder = %s, leased_until = now() + make_interval(secs => %s), epoch = epoch + 1
    WHERE (schema_name, shard) IN (
        SELECT s.schema_name, s.shard FROM projection_shards s
        JOIN unnest(%s::text[], %s::integer[]) AS wanted (schema_name, shard) USING (schema_name, shard)
        WHERE s.holder IS NULL OR s.leased_until < now()
        ORDER BY s.schema_name, s.shard FOR UPDATE OF s SKIP LOCKED)
"""
_HELD: Final[LiteralString] = """
    SELECT s.schema_name, b.name, b.version, s.shard,
        (SELECT count(*) FROM projection_shards o WHERE o.schema_name = s.schema_name),
        s.position, s.epoch, CASE WHEN s.hold_until > now() THEN s.hold_at END
    FROM projection_shards s JOIN projection_builds b USING (schema_name)
    WHERE s.holder = %s AND s.leased_until > now() AND NOT s.paused AND s.stopped IS NULL AND b.state = ANY(%s)
    ORDER BY s.schema_name, s.shard
"""
_RELEASE: Final[LiteralString] = """
    UPDATE projection_shards SET holder = NULL, leased_until = NULL, epoch = epoch + 1 WHERE holder = %s
"""
_MOVE: Final[LiteralString] = """
    WITH given AS (SELECT %s::bigint AS ceiling, %s::uuid AS holder)
    UPDATE projection_shards s SET position = given.ceiling, updated_at = now()
    FROM given, unnest(%s::text[], %s::integer[], %s::bigint[], %s::bigint[]) AS k (schema_name, shard, epoch, position)
    WHERE s.schema_name = k.schema_name AND s.shard = k.shard AND s.epoch = k.epoch AND s.position = k.position
      AND s.holder = given.holder AND NOT s.paused AND s.stopped IS NULL
      AND (s.hold_until IS NULL OR s.hold_until <= now() OR given.ceiling <= s.hold_at)
"""
