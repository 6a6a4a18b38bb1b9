"""Whether two builds hold the same at one position: digests by bucket, and the rows behind each difference."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final
from uuid import UUID

import psycopg
from msgspec import Struct
from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from infra.faults import Fault
from infra.projecting.builds import Build, Registry
from infra.projecting.columns import columns_of
from infra.projecting.holding import held_together, release
from infra.projecting.leaving import leaving, parked_owners, unread_tables
from projections.projection import Projection, Table

SHOWN: Final = 10  # differing keys of a table, with their rows


class Compared(Struct, frozen=True):
    """One table, or one of the projection's own comparisons."""

    name: str
    rows: int  # of the new build
    buckets: int  # of 256, those that differ
    differences: Sequence["Difference"] = ()


class Difference(Struct, frozen=True):
    """A key, the user whose it is, and its rows in the old build and in the new one; None: there is no row."""

    key: Mapping[str, Any]
    owner: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None


class Verdict(Struct, frozen=True):
    """At which position two builds were compared, and how they differ."""

    old: str
    new: str
    position: int
    compared: Sequence[Compared]
    left_out: int  # owners whose rows were not compared: quarantined, of a parked stream, or just being erased
    parked: int = 0  # streams
    unread: Sequence[str] = ()  # tables that hang on streams of others which cannot be read: not compared

    @property
    def equal(self) -> bool:
        """No bucket differs."""
        return all(table.buckets == 0 for table in self.compared)

    @property
    def advice(self) -> str:
        """What to do where they differ."""
        return differing_advice(self.new.partition(" ")[0], self.parked)


def differing_advice(name: str, parked: int) -> str:
    """Which of two builds of a projection is wrong, and what mends it. `parked`: streams that cannot be read, of which
    what is read may well have more than the log.
    """
    mended = (
        f"{parked} streams cannot be read, which comes first: cairn projections quarantine list names them, and cairn "
        "projections heal lets them go on once they are mended; then, "
    )
    return (mended if parked else "") + (
        f"where cairn projections audit {name} --sample 100% finds that what is read is wrong, rebuild {name} "
        f"--users ID,... mends the rows of some users, and cutover {name} --although-it-differs reads the new build"
    )


class _Pair(Struct, frozen=True):
    """What is compared: the same columns of both, the owner's id among them."""

    name: str
    old: Composable
    new: Composable
    columns: Sequence[str]
    owner: str
    key: Sequence[str]


def verify(database_url: str, registry: Registry, old: Build, new: Build) -> Verdict:
    """Compare the builds at one position, to which live shards are brought for a moment. `Fault`."""
    pairs = list(_pairs(registry.definition(old), registry.definition(new), old, new))
    with psycopg.connect(database_url, autocommit=True) as connection:
        schemas = (old.schema_name, new.schema_name)
        with _snapshot(database_url, connection, schemas) as (snapshot, position):
            parked = parked_owners(snapshot)
            unread = _touched(snapshot, registry.definition(old), old, list(parked)) if parked else []
            alone = {*_quarantined(snapshot, schemas), *leaving(snapshot, position), *parked}
            left_out = alone.union(unread)
            folded = {fold.table.name for fold in registry.definition(new).folds}
            tables = unread_tables(snapshot, registry.definition(new)) if parked else []
            compared = [
                _compare(snapshot, pair, list(alone if pair.name in folded else left_out))
                for pair in pairs
                if pair.name not in tables
            ]
    streams = sum(map(len, parked.values()))
    return Verdict(str(old), str(new), position, compared, len(left_out), streams, tables)


@contextmanager
def _snapshot(database_url: str, connection: Connection, schemas: Sequence[str]) -> Iterator[tuple[Connection, int]]:
    """A snapshot in which the builds are at one position; workers go on as soon as it is there."""
    with psycopg.connect(database_url, autocommit=True) as reading:
        reading.execute("SET max_parallel_workers_per_gather = 0")  # the other cores are for runners
        with held_together(connection, schemas) as position:
            reading.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            row = reading.execute(
                "SELECT min(position), max(position) FROM projection_shards WHERE schema_name = ANY(%s)",
                (list(schemas),),
            ).fetchone()
            if row != (position, position):
                raise Fault("the builds did not stay at one position: another operator compares them now. Try again.")
            release(connection, schemas)
        yield reading, position
        reading.execute("ROLLBACK")


def _quarantined(connection: Connection, schemas: Sequence[str]) -> list[Any]:
    found = connection.execute(
        "SELECT DISTINCT owner_id FROM quarantined_keys WHERE schema_name = ANY(%s)", (list(schemas),)
    )
    return [owner for (owner,) in found]


def _touched(connection: Connection, projection: Projection, build: Build, owners: Sequence[UUID]) -> Sequence[UUID]:
    """With those whose derived rows hang on the rows of these owners."""
    return projection.derived.touched(owners, connection, build.schema_name) if projection.derived else owners


def _pairs(before: Projection, after: Projection, old: Build, new: Build) -> Iterator[_Pair]:
    if before.version != after.version and after.compares:
        for own in after.compares:
            was, now = (
                SQL(text).format(s=Identifier(build.schema_name))
                for text, build in ((own.before, old), (own.after, new))
            )
            yield _Pair(own.name, was, now, own.columns, own.columns[0], own.columns)
        return
    olds = {table.name: table for table in before.tables}
    differs = after.differs if before.version != after.version else frozenset()
    for table in after.tables:
        if table.name in olds:
            yield _table_pair(olds[table.name], table, differs, old, new)


def _table_pair(was: Table[Any], now: Table[Any], differs: frozenset[str], old: Build, new: Build) -> _Pair:
    had = {column.name for column in columns_of(was.row)}
    columns = [column for column in columns_of(now.row) if column.name in had and column.name not in differs]
    listed = SQL(", ").join(
        SQL("{0}::text AS {0}").format(Identifier(column.name)) if column.sql == "json" else Identifier(column.name)
        for column in columns
    )
    old_side, new_side = (
        SQL("SELECT {} FROM {}").format(listed, Identifier(build.schema_name, now.name)) for build in (old, new)
    )
    return _Pair(now.name, old_side, new_side, [column.name for column in columns], now.owner, now.key)


def _compare(connection: Connection, pair: _Pair, left_out: Sequence[Any]) -> Compared:
    old, new = (_digests(connection, side, pair, left_out) for side in (pair.old, pair.new))
    differing = sorted(bucket for bucket in old.keys() | new.keys() if old.get(bucket) != new.get(bucket))
    differences = [*islice(_differences(connection, pair, differing, left_out), SHOWN)] if differing else []
    return Compared(pair.name, sum(count for count, _ in new.values()), len(differing), differences)


def _digests(
    connection: Connection, side: Composable, pair: _Pair, left_out: Sequence[Any]
) -> dict[int, tuple[int, Any]]:
    statement = _DIGESTS.format(side=side, owner=Identifier(pair.owner), row=_row(pair.columns))
    return {bucket: (count, total) for bucket, count, total in connection.execute(statement, (list(left_out),))}


def _differences(
    connection: Connection, pair: _Pair, buckets: Sequence[int], left_out: Sequence[Any]
) -> Iterator[Difference]:
    statement = _DIFFERENCES.format(
        old=pair.old,
        new=pair.new,
        owner=Identifier(pair.owner),
        row=_row(pair.columns),
        key=SQL(", ").join(SQL("found ->> {}").format(Literal(name)) for name in pair.key),
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement, {"buckets": list(buckets), "left_out": list(left_out), "most": 2 * SHOWN})
        sides: dict[tuple[Any, ...], list[Mapping[str, Any] | None]] = {}
        owners: dict[tuple[Any, ...], str] = {}
        for found in cursor:
            side, row = found["side"], found["found"]
            key = tuple(row[name] for name in pair.key)
            sides.setdefault(key, [None, None])[side] = row
            owners[key] = row[pair.owner]
    for key, (was, now) in sides.items():
        yield Difference(dict(zip(pair.key, key, strict=True)), owners[key], was, now)


def _row(columns: Sequence[str]) -> Composed:
    return SQL(", ").join(SQL("r.{}").format(Identifier(name)) for name in columns)


_DIGESTS: Final = SQL("""
    SELECT get_byte(uuid_send(r.{owner}), 15), count(*), sum(hashtextextended(ROW({row})::text, 0)::numeric)
    FROM ({side}) r WHERE r.{owner} <> ALL(%s::uuid[]) GROUP BY 1
""")
_DIFFERENCES: Final = SQL("""
    WITH old AS (
        SELECT r.*, ROW({row})::text AS whole FROM ({old}) r
        WHERE get_byte(uuid_send(r.{owner}), 15) = ANY(%(buckets)s) AND r.{owner} <> ALL(%(left_out)s::uuid[])
    ), new AS (
        SELECT r.*, ROW({row})::text AS whole FROM ({new}) r
        WHERE get_byte(uuid_send(r.{owner}), 15) = ANY(%(buckets)s) AND r.{owner} <> ALL(%(left_out)s::uuid[])
    ), differing AS (
        SELECT 0 AS side, to_jsonb(o) - 'whole' AS found FROM old o
        WHERE NOT EXISTS (SELECT FROM new n WHERE n.whole = o.whole)
        UNION ALL
        SELECT 1, to_jsonb(n) - 'whole' FROM new n WHERE NOT EXISTS (SELECT FROM old o WHERE o.whole = n.whole)
    )
    SELECT side, found FROM differing ORDER BY {key} LIMIT %(most)s
""")
