"""Uploads to a whole instance over real sockets: how soon they are acked, and what each takes and leaves."""

import asyncio
import math
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg
from msgspec import Struct
from psycopg import Connection

from api.client import WATCHED, Client
from domain.recordings.recording import Session
from infra.faults import Fault
from infra.formats.fit_writer import write_fit
from infra.formats.gpx_writer import write_gpx
from infra.processes import child_command, child_environ
from workers.cli.addresses import answers
from workers.cli.bench.measure import Bench, Contender, Goal, Shared
from workers.cli.bench.whole import API, INGEST, PARTS, PROJECTOR, Whole, free_port, whole_instance
from workers.simulation import simulate_run

_ONE: Final = "ours, 1 client"
_MANY: Final = "ours, 16 clients"
_BARE: Final = "uvicorn and one fsync, 1 client"
_ACKED: Final = "ours, acked, 16 clients"
_READY: Final = "ours, ready activities, 16 clients"
_FIT: Final = "API and workers, FIT of 3,600 points"
_GPX: Final = "API and workers, GPX of 3,600 points"
_ROWS: Final = "tables and indexes, FIT"
_MEMORY: Final = "API and workers, over all uploads"

ACK_GOALS: Final = (
    Goal("upload_ack_p99", _ONE, None, 100.0, at_most=True),
    Goal("upload_ack_to_bare", _ONE, _BARE, None),
    Goal("upload_ack_p99_16_clients", _MANY, None, None),
)
RATE_GOALS: Final = (Goal("upload_acks", _ACKED, None, None), Goal("upload_rate", _READY, None, None))
CPU_GOALS: Final = (
    Goal("upload_fit_cpu", _FIT, None, 22.0, at_most=True),
    Goal("upload_gpx_cpu", _GPX, None, 60.0, at_most=True),
)
BYTES_GOALS: Final = (Goal("upload_db_bytes", _ROWS, None, 2_700.0, at_most=True),)
MEMORY_GOALS: Final = (Goal("upload_rss_growth", _MEMORY, None, 64.0, at_most=True),)
GOALS: Final = (*ACK_GOALS, *RATE_GOALS, *CPU_GOALS, *BYTES_GOALS, *MEMORY_GOALS)

_OURS: Final = (API, INGEST, PROJECTOR)
_CLIENTS: Final = 16
_POINTS: Final = 3_600
_PACE: Final = 330.0
_FIRST_DAY: Final = datetime(2020, 1, 1, 7, tzinfo=UTC)
_HOME: Final = (52.5163, 13.3777)
_QUIET_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.05


class Load(Struct, frozen=True):
    """How much there is to upload."""

    fits: int = 200  # in a run, each of another day: runs of a runner at the same time would be duplicates
    cpu_fits: int = 60
    gpxs: int = 30
    grown: int = 1_000
    idle_seconds: float = 5.0


QUICK: Final = Load(fits=16, cpu_fits=8, gpxs=4, grown=16, idle_seconds=1.0)


class Uploads:
    """The benches, over one instance; each run is of a new runner, who has no followers."""

    def __init__(self, whole: Whole, database: Connection, bare_url: str, load: Load) -> None:
        self._whole = whole
        self._database = database
        self._bare_url = bare_url
        self._load = load
        self._fits = [write_fit(simulated(day)) for day in range(load.fits)]
        self._gpxs = [_dated(day) for day in range(load.gpxs)]
        self._growth = Shared(self._grown)

    def benches(self) -> list[Callable[[], Bench]]:
        """One for each unit."""
        fit = Shared(partial(self._cpu, _FIT, "FIT", self._fits[: self._load.cpu_fits]))
        gpx = Shared(partial(self._cpu, _GPX, "GPX", self._gpxs))
        rate = Shared(self._rate)
        acks = [
            Contender(_ONE, lambda: self._ack(1)),
            Contender(_MANY, lambda: self._ack(_CLIENTS)),
            Contender(_BARE, self._bare_ack),
        ]
        return [
            lambda: Bench("growth of memory", "MB", [self._growth.contender(_MEMORY)], MEMORY_GOALS, once=True),
            lambda: Bench(
                "growth of Postgres", "bytes an upload", [self._growth.contender(_ROWS)], BYTES_GOALS, once=True
            ),
            lambda: Bench("upload", "ms to the ack, 99th percentile", acks, ACK_GOALS),
            lambda: Bench("rate", "uploads/s", [rate.contender(name) for name in (_ACKED, _READY)], RATE_GOALS),
            lambda: Bench(
                "CPU",
                "ms of CPU an upload",
                [
                    shared.contender(name)
                    for total, kind, shared in ((_FIT, "FIT", fit), (_GPX, "GPX", gpx))
                    for name in (total, *(_part(kind, part) for part in PARTS))
                ],
                CPU_GOALS,
            ),
        ]

    def _ack(self, clients: int) -> float:
        return 1000 * percentile(asyncio.run(self._uploaded(self._fits, clients)), 99)

    def _bare_ack(self) -> float:
        async def run() -> Sequence[float]:
            async with Client(self._bare_url, pacing=WATCHED) as client:
                return await _acks(client, self._fits, 1)

        return 1000 * percentile(asyncio.run(run()), 99)

    def _rate(self) -> Mapping[str, float]:
        took: dict[str, float] = {}
        asyncio.run(self._uploaded(self._fits, _CLIENTS, took))
        return {_ACKED: len(self._fits) / took["acked"], _READY: len(self._fits) / took["ready"]}

    async def _uploaded(
        self, bodies: Sequence[bytes], clients: int, took: dict[str, float] | None = None
    ) -> Sequence[float]:
        """Seconds that each ack took; seconds until all were acked and ready."""
        async with self._runner() as client:
            recorded, began = self._recorded(), time.perf_counter()
            acks = await _acks(client, bodies, clients)
            acked = time.perf_counter() - began
            await self._quiet(recorded + len(bodies))
            if took is not None:
                took |= {"acked": acked, "ready": time.perf_counter() - began}
        return acks

    def _cpu(self, total: str, kind: str, bodies: Sequence[bytes]) -> Mapping[str, float]:
        taken = asyncio.run(self._cpu_taken(bodies))
        each = {part: seconds * 1000 / len(bodies) for part, seconds in taken.items()}
        return {total: sum(each[part] for part in _OURS), **{_part(kind, part): each[part] for part in PARTS}}

    async def _cpu_taken(self, bodies: Sequence[bytes]) -> Mapping[str, float]:
        """Seconds of each part, without what the same time costs when nothing comes."""
        async with self._runner() as client:
            recorded, before = self._recorded(), self._whole.cpu_seconds()
            await asyncio.sleep(self._load.idle_seconds)
            middle, began = self._whole.cpu_seconds(), time.perf_counter()
            await _acks(client, bodies, 1)
            await self._quiet(recorded + len(bodies))
            idle = (time.perf_counter() - began) / self._load.idle_seconds
            after = self._whole.cpu_seconds()
        return {part: after[part] - middle[part] - idle * (middle[part] - before[part]) for part in PARTS}

    def _grown(self) -> Mapping[str, float]:
        """After a first load, which warms everything up."""
        runs = math.ceil(self._load.grown / self._load.fits)
        asyncio.run(self._uploaded(self._fits, _CLIENTS))
        memory, rows = self._memory(), self._ask(_SIZE)
        for _ in range(runs):
            asyncio.run(self._uploaded(self._fits, _CLIENTS))
        return {
            _MEMORY: (self._memory() - memory) / 1e6,
            _ROWS: (self._ask(_SIZE) - rows) / (runs * self._load.fits),
        }

    def _memory(self) -> float:
        taken = self._whole.memory_bytes()
        return sum(taken[part] for part in _OURS)

    @asynccontextmanager
    async def _runner(self) -> AsyncIterator[Client]:
        async with Client(self._whole.instance.api_url, pacing=WATCHED) as client:
            await client.register(f"{uuid4()}@example.com", "correct horse", "Anna", uuid4())
            await self._quiet(self._recorded())
            yield client

    async def _quiet(self, recorded: int) -> None:
        """Wait until there are so many activities, nothing waits, and the read models have them all."""
        until = time.monotonic() + _QUIET_SECONDS
        inbox = self._whole.objects / "inbox"
        while self._recorded() < recorded or any(inbox.glob("[!.]*")) or self._ask(_BEHIND):
            if time.monotonic() > until:
                raise Fault(f"{recorded - self._recorded()} uploads of the bench became no activities.")
            await asyncio.sleep(_POLL_SECONDS)

    def _recorded(self) -> int:
        return self._ask(_RECORDED)

    def _ask(self, query: str) -> int:
        row = self._database.execute(query).fetchone()
        return int(row[0]) if row else 0


_RECORDED: Final = "SELECT count(*) FROM recorded_spans"
_BEHIND: Final = """
    SELECT coalesce(max(notification_id), 0) > (SELECT min(position) FROM projection_shards) FROM stored_events
"""
_SIZE: Final = """
    SELECT sum(pg_total_relation_size(oid)) FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
"""


@contextmanager
def uploads(folder: Path, load: Load) -> Iterator[Uploads]:
    """Over an instance in this folder, started and stopped again."""
    with (
        whole_instance(folder) as whole,
        _bare_server(folder / "bare") as bare_url,
        psycopg.connect(whole.instance.database_url, autocommit=True) as database,
    ):
        yield Uploads(whole, database, bare_url, load)


@contextmanager
def _bare_server(folder: Path) -> Iterator[str]:
    folder.mkdir()
    port = free_port()
    argv = [sys.executable, "-P", "-m", "workers.cli.bench.bare_server", str(folder), str(port)]
    process = subprocess.Popen(child_command(argv, on_death=signal.SIGKILL), env=dict(child_environ()))
    try:
        while not answers("127.0.0.1", port, "/"):
            if process.poll() is not None:
                raise Fault("the bench's bare server does not start: see its message above.")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def _acks(client: Client, bodies: Sequence[bytes], clients: int) -> Sequence[float]:
    """Seconds that each took, by so many clients who each send one after the other."""
    took, left = list[float](), iter(bodies)

    async def send() -> None:
        for body in left:
            began = time.perf_counter()
            await client.upload(uuid4(), body)
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(send() for _ in range(clients)))
    return took


def _part(kind: str, part: str) -> str:
    return f"{kind}: {part}"


def percentile(figures: Sequence[float], percent: float) -> float:
    """The least figure that so many percent do not exceed (nearest rank)."""
    return sorted(figures)[math.ceil(len(figures) * percent / 100) - 1]


def simulated(day: int) -> Session:
    """An hour's run at one point a second, of this day."""
    started_at = _FIRST_DAY + timedelta(days=day)
    distance = 1000 * _POINTS / _PACE
    return simulate_run(day, started_at=started_at, distance_m=distance, pace_s_per_km=_PACE, home=_HOME)


@cache
def _gpx() -> bytes:
    return write_gpx(simulated(0))


def _dated(day: int) -> bytes:
    """The same run at another day: writing 800 kB of XML takes long."""
    first, at = (f"{_FIRST_DAY + timedelta(days=days):%Y-%m-%d}T".encode() for days in (0, day))
    return _gpx().replace(first, at)
