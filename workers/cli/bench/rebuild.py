"""Rebuilding from a large log, and keeping up with a running one, beside the library's runner and a bare COPY."""

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg
from psycopg import Connection

from infra.event_store.mapper import MAPPER, associated
from infra.event_store.reader import LogReader
from infra.event_store.rows import partition_of
from infra.faults import Fault
from infra.keys import MasterKeys, UserCipher
from infra.processes import cores
from infra.projecting.builds import Registry
from infra.projecting.live import LiveTables
from infra.projecting.rebuild import Options, Progress, rebuilding
from infra.projecting.shards import LeaseLost, Shard
from infra.projecting.tables import prepare
from workers.cli.bench.appending import MASTER
from workers.cli.bench.decoding import key_of
from workers.cli.bench.events import log
from workers.cli.bench.measure import Bench, Contender, Goal
from workers.cli.bench.replay import fill, scan_opened
from workers.cli.bench.stock import StockRunner
from workers.projector import Projector

MEMORY: Final = 512 * 1024**2
_MODELS: Final = ("goals", "people", "summaries")
_ALL: Final = (*_MODELS, "activities", "changes", "feed")
_REBUILD: Final = "ours, 3 models in one pass"
_WITH_CARDS: Final = "ours, 4 models, with activities as sealed in the log"
_WITH_FEED: Final = "ours, 4 models, with the feed"
_ONE_CORE: Final = "ours, 3 models, one worker"
_COPY: Final = "COPY + decode, one process"
_STOCK: Final = "stock runner, 1 model"
_ALL_MODELS: Final = "ours, 6 models"
_LIVE: Final = "ours, 3 models, one worker"
_LIVE_ALL: Final = "ours, 6 models, one worker"
REBUILD_GOALS: Final = (
    Goal("rebuild", _REBUILD, None, 100_000.0),
    Goal("rebuild_to_copy", _REBUILD, _COPY, 0.3),
    Goal("rebuild_to_stock", _REBUILD, _STOCK, 100.0),
    Goal("rebuild_with_activities", _WITH_CARDS, _COPY, None),
    Goal("rebuild_with_feed", _WITH_FEED, _COPY, None),
    Goal("rebuild_one_worker", _ONE_CORE, _COPY, None),
)
MEMORY_GOALS: Final = (Goal("rebuild_memory", _ALL_MODELS, None, MEMORY / 1024**2, at_most=True),)
LIVE_GOALS: Final = (
    Goal("live_projection", _LIVE, None, 20_000.0),
    Goal("live_projection_all", _LIVE_ALL, None, None),
    Goal("live_projection_to_stock", _LIVE, _STOCK, None),
)
LAG_GOALS: Final = (Goal("live_lag_p99", _LIVE_ALL, None, 100.0, at_most=True),)
_STOCK_EVENTS: Final = 2_000
_LAG_RATE: Final = 2_000  # events a second
_LAG_BATCH: Final = 20  # events in a transaction, so that one connection keeps the rate


class Rebuilds:
    """A log of its own, which every run rebuilds anew."""

    def __init__(self, url: str, stock_url: str, events: int) -> None:
        self._url, self._events = url, events
        self._stock = StockRunner(stock_url, log(events), min(events, _STOCK_EVENTS))
        with psycopg.connect(url, autocommit=True) as connection:
            fill(connection, events, sealed=True)
            connection.execute("VACUUM (ANALYZE) stored_events")
            _registered(connection)

    def bench(self) -> Bench:
        """Every contender reads the same number of events, but for the stock runner, which would take an hour."""
        return Bench(
            name="rebuild",
            unit=f"events/s of {self._events:,} events",
            contenders=[
                Contender(_REBUILD, lambda: self._rebuild(_MODELS, cores())),
                Contender(_WITH_CARDS, lambda: self._rebuild((*_MODELS, "activities"), cores())),
                Contender(_WITH_FEED, lambda: self._rebuild((*_MODELS, "feed"), cores())),
                Contender(_ONE_CORE, lambda: self._rebuild(_MODELS, 1)),
                Contender(_COPY, self._copy),
                Contender(_STOCK, self._stock.run),
            ],
            goals=REBUILD_GOALS,
        )

    def memory_bench(self) -> Bench:
        """The most that the command and its workers have at once, all models in one pass."""
        return Bench(
            name="rebuild_memory",
            unit="MiB",
            contenders=[Contender(_ALL_MODELS, self._peak)],
            goals=MEMORY_GOALS,
        )

    def _peak(self) -> float:
        with _peak_of_children() as peak:
            self._rebuild(_ALL, 2)
        return peak[0] / 1024**2

    def _rebuild(self, names: Sequence[str], workers: int) -> float:
        with psycopg.connect(self._url, autocommit=True) as connection:
            registry = _registered(connection)
            began = time.perf_counter()
            with rebuilding(connection, registry, self._url, [MASTER], _quiet) as rebuild:
                builds = rebuild.start(names, restart=True)
                rebuild.fill(builds, Options(workers, MEMORY, 3_600.0))
            rate = self._events / (time.perf_counter() - began)
            for build in builds:
                registry.drop(build)
            connection.execute("CHECKPOINT")
        return rate

    def _copy(self) -> float:
        with psycopg.connect(self._url, autocommit=True) as connection:
            return scan_opened(connection)


def _quiet(_progress: Progress) -> None:
    """The bench tells what it does itself."""


def _registered(connection: Connection) -> Registry:
    registry = Registry(connection)
    registry.register()
    return registry


@contextmanager
def _peak_of_children() -> Iterator[list[int]]:
    """The most bytes that the children of this process had at once, and what it has gained itself (Linux)."""
    peak, stop = [0], threading.Event()

    own, page = os.getpid(), os.sysconf("SC_PAGE_SIZE")

    def resident(pid: int | str) -> int:
        with contextlib.suppress(OSError):
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
        return 0

    before = resident(own)

    def watch() -> None:
        while not stop.wait(0.02):
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
                peak[0] = max(peak[0], sum(map(resident, children)) + max(0, resident(own) - before))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield peak
    finally:
        stop.set()
        watching.join()


class Live:
    """One worker, at full speed through a log and at a steady rate behind a writer."""

    def __init__(self, url: str, stock_url: str, events: int) -> None:
        self._url, self._events = url, events
        self._stock = StockRunner(stock_url, log(events), min(events, _STOCK_EVENTS))
        with psycopg.connect(url, autocommit=True) as connection:
            _registered(connection)
            fill(connection, events, sealed=True)
            connection.execute("VACUUM (ANALYZE) stored_events")

    def bench(self) -> Bench:
        """From the first event to the last, into tables that were emptied."""
        return Bench(
            name="live",
            unit="events/s",
            contenders=[
                Contender(_LIVE, lambda: self._catch_up(_MODELS)),
                Contender(_LIVE_ALL, lambda: self._catch_up(_ALL)),
                Contender(_STOCK, self._stock.run),
            ],
            goals=LIVE_GOALS,
        )

    def _catch_up(self, names: Sequence[str]) -> float:
        with _worker(self._url) as (connection, projector):
            _emptied(connection)
            connection.execute(_ONLY, (list(names),))
            began = time.perf_counter()
            while projector.turn():
                pass
            seconds = time.perf_counter() - began
            row = connection.execute("SELECT min(position) FROM projection_shards WHERE NOT paused").fetchone()
            if row is None or row[0] != self._events:
                raise Fault(f"the bench's projector stopped at {row}")
            connection.execute(_ONLY, (list(_ALL),))
        return self._events / seconds

    def lag_bench(self, seconds: float) -> Bench:
        """From the commit of an event to the commit of its rows, at 2,000 events a second."""
        return Bench(
            name="live_lag_p99",
            unit="ms",
            contenders=[Contender(_LIVE_ALL, lambda: self._lag(seconds))],
            goals=LAG_GOALS,
        )

    def _lag(self, seconds: float) -> float:
        stop, lags = threading.Event(), list[float]()
        with _worker(self._url) as (connection, projector):
            while projector.turn():
                pass
            writing = threading.Thread(target=_write_steadily, args=(self._url, seconds, stop))
            writing.start()
            seen = _last(connection)
            while not stop.is_set() or projector.turn():
                if projector.turn() == 0:
                    time.sleep(0.002)
                    continue
                now = _last(connection)
                lags += [float(lag) for (lag,) in connection.execute(_LAGS, (seen, now))]
                seen = now
            writing.join()
        return statistics.quantiles(lags, n=100)[98] * 1000


def _last(connection: Connection) -> int:
    row = connection.execute("SELECT min(position) FROM projection_shards").fetchone()
    return int(row[0]) if row else 0


def _write_steadily(url: str, seconds: float, stop: threading.Event) -> None:
    """New runners' events in batches, each at its time."""
    keys, master = set[object](), MasterKeys([MASTER])
    count = round(seconds * _LAG_RATE)
    made = log(count, seed=round(time.time()))
    began = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(count // _LAG_BATCH):
            time.sleep(max(0.0, began + number * _LAG_BATCH / _LAG_RATE - time.monotonic()))
            batch = list(islice(made, _LAG_BATCH))
            with connection.transaction():
                for one in batch:
                    owner = one.owner_id
                    if owner not in keys:
                        keys.add(owner)
                        wrapped = master.wrap(owner, key_of(owner)).wrapped
                        connection.execute(_KEY, (owner, master.current, wrapped))
                    place = associated(owner, one.stream_id, one.version)
                    topic, state = MAPPER.encode(one.event, UserCipher(key_of(owner)), place)
                    row = (one.stream_id, one.version, topic, state, owner, partition_of(owner))
                    connection.execute(_APPEND, row)
    stop.set()


@contextmanager
def _worker(url: str) -> Iterator[tuple[Connection, Projector[Shard]]]:
    with (
        psycopg.connect(url, autocommit=True) as reading,
        psycopg.connect(url, autocommit=True) as writing,
    ):
        reader = LogReader(reading, MasterKeys([MASTER]))
        tables = LiveTables(prepare(writing, live=True), reader, uuid4())
        yield reading, Projector(tables, LeaseLost)
        tables.release()


def _emptied(connection: Connection) -> None:
    schemas = [str(schema) for (schema,) in connection.execute("SELECT active FROM projection_pointers")]
    for schema, table in connection.execute(_TABLES, (schemas,)).fetchall():
        connection.execute(f'TRUNCATE "{schema}"."{table}"')
    connection.execute("UPDATE projection_shards SET position = 0, holder = NULL, epoch = epoch + 1")


_ONLY: Final = """
    UPDATE projection_shards s SET paused = b.name <> ALL(%s) FROM projection_builds b
    WHERE b.schema_name = s.schema_name
"""
_TABLES: Final = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)"
_LAGS: Final = """
    SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8 FROM stored_events
    WHERE notification_id > %s AND notification_id <= %s
"""
_KEY: Final = """
    INSERT INTO user_keys (owner_id, master_id, wrapped) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""
_APPEND: Final = """
    INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
    VALUES (%s, %s, %s, %s, %s, %s)
"""
