"""A storm over projections: events come in while projectors, rebuilds and the server are killed at random.

By hand, for ten minutes: `.venv/bin/python -m tests.infra.projecting.storm --seconds 600` (`--seed` repeats a run).
"""

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg
from msgspec import Struct

from domain.errors import StoreUnavailable
from infra import migrations
from infra.embedded.postgres import EmbeddedPostgres
from infra.faults import Fault
from infra.projecting.auditing import audit
from infra.projecting.builds import Registry
from infra.projecting.lifecycle import Lifecycle, NotEqual
from infra.projecting.rebuild import Options, rebuilding
from infra.settings import Settings
from tests.infra.projecting.histories import MASTER, MASTER_KEY, History, append
from tests.infra.projecting.live import active, digests
from tests.servers import kill_and_start, start, stop
from workers.cli.worker import run_projector

_PROJECTORS = 2
_QUIET = 30.0  # seconds in which everything must be caught up once nothing is killed any more


class Report(Struct, frozen=True, kw_only=True):
    """What came of it. `faults` is empty when all is well."""

    events: int
    rebuilds: int
    exchanged: int
    kills: dict[str, int]
    faults: list[str]


def project(url: str) -> None:
    """As a worker does."""
    settings = Settings(
        data=Path("/nowhere"),
        database_url=url,
        redis_url="redis://127.0.0.1:1/0",  # nobody rings
        object_store_url="file:///nowhere",
        master_keys=(MASTER_KEY,),
        token_keys=(),
        cursor_key=b"",
        log_level="ERROR",
    )
    run_projector(settings, threading.Event())


def rebuild(url: str, told: Path) -> None:
    """Rebuild everything again and again, prove it and read it; note what ended well, and what differed."""
    while True:
        with (
            contextlib.suppress(psycopg.Error, StoreUnavailable, Fault),
            psycopg.connect(url, autocommit=True) as connection,
            told.open("a", buffering=1) as notes,
        ):
            registry = Registry(connection)
            registry.register()
            lifecycle = Lifecycle(connection, registry, url)
            names = sorted(registry.pointers())
            with rebuilding(connection, registry, url, [MASTER_KEY], lambda _progress: None) as made:
                builds = made.start(names, restart=False)
                made.fill(builds, Options(2, 512 * 1024**2, 60.0))
            for build in builds:
                lifecycle.catch_up(build, lambda _behind: None, 15.0)
                try:
                    lifecycle.verify(next(one for one in registry.builds() if one.schema_name == build.schema_name))
                except NotEqual as fault:
                    rows = [row for table in fault.verdict.compared for row in table.differences]
                    print("differs", fault, fault.verdict.position, rows, file=notes)
                else:
                    lifecycle.cutover(build.name)
                    print("exchanged", build, file=notes)
            for name in names:
                for build in registry.builds(name):
                    if build.state in {"standby", "retired"}:
                        connection.execute("UPDATE projection_builds SET changed_at = now() - interval '1 hour'")
                        lifecycle.collect(name)
            print("rebuilt", len(builds), file=notes)
        time.sleep(0.1)


class Storm:
    """The processes of one run, in one folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.notes = folder / "notes"
        self.server = EmbeddedPostgres(folder / "server")
        self.postgres = start(self.server)
        migrations.upgrade(self.server.url)
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            Registry(connection).register()
        self.history = History(self.dice.randrange(2**32), runners=60)
        self.roles = [*["project"] * _PROJECTORS, "rebuild"]
        self.processes = [self.begin(role) for role in self.roles]
        self.kills = {"project": 0, "rebuild": 0, "postmaster": 0}
        self.events = 0

    def begin(self, role: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "tests.infra.projecting.storm", "--role", role, "--url", self.server.url]
        return subprocess.Popen([*argv, "--file", str(self.notes)], stderr=subprocess.DEVNULL)

    def rage(self, seconds: float) -> None:
        """So long, and until a projector and a rebuild were killed, which takes longer on a busy machine."""
        until = time.monotonic() + seconds
        while time.monotonic() < until or not (self.kills["project"] and self.kills["rebuild"]):
            self._write()
            match self.dice.choices(["write", "project", "rebuild", "postmaster"], [1_000, 8, 2, 1])[0]:
                case "postmaster":
                    self.postgres = kill_and_start(self.server, self.postgres)
                    self.kills["postmaster"] += 1
                case "project" | "rebuild" as role:
                    number = self.dice.choice([n for n, own in enumerate(self.roles) if own == role])
                    self.processes[number].send_signal(signal.SIGKILL)
                    self.processes[number].wait()
                    self.processes[number] = self.begin(role)
                    self.kills[role] += 1

    def _write(self) -> None:
        events = self.history.take(self.dice.randint(1, 40))
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            append(connection, events)
        self.events += len(events)
        time.sleep(self.dice.random() * 0.03)

    def rest(self) -> list[str]:
        """No more kills: what is behind catches up, and everything must say the same."""
        self._stop("rebuild")
        url = self.server.url
        with psycopg.connect(url, autocommit=True) as connection:
            registry = Registry(connection)
            until = time.monotonic() + _QUIET
            end = connection.execute("SELECT max(notification_id) FROM stored_events").fetchone()
            while connection.execute(_POSITIONS).fetchone() != (*(end or ()), 0):
                if time.monotonic() > until:
                    return [f"not caught up: {connection.execute(_POSITIONS).fetchone()}, the end is {end}"]
                time.sleep(0.1)
            audited = audit(url, registry, MASTER, None, percent=100)
            faults = [f"{one.build}: {one.differences}" for one in audited if one.differences]
            live = {
                name: digests(connection, registry.definition(build), build.schema_name)
                for name, build in active(registry).items()
            }
            with rebuilding(connection, registry, url, [MASTER_KEY], lambda _progress: None) as made:
                builds = made.start(sorted(live), restart=True)
                made.fill(builds, Options(2, 512 * 1024**2, 60.0))
            faults += [
                f"{build.name}: live and rebuilt rows differ"
                for build in builds
                if digests(connection, registry.definition(build), build.schema_name) != live[build.name]
            ]
            faults += [str(one) for one in connection.execute("SELECT schema_name, reason FROM quarantined_keys")]
        faults += [line for line in self._noted() if line.startswith("differs")]
        return faults

    def _noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def report(self, faults: list[str]) -> Report:
        lines = self._noted()
        return Report(
            events=self.events,
            rebuilds=sum(line.startswith("rebuilt") for line in lines),
            exchanged=sum(line.startswith("exchanged") for line in lines),
            kills=self.kills,
            faults=faults,
        )

    def _stop(self, *roles: str) -> None:
        for role, process in zip(self.roles, self.processes, strict=True):
            if role in roles:
                process.kill()
                process.wait()

    def end(self) -> None:
        self._stop(*set(self.roles))
        stop(self.server, self.postgres)


def run(seconds: float, seed: int, folder: Path) -> Report:
    """The storm, then rest, then what it did."""
    storm = Storm(folder, seed)
    try:
        storm.rage(seconds)
        return storm.report(storm.rest())
    finally:
        storm.end()


_POSITIONS = """
    SELECT min(position), count(*) FILTER (WHERE position <> (SELECT max(notification_id) FROM stored_events))
    FROM projection_shards s JOIN projection_pointers p ON s.schema_name = p.active
"""


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["project", "rebuild"])
    parser.add_argument("--url", default="")
    parser.add_argument("--file", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    given = parser.parse_args()
    match given.role:
        case "project":
            project(given.url)
        case "rebuild":
            rebuild(given.url, given.file)
        case _:
            with tempfile.TemporaryDirectory(prefix="cairn-") as folder:
                print(f"seed {given.seed}", run(given.seconds, given.seed, Path(folder)))  # noqa: T201 - it is a tool


if __name__ == "__main__":
    _main()
