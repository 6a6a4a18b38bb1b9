"""Building the tables of new versions from the log, beside those that are read: resumable, in bounded memory.

Each part of the log is folded in memory by one of several processes and copied in, in one transaction with the note
that it is done. Then come keys and indexes, then what is derived, and then workers follow the log from there on.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from itertools import accumulate, pairwise
from typing import Any, Final, LiteralString

import psycopg
from msgspec import Struct
from msgspec.structs import replace
from psycopg import Connection

from infra.event_store.fence import Fence
from infra.event_store.mapper import MAPPER
from infra.event_store.rows import PARTITIONS
from infra.faults import Fault
from infra.projecting.builds import DIFFERS, Build, Registry
from infra.projecting.columns import columns_of
from infra.projecting.lag import live_lag_seconds
from infra.projecting.part_pool import PartPool
from infra.projecting.part_worker import Share, Task, Told
from infra.projecting.tables import fingerprint, index_table, make_tables, prepare
from projections.projection import Fold, Projection

_WORKER_BYTES: Final = 72 * 1024**2  # of a process before it has rows
_ROW_BYTES: Final = 450  # of a row in memory, with its key, beside what it holds of an event as it is stored
_WIDE_BYTES: Final = 150  # more, of a row with bytes: it has other fields too, an id, times and texts
_SAMPLED_PAGES: Final = 4_000  # of the log, to see what is in it
_FOREIGN_EVENTS: Final = 1.5  # what one of another's stream takes, in events of the owner's: it touches two rows
_TICK_SECONDS: Final = 0.2
_LAG_SECONDS: Final = 0.5  # between two looks at how far live projections are behind


class Options(Struct, frozen=True):
    """How a rebuild may go about it."""

    workers: int
    memory_bytes: int
    max_live_lag_seconds: float


class Progress(Struct, frozen=True):
    """How far it is. `fraction` is of the parts; None in phases whose length is not known."""

    phase: str
    fraction: float | None = None
    events: int = 0
    events_per_second: float = 0.0
    seconds_left: float | None = None
    throttled: bool = False


class Rebuild:
    """Of some projections, in one pass of the log. One connection, in autocommit."""

    def __init__(
        self,
        connection: Connection,
        registry: Registry,
        database_url: str,
        master_keys: Sequence[bytes],
        told: Callable[[Progress], None],
    ) -> None:
        self._connection = connection
        self._registry = registry
        self._database_url = database_url
        self._master_keys = master_keys
        self._told = told
        self.peak_bytes = 0  # of the largest worker

    def start(self, names: Sequence[str], *, restart: bool) -> list[Build]:
        """The builds to fill: those that were begun before, else new ones of the newest versions.

        What is filled and not read yet says nothing of rows that are in doubt now: it makes room for another. `Fault`
        when somebody tries it.
        """
        for name in names:
            self._registry.named(name)
            self._registry.claim(name)
        self._registry.refuse_tried([build for name in names for build in self._dropped(name, restart=restart)])
        return [self._start(name, restart=restart) for name in names]

    def _own(self, name: str) -> list[Build]:
        version = self._registry.newest(name).version
        return [build for build in self._registry.builds(name) if build.version == version]

    def _unread(self, name: str) -> list[Build]:
        """Of the newest version, without those that were read once: nobody fills these, or they are for a rollback."""
        read = {
            schema for pointer in self._registry.pointers().values() for schema in (pointer.active, pointer.standby)
        }
        return [build for build in self._own(name) if build.schema_name not in read and build.state != "retired"]

    def _dropped(self, name: str, *, restart: bool) -> list[Build]:
        current = fingerprint(self._registry.newest(name))
        return [
            build
            for build in self._unread(name)
            if restart or build.fingerprint != current or build.state == "ready" or build.reason == DIFFERS
        ]

    def _start(self, name: str, *, restart: bool) -> Build:
        dropped = self._dropped(name, restart=restart)
        for build in self._unread(name):
            if build not in dropped:
                return build
        for build in dropped:
            self._registry.drop(build)
        kept = [build.build for build in self._own(name)]
        return self._registry.insert(self._registry.newest(name), max(kept, default=0) + 1, "planned")

    def fill(self, builds: Sequence[Build], options: Options) -> None:
        """Bring the builds to where workers can follow. What was done by an earlier run is not done again. `Fault`."""
        todo = [build for build in builds if build.state in {"planned", "building", "indexing"}]
        try:
            if any(build.state != "indexing" for build in todo):
                with self._pool(options) as pool:  # it starts meanwhile
                    self._prepare([build for build in todo if build.state == "planned"], options)
                    building = [build for build in self._now(todo) if build.state == "building"]
                    self._fold(building, pool, options.max_live_lag_seconds)
                for build in building:
                    self._registry.set_state(build, "indexing")
            self._index_all(self._now(todo), options.workers)
        except psycopg.Error as error:
            reason = f"{type(error).__name__}: {str(error).strip()}"
            self._note(todo, reason)
            raise Fault(f"the rebuild stopped: {reason}. Run the same command again to go on from there.") from error
        except Fault as fault:
            self._note(todo, str(fault))
            raise

    def _pool(self, options: Options) -> PartPool:
        # each may have its share; what this process takes itself is set aside
        share = (options.memory_bytes - _WORKER_BYTES) // options.workers
        return PartPool(self._database_url, self._master_keys, options.workers, int(share * 0.9))

    def _note(self, builds: Sequence[Build], reason: str) -> None:
        with contextlib.suppress(psycopg.Error):
            for build in self._now(builds):
                self._registry.set_state(build, build.state, reason=reason)

    def _now(self, builds: Sequence[Build]) -> list[Build]:
        wanted = {build.schema_name for build in builds}
        return [build for build in self._registry.builds() if build.schema_name in wanted]

    def _prepare(self, planned: Sequence[Build], options: Options) -> None:
        upto = Fence(self._connection).last_event(of_all=True)
        parts = self._parts([self._registry.definition(build) for build in planned], options)
        for build in planned:
            projection = self._registry.definition(build)
            with self._connection.transaction():
                make_tables(self._connection, projection, build.schema_name, indexed=False)
                for foreign in {fold.foreign for fold in projection.folds}:
                    for first, last in [(0, PARTITIONS - 1)] if foreign else parts:
                        self._connection.execute(_ADD_PART, (build.schema_name, foreign, first, last))
                self._registry.set_state(build, "building", built_to=upto)

    def _parts(self, projections: Sequence[Projection], options: Options) -> list[tuple[int, int]]:
        """First and last partition of each: so many that each fits into a worker, and of such sizes that all workers
        end at the same time, one of which makes what is foreign too.
        """
        seen = self._seen()
        folds = [fold for projection in projections for fold in projection.folds]
        wide = [fold for fold in folds if any(column.sql == "bytea" for column in columns_of(fold.table.row))]
        state = sum(
            count * (_ROW_BYTES + (size + _WIDE_BYTES if fold in wide else 0))
            for fold in folds
            for count, size in (seen.get(topic, (0.0, 0.0)) for topic in MAPPER.topics_of(fold.events))
        )
        own, foreign = (
            sum(seen.get(topic, (0.0, 0.0))[0] for topic in _topics(folds, foreign=kind)) for kind in (False, True)
        )
        rounds = max(1, math.ceil(state / _room(options) / options.workers))
        each = (own + _FOREIGN_EVENTS * foreign) / options.workers  # of the work
        first_one = max(each / 2, each - _FOREIGN_EVENTS * foreign)
        return _cut([*[each] * (options.workers - 1), first_one] * min(rounds, PARTITIONS // options.workers))

    def _seen(self) -> dict[str, tuple[float, float]]:
        """By topic: about how many events there are, and the bytes of one."""
        row = self._connection.execute("SELECT greatest(1, pg_relation_size('stored_events') / 8192)").fetchone()
        percent = min(100.0, 100 * _SAMPLED_PAGES / (row[0] if row else 1))
        return {
            str(topic): (count * 100 / percent, float(size))
            for topic, count, size in self._connection.execute(_SAMPLE, (percent,))
        }

    def _fold(self, builds: Sequence[Build], pool: PartPool, max_live_lag_seconds: float) -> None:
        tasks = self._tasks(builds)
        meter, looked_at = _Meter(len(tasks)), 0.0
        pool.add(tasks)
        while not pool.finished:
            for task, told in pool.take(_TICK_SECONDS):
                self._heard(pool, task, told, meter)
            if time.monotonic() - looked_at > _LAG_SECONDS:
                pool.throttle(live_lag_seconds(self._connection) > max_live_lag_seconds)
                looked_at = time.monotonic()
            self._told(meter.progress(throttled=pool.throttled))

    def _tasks(self, builds: Sequence[Build]) -> list[Task]:
        """Parts that are not done: builds with the same part and position go through the log together.

        What is foreign is made by who makes the smallest of the others: the parts were cut for that.
        """
        by_schema = {build.schema_name: build for build in builds}
        found: dict[tuple[bool, int, int, int], list[tuple[str, str, int]]] = {}
        rows = self._connection.execute(_UNDONE, (list(by_schema),))
        for schema, foreign, first, last in rows:
            build = by_schema[schema]
            place = (foreign, first, last, build.built_to or 0)
            found.setdefault(place, []).append((schema, build.name, build.version))
        parts = sorted(found.items())
        return _together(
            [Task([Share(foreign, first, last, own)], upto) for (foreign, first, last, upto), own in parts]
        )

    def _heard(self, pool: PartPool, task: Task, told: Told, meter: "_Meter") -> None:
        if told.fault:
            raise Fault(f"a part of the rebuild failed: {told.fault}. Run the same command again to go on from there.")
        if told.too_big:
            smaller = self._smaller(task)
            meter.more(len(smaller) - 1)
            pool.add(smaller)
        self.peak_bytes = max(self.peak_bytes, told.peak_bytes)
        meter.heard(task, told)

    def _smaller(self, task: Task) -> list[Task]:
        """Each of its parts alone, or its only one in halves."""
        if len(task.shares) > 1:
            return [Task([share], task.upto) for share in task.shares]
        [share] = task.shares
        if share.first == share.last:
            raise Fault(
                f"the rows of partition {share.first} alone do not fit into the memory given: give more by --memory, "
                f"or fewer --workers."
            )
        middle = (share.first + share.last) // 2
        with self._connection.transaction():
            for schema, *_ in share.builds:
                self._connection.execute(_SHORTEN, (middle, schema, share.foreign, share.first))
                self._connection.execute(_ADD_PART, (schema, share.foreign, middle + 1, share.last))
        halves = replace(share, last=middle), replace(share, first=middle + 1)
        return [Task([half], task.upto) for half in halves]

    def _index_all(self, builds: Sequence[Build], at_once: int) -> None:
        """So many builds at once: each is work of one core of the server's."""
        if not builds:
            return
        self._told(Progress(f"indexing {', '.join(map(str, builds))}"))
        with ExitStack() as opened, ThreadPoolExecutor(at_once) as threads:
            connections = [opened.enter_context(psycopg.connect(self._database_url, autocommit=True)) for _ in builds]
            indexing = [
                threads.submit(_index, connection, self._registry.projections, build)
                for connection, build in zip(connections, builds, strict=True)
            ]
            try:
                for one in as_completed(indexing):
                    one.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for connection in connections:
                    connection.cancel_safe()
                raise


def _index(connection: Connection, projections: Sequence[Projection], build: Build) -> None:
    """Keys, indexes and what is derived, in one transaction with the shards from which workers go on."""
    registry = Registry(prepare(connection), projections)
    projection = registry.definition(build)
    with connection.transaction():
        connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
        connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")  # it has the one core it was given
        for fold in projection.folds:
            index_table(connection, fold.table, build.schema_name)
        if projection.derived is not None:
            projection.derived.derive(None, connection, build.schema_name)
            for table in projection.derived.tables:
                index_table(connection, table, build.schema_name)
        registry.follow(build, build.built_to or 0)
        registry.set_state(build, "catching up")


def _topics(folds: Sequence[Fold[Any]], *, foreign: bool) -> set[str]:
    return MAPPER.topics_of(event for fold in folds if fold.foreign is foreign for event in fold.events)


def _together(tasks: Sequence[Task]) -> list[Task]:
    """The first task with foreign rows and the smallest of the others as one, before the others."""
    foreign = next((task for task in tasks if task.shares[0].foreign), None)
    others = [task for task in tasks if not task.shares[0].foreign and foreign and task.upto == foreign.upto]
    if foreign is None or not others:
        return list(tasks)
    smallest = min(others, key=lambda task: task.shares[0].last - task.shares[0].first)
    left = [task for task in tasks if task not in (foreign, smallest)]
    return [Task([*smallest.shares, *foreign.shares], foreign.upto), *left]


def _cut(weights: Sequence[float]) -> list[tuple[int, int]]:
    """All partitions in parts of these weights: the first and the last of each."""
    total = sum(weights)
    if total == 0:
        return [(0, PARTITIONS - 1)]
    bounds = [round(PARTITIONS * reached / total) for reached in accumulate(weights, initial=0.0)]
    return [(first, last - 1) for first, last in pairwise(bounds) if first < last]


def _room(options: Options) -> float:
    """Of each worker, the bytes for rows."""
    room = (options.memory_bytes - _WORKER_BYTES) / options.workers - _WORKER_BYTES
    if room < 16 * 1024**2:
        raise Fault(
            f"--memory is too little for {options.workers} workers: give at least "
            f"{((_WORKER_BYTES + 16 * 1024**2) * options.workers + _WORKER_BYTES) // 1024**2 + 1}M, or fewer --workers."
        )
    return room


class _Meter:
    """Rate and time left, of parts that are much alike."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._done = 0
        self._events = 0
        self._under_way: dict[tuple[bool, int], tuple[int, float]] = {}
        self._began = time.monotonic()

    def more(self, parts: int) -> None:
        self._parts += parts

    def heard(self, task: Task, told: Told) -> None:
        place = (task.shares[0].foreign, task.shares[0].first)
        if told.done:
            self._done += 1
            self._events += told.events
        if told.done or told.too_big:
            self._under_way.pop(place, None)
        else:
            self._under_way[place] = (told.events, min(1.0, told.position / max(1, task.upto)))

    def progress(self, *, throttled: bool) -> Progress:
        fraction = (self._done + sum(done for _, done in self._under_way.values())) / max(1, self._parts)
        events = self._events + sum(count for count, _ in self._under_way.values())
        seconds = time.monotonic() - self._began
        left = seconds / fraction - seconds if fraction > 0.01 else None
        return Progress("folding", fraction, events, events / max(seconds, 0.001), left, throttled)


@contextmanager
def rebuilding(
    connection: Connection,
    registry: Registry,
    database_url: str,
    master_keys: Sequence[bytes],
    told: Callable[[Progress], None],
) -> Iterator[Rebuild]:
    """A rebuild whose names are free for others afterwards."""
    try:
        yield Rebuild(connection, registry, database_url, master_keys, told)
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.execute("SELECT pg_advisory_unlock_all()")


_SAMPLE: Final[LiteralString] = """
    SELECT topic, count(*), avg(octet_length(state))::float8 FROM stored_events TABLESAMPLE SYSTEM (%s) GROUP BY topic
"""
_UNDONE: Final[LiteralString] = """
    SELECT schema_name, foreign_rows, first_partition, last_partition FROM rebuild_parts
    WHERE schema_name = ANY(%s) AND done_at IS NULL
"""
_SHORTEN: Final[LiteralString] = """
    UPDATE rebuild_parts SET last_partition = %s
    WHERE schema_name = %s AND foreign_rows = %s AND first_partition = %s
"""
_ADD_PART: Final[LiteralString] = """
    INSERT INTO rebuild_parts (schema_name, foreign_rows, first_partition, last_partition) VALUES (%s, %s, %s, %s)
"""
