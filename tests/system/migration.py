"""A data shape is changed in flight, as docs/operators/migration.md tells it: code of two ages, runners all the while.

By hand, for the figures of decision 7: `.venv/bin/python -m tests.system.migration --events 300000 --rounds 5`.
"""

import argparse
import asyncio
import base64
import contextlib
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import httpx
import psycopg
from msgspec import Struct

from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.valkey import EmbeddedValkey
from infra.secrets import make_secrets
from tests.recordings import STARTED, fit
from tests.servers import running
from tests.system.instances import CHECKOUT, free_port
from workers.cli.bench.appending import MASTER
from workers.cli.bench.replay import fill
from workers.cli.bench.whole import ROOMY

GUIDE: Final = CHECKOUT / "docs/operators/migration.md"
_CHANGE: Final = GUIDE.with_name("summaries-2.diff")
_PACKAGES: Final = ("domain", "projections", "api", "workers", "infra")
_BEGUN: Final = (STARTED, STARTED + timedelta(hours=17), STARTED + timedelta(days=9))  # one of them after midnight
_SPORTS: Final = ("running", "walking", "cycling")


def changed_code(folder: Path) -> Path:
    """This checkout's code with the guide's change."""
    for package in _PACKAGES:
        shutil.copytree(CHECKOUT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}  # whatever repository is around it
    subprocess.run(["git", "apply", str(_CHANGE)], cwd=folder, env=environ, check=True)  # noqa: S607 - as in PATH
    return folder


def guided() -> Iterator[tuple[str, str]]:
    """The guide's commands in their order, without `cairn`, and what it says that they print."""
    for block in re.findall(r"```console\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        yield from re.findall(r"^\$ cairn (.*)\n((?:(?!\$).*\n)*)", block, re.MULTILINE)


class Fleet:
    """Servers, and processes of ours beside them that come and go."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.database_url = database_url
        self.addresses: list[str] = []  # of the API
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        data = folder / "data"
        data.mkdir(mode=0o700)
        make_secrets(data)
        self._data = ["--data", str(data)]
        self._environ = {
            **os.environ,
            **ROOMY,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "OBJECT_STORE_URL": (folder / "objects").as_uri(),
            "CAIRN_MASTER_KEY": base64.b64encode(MASTER).decode(),
        }

    def cairn(self, code: Path, command: str) -> "subprocess.CompletedProcess[str]":
        """A command to its end."""
        argv = [sys.executable, "-m", "workers.cli.main", *command.split(), *self._data]
        return subprocess.run(argv, cwd=code, env=self._environ_of(code), capture_output=True, text=True, check=False)

    def _environ_of(self, code: Path) -> dict[str, str]:
        return {**self._environ, "PYTHONPATH": str(code)}

    def start(self, name: str, code: Path, *command: str) -> None:
        """A process that stays."""
        argv = [sys.executable, "-m", "workers.cli.main", *command, *self._data]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                argv, cwd=code, env=self._environ_of(code), stdout=log, stderr=subprocess.STDOUT
            )

    def serve(self, name: str, code: Path) -> str:
        """The API, once it answers."""
        port = free_port()
        self.start(name, code, "api", "--port", str(port))
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/readyz", trust_env=False).is_success:
                    return address
            assert time.monotonic() < until, self.log(name)
            time.sleep(0.1)

    def stop(self, *names: str) -> None:
        """As a deploy does."""
        for name in names or [*self._processes]:
            process = self._processes.pop(name)
            process.terminate()
            process.wait(60)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()


@contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """Servers that are empty, with nothing of ours running yet."""
    with (
        running(EmbeddedPostgres, folder / "postgres") as postgres,
        running(EmbeddedValkey, folder / "valkey") as valkey,
    ):
        made = Fleet(folder, postgres.url, valkey.url)
        try:
            yield made
        finally:
            made.stop()


class Seen:
    """What runners came upon."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.reads = 0
        self.write_seconds: list[float] = []
        self.follows = 0
        self.longest_m: float | None = None  # as a runner was told at last


class Runner:
    """An app in a runner's hand. After each of its writes it wants to see it."""

    def __init__(self, number: int, addresses: Sequence[str], seen: Seen) -> None:
        last = 5 if number == 0 else 50  # the first is of the ten per cent that read what is on trial
        self.user_id = str(UUID(int=uuid4().int // 100 * 100 + last))
        self._dice = random.Random(number)
        self._addresses = addresses
        self._seen = seen
        self._http = httpx.AsyncClient(timeout=30, trust_env=False)
        self._token = ""
        self._position = ""
        self._sports: dict[str, str] = {}  # of the activities
        self._begun: dict[str, datetime] = {}  # of them too: two runs at one time would be one
        self._followed: set[str] = set()

    async def begin(self) -> None:
        """An account and some runs."""
        account = {"email": f"{self.user_id}@example.com", "password": "correct horse", "user_id": self.user_id}
        signed = await self._call("POST", "/users", json={**account, "display_name": "A runner"})
        self._token = signed.json()["access_token"]
        for begun in _BEGUN:
            await self._record(begun)

    async def _record(self, begun: datetime) -> None:
        activity_id, body = str(uuid4()), fit(self._dice.randrange(10**6), 1 + self._dice.random(), begun)
        uploaded = await self._call("PUT", f"/activities/{activity_id}", content=body, wait=True)
        assert uploaded.status_code == httpx.codes.CREATED, uploaded.text
        self._sports[activity_id] = uploaded.json()["sport"]
        self._begun[activity_id] = begun

    async def end(self) -> None:
        await self._http.aclose()

    async def go_on(self, others: Sequence["Runner"]) -> None:
        """One write, and what shows it."""
        match self._dice.choices(["sport", "follow", "delete"], [30, 3, 1])[0]:
            case "follow" if strangers := [
                one for one in others if one is not self and one.user_id not in self._followed
            ]:
                other = self._dice.choice(strangers)
                await self._call("PUT", f"/me/following/{other.user_id}")
                self._followed.add(other.user_id)
                self._seen.follows += 1
                feed = await self._call("GET", "/feed?limit=100")
                if other.user_id not in {item["user_id"] for item in feed.json()["items"]}:
                    self._seen.faults.append(f"{other.user_id} is followed and not in the feed")
            case "delete":
                activity_id = self._dice.choice([*self._sports])
                await self._call("DELETE", f"/activities/{activity_id}")
                del self._sports[activity_id]
                await self._record(self._begun.pop(activity_id))
            case _:
                activity_id, sport = self._dice.choice([*self._sports]), self._dice.choice(_SPORTS)
                await self._call("PATCH", f"/activities/{activity_id}", json={"sport": sport})
                self._sports[activity_id] = sport
        await self._look()

    async def _look(self) -> None:
        (summary,) = (await self._call("GET", "/me/summaries?period=all")).json()["items"]
        self._seen.longest_m = summary.get("longest_m")
        counted = {sport: sums["count"] for sport, sums in summary["by_sport"].items()}
        if counted != Counter(self._sports.values()):
            self._seen.faults.append(f"summaries count {counted}, and there are {Counter(self._sports.values())}")

    async def _call(self, method: str, path: str, *, wait: bool = False, **parts: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if method == "GET" and self._position:
            headers["Cairn-Min-Position"] = self._position
        if wait:
            headers["Prefer"] = "wait=30"
        began = time.perf_counter()
        address = self._dice.choice(self._addresses)
        answer = await self._http.request(method, f"{address}/v1{path}", headers=headers, **parts)  # type: ignore[arg-type]
        if not answer.is_success:
            self._seen.faults.append(f"{method} {path}: {answer.status_code} {answer.text}")
        if "Cairn-Stale" in answer.headers:
            self._seen.faults.append(f"{method} {path}: stale")
        if method == "GET":
            self._seen.reads += 1
        elif method in {"PATCH", "DELETE"}:
            self._seen.write_seconds.append(time.perf_counter() - began)
        self._position = answer.headers.get("Cairn-Position", self._position)
        return answer


@asynccontextmanager
async def runners(addresses: Sequence[str], count: int, pause_seconds: float) -> AsyncIterator[Seen]:
    """So many runners who write and read for as long as the block lasts, at the addresses that there are then."""
    seen, stop = Seen(), asyncio.Event()
    own = [Runner(number, addresses, seen) for number in range(count)]

    async def live(runner: Runner) -> None:
        while not stop.is_set():
            await runner.go_on(own)
            await asyncio.sleep(random.expovariate(1 / pause_seconds))

    for runner in own:
        await runner.begin()
    seen.write_seconds.clear()
    living = [asyncio.create_task(live(runner)) for runner in own]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*living)
        for runner in own:
            await runner.end()


class Done(Struct):
    """A command of the guide, what it should print, and what it did."""

    command: str
    expected: str
    printed: str


async def migrate(own: Fleet, folder: Path, events: int, pause_seconds: float) -> tuple[list[Done], Seen]:
    """All that the guide does: the deploy of the changed code, then its commands, with a pause after each."""
    new = changed_code(folder / "new")
    begin(own, events)
    own.addresses.append(own.serve("old api", CHECKOUT))
    found = []
    async with runners(own.addresses, 4, 0.05) as seen:
        own.start("new worker", new, "worker", "projector", "reactor")
        own.addresses.append(await asyncio.to_thread(own.serve, "new api", new))
        await asyncio.sleep(pause_seconds)
        own.addresses.pop(0)
        await asyncio.sleep(pause_seconds)  # what is under way at the old one ends
        await asyncio.to_thread(own.stop, "old api", "worker")
        for command, output in guided():
            done = await asyncio.to_thread(own.cairn, new, command)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            found.append(Done(command, output, done.stdout))
            await asyncio.sleep(pause_seconds)
        rest = "projections rebuild activities changes feed goals people --auto-cutover"
        done = await asyncio.to_thread(own.cairn, new, rest)
        assert done.returncode == 0, (rest, done.stdout, done.stderr)
        await asyncio.sleep(pause_seconds)
    return found, seen


def begin(own: Fleet, events: int) -> None:
    """A made-up log of runners who are not there any more, and workers that have caught up with it."""
    own.cairn(CHECKOUT, "migrate")
    with psycopg.connect(own.database_url, autocommit=True) as connection:
        fill(connection, events, sealed=True)
        connection.execute("VACUUM (ANALYZE) stored_events")
        own.start("worker", CHECKOUT, "worker", "projector", "reactor")
        own.start("ingest", CHECKOUT, "worker", "ingest")
        until = time.monotonic() + 30 + events / 2_000
        while connection.execute(_BEHIND).fetchone() != (False,):
            assert time.monotonic() < until, own.log("worker")
            time.sleep(0.1)
        connection.execute("CHECKPOINT")  # as every five minutes: now there is WAL to use again


_BEHIND: Final = """
    SELECT least((SELECT min(position) FROM projection_shards), (SELECT min(position) FROM reactors))
        IS DISTINCT FROM (SELECT max(notification_id) FROM stored_events)
"""


async def _figures(events: int, rounds: int, count: int, seconds: float) -> Mapping[str, float]:
    """Milliseconds of the writes' 99th percentile, without a rebuild and with one on one core: medians."""
    with tempfile.TemporaryDirectory(prefix="cairn-") as folder, fleet(Path(folder)) as own:
        begin(own, events)
        own.addresses.append(own.serve("api", CHECKOUT))
        found: dict[str, list[float]] = {"without": [], "with": []}
        with contextlib.suppress(PermissionError):  # phones do not wait for the server's cores; what is started does
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        async with runners(own.addresses, count, 0.05) as seen:
            await asyncio.sleep(2)
            for _ in range(rounds):
                for kind, figures in found.items():
                    seen.write_seconds.clear()
                    until = time.monotonic() + seconds
                    rebuilt = 0
                    while time.monotonic() < until or (kind == "with" and rebuilt == 0):
                        if kind == "with":
                            rebuild = "projections rebuild summaries goals people --restart --workers 1 --memory 256M"
                            done = await asyncio.to_thread(own.cairn, CHECKOUT, rebuild)
                            assert done.returncode == 0, done.stderr
                            rebuilt += 1
                        else:
                            await asyncio.sleep(0.2)
                    took = sorted(seen.write_seconds)
                    figures.append(1_000 * took[int(len(took) * 0.99)])
                    print(kind, f"{len(took)} writes, p99 {figures[-1]:.1f} ms, {rebuilt} rebuilds")  # noqa: T201 - it is a tool
        assert seen.faults == [], seen.faults[:10]
    return {kind: statistics.median(figures) for kind, figures in found.items()}


def _guide(events: int) -> None:
    with tempfile.TemporaryDirectory(prefix="cairn-") as name, fleet(folder := Path(name)) as own:
        found, seen = asyncio.run(migrate(own, folder, events, 3))
    for one in found:
        print(f"$ cairn {one.command}\n{one.printed}")  # noqa: T201
    print(f"{seen.reads} reads, {len(seen.write_seconds)} writes, {seen.follows} follows, {seen.faults}")  # noqa: T201


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--guide", action="store_true", help="do what the guide does, and print what it should print")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runners", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    if given.guide:
        _guide(given.events)
    else:
        print(asyncio.run(_figures(given.events, given.rounds, given.runners, given.seconds)))  # noqa: T201


if __name__ == "__main__":
    _main()
