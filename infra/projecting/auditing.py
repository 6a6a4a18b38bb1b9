"""Live rows against the log: a random share of the keys is folded again and compared."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from msgspec import Struct
from psycopg import Connection

from infra.event_store.reader import LogReader
from infra.event_store.rows import PARTITIONS
from infra.faults import Fault
from infra.keys import MasterKeys
from infra.projecting.builds import Build, Registry
from infra.projecting.folding import Held
from infra.projecting.holding import held_together
from infra.projecting.leaving import leaving, parked_owners, unread_tables
from infra.projecting.quarantine import held_keys
from infra.projecting.refold import Part, left_out, refold
from infra.projecting.tables import Store, prepare, stores
from projections.projection import Key

_SHOWN = 10


class Drift(Struct, frozen=True):
    """A row that is not as the log has it."""

    table: str
    key: Sequence[Any]
    owner: UUID  # of the ids in a key, the one whose rows are to be made anew
    what: str


class Audited(Struct, frozen=True):
    """One build, and what differs."""

    build: str
    position: int
    partitions: int
    rows: int
    differing: int  # rows
    differences: Sequence[Drift]  # the first of them
    left_out: int = 0  # owners of streams that cannot be read
    unread: Sequence[str] = ()  # tables that hang on streams of others which cannot be read: not compared


def audit(database_url: str, registry: Registry, master: MasterKeys, name: str | None, percent: float) -> list[Audited]:
    """Of every build that is read: all rows of so many of the log's 256 partitions, drawn at random. `Fault`."""
    count = max(1, round(PARTITIONS * percent / 100))
    dice = random.SystemRandom()
    read = {pointer.active for pointer in registry.pointers().values() if name in {None, pointer.name}}
    found = []
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        psycopg.connect(database_url, autocommit=True) as reading,
    ):
        prepare(reading)
        for build in registry.builds(name):
            if build.schema_name in read and registry.defined(build):
                partitions = frozenset(dice.sample(range(PARTITIONS), count))
                found.append(_audit(connection, reading, registry, master, build, partitions))
    return found


def _audit(
    connection: Connection,
    reading: Connection,
    registry: Registry,
    master: MasterKeys,
    build: Build,
    partitions: frozenset[int],
) -> Audited:
    projection = registry.definition(build)
    live: dict[str, dict[Any, Any]] = {}
    with held_together(connection, [build.schema_name]) as position:
        reading.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        reading.execute("SELECT 1")  # the snapshot is taken by the first statement
        levels = reading.execute(
            "SELECT DISTINCT position FROM projection_shards WHERE schema_name = %s", (build.schema_name,)
        ).fetchall()
    if levels != [(position,)]:
        raise Fault(f"{build} did not stay at one position: another operator works on it. Try again.")
    for fold in projection.folds:
        live[fold.table.name] = stores(projection, build.schema_name)[fold.table.name].of_partitions(
            reading, partitions
        )
    held = held_keys(reading, projection, build.schema_name)
    reading.execute("ROLLBACK")
    found: list[Drift] = []
    parts = [(projection, Part(foreign, partitions)) for foreign in (False, True)]
    for one in refold(LogReader(reading, master), parts, position, left_out(reading)):
        for table in one.tables:
            store = stores(projection, build.schema_name)[table]
            folded = {store.key_of(row): row for row in one.of_table(table)}
            found += _drift(store, folded, live[table], held)
    parked = parked_owners(reading)  # after the log was read, which finds them
    gone = {*leaving(reading, position), *parked}
    unread = unread_tables(reading, projection) if parked else []
    drift = [one for one in found if one.owner not in gone and one.table not in unread]
    rows = sum(map(len, live.values()))
    return Audited(str(build), position, len(partitions), rows, len(drift), drift[:_SHOWN], len(parked), unread)


def _drift(store: Store, folded: Mapping[Key, Any], live: Mapping[Key, Any], held: Held) -> Iterator[Drift]:
    table = store.table.name
    for key in folded.keys() | live.keys():
        if (table, key) in held or folded.get(key) == live.get(key):
            continue
        if key not in live:
            what = "is missing"
        elif key not in folded:
            what = "should not be there"
        else:
            names = [
                name for name in folded[key].__struct_fields__ if getattr(folded[key], name) != getattr(live[key], name)
            ]
            what = f"differs in {', '.join(names)}"
        yield Drift(table, key, store.owner_of(folded.get(key, live.get(key))), what)
