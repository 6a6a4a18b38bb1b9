"""What the API's own process takes: kept reads, 304s and commands, beside a bare server, the framework and pgbench.

The servers are pinned to one core, all else to the others. Clients are a process of their own. The workers stand still
while it is measured: they are other processes, and pgbench has none.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import msgspec
import psycopg
from msgspec import Struct

from infra.embedded.postgres import EmbeddedPostgres
from infra.faults import Fault
from infra.formats.fit_writer import write_fit
from infra.processes import child_command, child_environ
from workers.cli.addresses import answers
from workers.cli.bench.append import INSERT, make_twin, pgbench_rate
from workers.cli.bench.appending import recorded, sealed
from workers.cli.bench.measure import Bench, Contender, Goal
from workers.cli.bench.upload import simulated
from workers.cli.bench.whole import API, INGEST, PARTS, PROJECTOR, Whole, cpu_seconds, free_port, whole_instance

_BARE: Final = "bare ASGI hello"
_ROUTE: Final = "plain route of the framework"
_KEPT: Final = "ours, kept feed of 20"
_NOT_MODIFIED: Final = "ours, 304"
_READ: Final = "ours, feed of 20 from Postgres"
_COMMANDS: Final = "ours, commands of 64 clients"
_PGBENCH: Final = "pgbench, 64 clients"
_LOCKED: Final = "pgbench under the library's lock, 64 clients"
_QUERIES: Final = "ours, kept reads and 304s"

CPU_GOALS: Final = (
    Goal("read_cached_cpu", _KEPT, _BARE, 2.5, at_most=True),
    Goal("read_304_cpu", _NOT_MODIFIED, _BARE, 1.5, at_most=True),
    Goal("read_cached_cpu_to_framework", _KEPT, _ROUTE, None),
    Goal("read_uncached_cpu", _READ, _BARE, None),
)
QUERY_GOALS: Final = (Goal("read_cached_queries", _QUERIES, None, 0.001, at_most=True),)
COMMAND_GOALS: Final = (
    Goal("command_64_clients", _COMMANDS, _PGBENCH, 1.2),
    Goal("command_64_clients_to_locked", _COMMANDS, _LOCKED, 5.0),
)
GOALS: Final = (*CPU_GOALS, *QUERY_GOALS, *COMMAND_GOALS)

_CLIENTS: Final = 64
_READERS: Final = 32
_RUNS: Final = 20
_HEADERS: Final = (
    "Host: 127.0.0.1\r\nUser-Agent: cairn-bench\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"
    "Cairn-Client: bench/1.0; device=6f9619ff-8b86-4011-b42d-00cf4fc964ff\r\n"
)
_GOAL: Final = json.dumps({"metric": "distance", "target": 100000, "period": "month", "starts_on": "2026-01-01"})


class Loaded(Struct, frozen=True):
    """What a run of the load came to."""

    statuses: dict[str, int]
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def answers(self) -> int:
        """All of them."""
        return sum(self.statuses.values())


class Serving:
    """The benches, over one instance with a runner who has a feed."""

    def __init__(
        self, whole: Whole, database: psycopg.Connection, pgbench: Sequence[str], folder: Path, seconds: float
    ) -> None:
        self._whole = whole
        self._database = database
        self._pgbench = pgbench
        self._folder = folder
        self._seconds = seconds
        self._api = whole.pids(API)[0]
        self._port = httpx.URL(whole.instance.api_url).port or 0
        self._tokens: list[str] = []
        self._etag = ""

    def benches(self) -> list[Callable[[], Bench]]:
        """One for each unit."""
        asyncio.run(self._filled())
        return [
            lambda: Bench(
                "API reads",
                "µs of CPU a request",
                [
                    Contender(_BARE, partial(self._hello, "asgi")),
                    Contender(_ROUTE, partial(self._hello, "route")),
                    Contender(_KEPT, self._kept),
                    Contender(_NOT_MODIFIED, self._not_modified),
                    Contender(_READ, self._uncached),
                ],
                CPU_GOALS,
            ),
            lambda: Bench(
                "API queries", "Postgres transactions a kept read", [Contender(_QUERIES, self._asked)], QUERY_GOALS
            ),
            lambda: Bench(
                "API commands",
                "durable commands/s",
                [
                    Contender(_COMMANDS, self._commanding),
                    Contender(_PGBENCH, partial(self._inserted, "insert.sql")),
                    Contender(_LOCKED, partial(self._inserted, "locked.sql")),
                ],
                COMMAND_GOALS,
            ),
        ]

    async def _filled(self) -> None:
        """Runners, the first of them with runs, and a feed that is kept."""
        url = self._whole.instance.api_url
        async with httpx.AsyncClient(base_url=f"{url}/v1", timeout=60.0, mounts={"all://127.0.0.1": None}) as http:
            for number in range(_CLIENTS):
                body = {
                    "email": f"{uuid4()}@example.com",
                    "password": "correct horse",
                    "display_name": f"Runner {number}",
                }
                answer = (await http.post("/users", json=body)).raise_for_status()
                self._tokens.append(answer.json()["access_token"])
            signed = {"Authorization": f"Bearer {self._tokens[0]}"}
            position = ""
            for day in range(_RUNS):
                path, headers = f"/activities/{uuid4()}", {**signed, "Prefer": "wait=30"}
                answer = (await http.put(path, content=write_fit(simulated(day)), headers=headers)).raise_for_status()
                position = answer.headers["Cairn-Position"]
            headers = {
                **signed,
                "Cairn-Min-Position": position,
                "Accept-Encoding": "gzip, deflate",
            }
            feed = (await http.get("/feed?limit=20", headers=headers)).raise_for_status()
            if len(feed.json()["items"]) != _RUNS:
                raise Fault("the bench's runs are not in the feed.")
            self._etag = feed.headers["ETag"]
        self._workers(signal.SIGSTOP)

    def _workers(self, number: signal.Signals) -> None:
        for pid in (*self._whole.pids(INGEST), *self._whole.pids(PROJECTOR)):
            os.kill(pid, number)

    def close(self) -> None:
        """Let the workers go on."""
        self._workers(signal.SIGCONT)

    def _hello(self, kind: str) -> float:
        with _server(kind) as (pid, port):
            return self._cpu(pid, port, [_get("/", "", "")] * _READERS)

    def _kept(self) -> float:
        return self._cpu(self._api, self._port, [_get("/v1/feed?limit=20", self._tokens[0], "")] * _READERS)

    def _not_modified(self) -> float:
        request = _get("/v1/feed?limit=20", self._tokens[0], f"If-None-Match: {self._etag}\r\n")
        return self._cpu(self._api, self._port, [request] * _READERS, {"304"})

    def _uncached(self) -> float:
        return self._cpu(self._api, self._port, [_get("/v1/feed?limit=20&x={uuid}", self._tokens[0], "")] * _READERS)

    def _cpu(self, pid: int, port: int, requests: Sequence[str], statuses: Collection[str] = ("200",)) -> float:
        """Microseconds that the process takes for each request."""
        before = cpu_seconds(pid)
        loaded = _loaded(port, self._seconds, requests, statuses)
        return 1e6 * (cpu_seconds(pid) - before) / loaded.answers

    def _asked(self) -> float:
        """Beyond what the same time takes when nobody asks."""
        time.sleep(1.5)  # until the statistics of what was before are in
        idle = self._transactions()
        time.sleep(self._seconds + 1.5)
        before = self._transactions()
        requests = [
            _get("/v1/feed?limit=20", self._tokens[0], more) for more in ("", f"If-None-Match: {self._etag}\r\n")
        ]
        loaded = _loaded(self._port, self._seconds, requests * (_READERS // 2), {"200", "304"})
        time.sleep(1.5)
        return max(0.0, (self._transactions() - before) - (before - idle)) / loaded.answers

    def _transactions(self) -> int:
        row = self._database.execute(_TRANSACTIONS).fetchone()
        return int(row[0]) if row else 0

    def _commanding(self) -> float:
        requests = [
            f"PUT /v1/me/goals/{{uuid}} HTTP/1.1\r\n{_HEADERS}Authorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(_GOAL)}\r\n\r\n{_GOAL}"
            for token in self._tokens
        ]
        self._database.execute("CHECKPOINT")
        loaded = _loaded(self._port, self._seconds, requests, {"204"})
        return loaded.answers / loaded.seconds

    def _inserted(self, script: str) -> float:
        self._database.execute("CHECKPOINT")
        return pgbench_rate(
            [
                *self._pgbench,
                "-f",
                str(self._folder / script),
                "-c",
                str(_CLIENTS),
                "-j",
                "2",
                self._whole.instance.database_url,
            ]
        )


_TRANSACTIONS: Final = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"


def _get(path: str, token: str, more: str) -> str:
    signed = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\n{_HEADERS}{signed}{more}\r\n"


def _loaded(port: int, seconds: float, requests: Sequence[str], statuses: Collection[str]) -> Loaded:
    command = [sys.executable, "-P", "-m", "workers.cli.bench.loading", str(port), str(seconds)]
    lines = "\n".join(json.dumps(request) for request in requests)
    done = subprocess.run(
        command,
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        env=dict(child_environ()),
        preexec_fn=_elsewhere,
    )
    if done.returncode != 0:
        raise Fault(f"the load failed: {done.stderr.strip()[-500:]}")
    loaded = msgspec.json.decode(done.stdout, type=Loaded)
    if not loaded.statuses or not set(loaded.statuses) <= set(statuses):
        raise Fault(f"the load was answered with {loaded.statuses}: expected only {', '.join(sorted(statuses))}.")
    return loaded


@contextmanager
def _server(kind: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    argv = [sys.executable, "-P", "-m", "workers.cli.bench.hello", kind, str(port)]
    process = subprocess.Popen(child_command(argv, on_death=signal.SIGKILL), env=dict(child_environ()))
    try:
        while not answers("127.0.0.1", port, "/"):
            if process.poll() is not None:
                raise Fault("the bench's hello server does not start: see its message above.")
            time.sleep(0.05)
        _pin(process.pid, _ONE_CORE)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


_CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
_ONE_CORE: Final = frozenset(_CORES[:1])
_OTHER_CORES: Final = frozenset(_CORES[1:] or _CORES)


def _elsewhere() -> None:
    os.sched_setaffinity(0, _OTHER_CORES)


def _pin(pid: int, cores: Collection[int]) -> None:
    """The process with all its threads."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def serving(folder: Path, seconds: float) -> Iterator[Serving]:
    """Over an instance in this folder, started and stopped again."""
    with (
        whole_instance(folder) as whole,
        psycopg.connect(whole.instance.database_url, autocommit=True) as database,
    ):
        for part in PARTS:
            for pid in whole.pids(part):
                _pin(pid, _ONE_CORE if part == API else _OTHER_CORES)
        (topic, state), (owner, _) = sealed(), recorded()
        insert = INSERT.format(topic=topic, state=state.hex(), owner=owner)
        (folder / "insert.sql").write_text(insert)
        (folder / "locked.sql").write_text(f"BEGIN;\nLOCK TABLE pgbench_events IN EXCLUSIVE MODE;\n{insert}COMMIT;\n")
        make_twin(database)
        programs = EmbeddedPostgres(whole.data).programs
        pgbench = [str(programs / "pgbench"), "-n", "-M", "prepared", "-T", str(round(seconds))]
        made = Serving(whole, database, pgbench, folder, seconds)
        yield made
        made.close()
