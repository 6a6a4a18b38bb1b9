"""What a rebuild would do, without doing it."""

from collections.abc import Iterator, Sequence
from typing import Final, LiteralString

from msgspec import Struct
from psycopg import Connection

from infra.event_store.mapper import MAPPER
from infra.projecting.builds import Registry
from infra.projecting.columns import columns_of
from projections.projection import Projection

_RATE: Final = 100_000.0  # events a second, before a rebuild was seen here


class Plan(Struct, frozen=True):
    """Of one projection."""

    build: str
    how: str
    events: int
    log_bytes: int
    table_bytes: int | None  # of the build that is read; None: there is none
    seconds: float
    seconds_from: str
    changes: Sequence[str]


def plan(connection: Connection, registry: Registry, name: str) -> Plan:
    """Of the newest version. `Fault` for a projection that there is not."""
    new = registry.newest(name)
    pointer = registry.pointers().get(name)
    active = next((build for build in registry.builds(name) if pointer and build.schema_name == pointer.active), None)
    topics = sorted(MAPPER.topics_of(event for fold in new.folds for event in fold.events))
    row = connection.execute(_LOG, (topics,)).fetchone()
    events, log_bytes = (int(row[0]), int(row[1])) if row else (0, 0)
    done = connection.execute(_RATE_SEEN).fetchone()
    rate = float(done[0]) if done and done[0] else None
    size = None
    if active is not None:
        found = connection.execute(_SIZE, (active.schema_name,)).fetchone()
        size = int(found[0]) if found else None
    how = "a new build of the version that is read" if active and active.version == new.version else "a new version"
    if active is None:
        how = "the first build"
    return Plan(
        build=f"{name} v{new.version}",
        how=how,
        events=events,
        log_bytes=log_bytes,
        table_bytes=size,
        seconds=events / (rate or _RATE),
        seconds_from="by what rebuilds did here before" if rate else "a guess: none was seen here yet",
        changes=[*_changes(registry.definition(active) if active else None, new)],
    )


def _changes(old: Projection | None, new: Projection) -> Iterator[str]:
    if old is None or old.version == new.version:
        yield "nothing in shape"
        return
    before = {table.name: table for table in old.tables}
    after = {table.name: table for table in new.tables}
    for name in sorted(before.keys() - after.keys()):
        yield f"table {name} goes"
    for name, table in after.items():
        if name not in before:
            yield f"table {name} is new"
            continue
        had = {column.name: column.sql for column in columns_of(before[name].row)}
        has = {column.name: column.sql for column in columns_of(table.row)}
        for column in has.keys() | had.keys():
            if column not in had:
                yield f"column {name}.{column} ({has[column]}) is new"
            elif column not in has:
                yield f"column {name}.{column} goes"
            elif had[column] != has[column]:
                yield f"column {name}.{column} was {had[column]} and is {has[column]}"
        if before[name].key != table.key:
            yield f"the key of {name} was {', '.join(before[name].key)} and is {', '.join(table.key)}"
    for name in sorted(new.differs):
        yield f"values of {name} are meant to differ"
    for comparison in new.compares:
        yield f"compared by {comparison.name}: {', '.join(comparison.columns)}"


_LOG: Final[LiteralString] = """
    SELECT count(*) FILTER (WHERE topic = ANY(%s)), pg_table_size('stored_events') FROM stored_events
"""
# Of a part, what one process folded in one pass, whatever the builds; time in which none was under way does not count.
_RATE_SEEN: Final[LiteralString] = """
    WITH parts AS (
        SELECT DISTINCT ON (done_at) events, tstzrange(done_at - make_interval(secs => seconds), done_at) AS took
        FROM rebuild_parts WHERE done_at IS NOT NULL AND NOT foreign_rows
    )
    SELECT (SELECT sum(events) FROM parts) / nullif(sum(extract(epoch FROM upper(busy) - lower(busy))), 0)
    FROM unnest((SELECT range_agg(took) FROM parts)) AS busy
"""
_SIZE: Final[LiteralString] = """
    SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'
"""
