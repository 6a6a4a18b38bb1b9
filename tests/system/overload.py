"""An overload of low-priority reads on the real product, and what becomes of uploads, commands and interactive reads.

By hand: `.venv/bin/python -m tests.system.overload` (`--help` for more). First the API's capacity for such reads is
found, closed loop; then so many times as many are offered, open loop, over many connections. The API has one core, all
else shares the other. Uploads, interactive reads and commands come from a process of their own, timed from when they
were due.
"""

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import uvloop
from msgspec import Struct, field

from api.client import Client
from infra.admission_settings import AdmissionSettings
from tests.recordings import fit
from tests.system.instances import descendants, go_first, up

RUNNERS = 20
AS_SET = f"{AdmissionSettings().least}-{AdmissionSettings().most}"  # rates are roomy: a few runners stand for all
LOW, SEEN = "u=6", "u=3"


class Target(NamedTuple):
    """Where to send requests, and as whom."""

    host: str
    port: int
    tokens: Sequence[str]

    def head(self, method: str, path: str, priority: str, token: str, length: int = 0) -> bytes:
        lines = [
            f"{method} /v1{path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Authorization: Bearer {token}",
            f"Cairn-Client: trial/1.0; device={uuid4()}",
            f"Priority: {priority}",
            "Content-Type: application/json",
            f"Content-Length: {length}",
        ]
        return "\r\n".join([*lines, "", ""]).encode()


class Told(Struct):
    """What became of requests of one kind."""

    statuses: Counter[int] = field(default_factory=Counter)  # 0: no answer
    seconds: list[float] = field(default_factory=list)  # of those that were let in

    def note(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        if status < 400:
            self.seconds.append(seconds)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def line(self, name: str, elapsed: float) -> str:
        asked = sum(self.statuses.values())
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        times = " / ".join(f"{self.percentile(share) * 1000:.0f}" for share in (0.5, 0.99, 0.999))
        share = 100 * len(self.seconds) / max(1, asked)
        return (
            f"{name:<20} {asked:>8} asked, {asked / elapsed:>7.1f}/s, let in {share:>7.3f} %, "
            f"p50 / p99 / p99.9 {times} ms   ({answers})"
        )


class Connection(asyncio.Protocol):
    """One request at a time over one kept connection: as cheap as can be, so that one core can offer many."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._data.lower().find(b"content-length:", 0, head)
        length = int(self._data[at + 15 : self._data.find(b"\r\n", at)]) if at >= 0 else 0
        if len(self._data) >= head + 4 + length:
            status, self._data = int(self._data[9:12]), b""
            self._settle(status)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._settle(0)

    def _settle(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    async def ask(self, target: Target, request: bytes) -> int:
        """The status; 0 when the connection broke."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            try:
                await loop.create_connection(lambda: self, target.host, target.port)
            except OSError:
                return 0
        assert self._transport is not None
        self._data, self._answer = b"", loop.create_future()
        self._transport.write(request)
        return await self._answer


async def closed_loop(target: Target, request: Callable[[], bytes], connections: int, seconds: float) -> float:
    """Answers with 2xx a second, when each connection asks again as soon as it is answered."""
    until, good = time.monotonic() + seconds, 0

    async def ask_on(connection: Connection) -> None:
        nonlocal good
        while time.monotonic() < until:
            status = await connection.ask(target, request())
            good += 200 <= status < 300

    await asyncio.gather(*(ask_on(Connection()) for _ in range(connections)))
    return good / seconds


async def open_loop(
    target: Target, request: Callable[[], bytes], rate: float, seconds: float, connections: int
) -> tuple[Told, int]:
    """Requests that are due whatever became of the others; and how many found no connection free for two seconds."""
    told, unsent = Told(), 0
    due: asyncio.Queue[float | None] = asyncio.Queue()
    dice = random.Random(1)

    async def ask_on() -> None:
        nonlocal unsent
        connection = Connection()
        while (at := await due.get()) is not None:
            if time.monotonic() - at > 2.0:
                unsent += 1
                continue
            status = await connection.ask(target, request())
            told.note(status, time.monotonic() - at)

    asking = [asyncio.create_task(ask_on()) for _ in range(connections)]
    at, until = time.monotonic(), time.monotonic() + seconds
    while at < until:
        at += dice.expovariate(rate)
        if (pause := at - time.monotonic()) > 0.001:
            await asyncio.sleep(pause)
        due.put_nowait(at)
    for _ in asking:
        due.put_nowait(None)
    await asyncio.gather(*asking)
    return told, unsent


def reads(target: Target, priority: str) -> Callable[[], bytes]:
    """Makes reads that no cache has: each of another address."""
    mark, dice = b"ANOTHER", random.Random(priority)
    heads = [target.head("GET", f"/feed?limit=20&n={mark.decode()}", priority, token) for token in target.tokens]
    return lambda: dice.choice(heads).replace(mark, b"%d" % dice.getrandbits(48), 1)


def find_capacity(target: Target, seconds: float) -> float:
    """In a process of its own."""
    os.sched_setaffinity(0, {1})
    return uvloop.run(closed_loop(target, reads(target, LOW), 32, seconds))


def flood(target: Target, rate: float, seconds: float, connections: int) -> tuple[Told, int]:
    """In a process of its own, behind all others: what it takes of its core is nothing that the product does."""
    os.sched_setaffinity(0, {1})
    os.nice(19)
    return uvloop.run(open_loop(target, reads(target, LOW), rate, seconds, connections))


def beside(target: Target, seconds: float, uploads: float) -> dict[str, Told]:
    """In a process of its own, before all others: what should not suffer."""
    os.sched_setaffinity(0, {1})
    go_first(os.getpid())
    dice, body = random.Random(3), fit(kilometres=0.5)

    def upload() -> bytes:
        run = body + os.urandom(8)  # another run each time; what follows the file is not looked at here
        return target.head("PUT", f"/activities/{uuid4()}", SEEN, dice.choice(target.tokens), len(run)) + run

    def command() -> bytes:
        change = b'{"display_name": "%d"}' % dice.randrange(10**6)
        return target.head("PATCH", "/me", SEEN, dice.choice(target.tokens), len(change)) + change

    async def all_kinds() -> dict[str, Told]:
        kinds = {
            "uploads": (upload, uploads),
            "interactive reads": (reads(target, SEEN), 2 * uploads),
            "commands": (command, uploads / 2),
        }
        found = await asyncio.gather(*(open_loop(target, ask, rate, seconds, 64) for ask, rate in kinds.values()))
        return {name: told for name, (told, _) in zip(kinds, found, strict=True)}

    return uvloop.run(all_kinds())


async def runners(url: str) -> list[str]:
    """Some who follow each other and have run; their access tokens."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(url)) for _ in range(RUNNERS)]
        for number, client in enumerate(clients):
            await client.register(f"overload-{number}@example.com", "correct horse", f"Runner {number}")
            await client.upload(uuid4(), fit(number, kilometres=1.0))
        for client in clients:
            for other in clients[:10]:
                if other is not client:
                    await client.follow(other.user_id)
        await asyncio.sleep(3)  # until feeds are filled
        return [str(client._tokens["access_token"]) for client in clients]


def pin(supervisor: int) -> None:
    """The API to a core of its own, everything else to the other."""
    for pid, command in descendants(supervisor):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0 if "api.main" in command else 1})


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Print what came of it; exit code 1 when uploads suffered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=float, default=12.0, help="of the capacity that are offered")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--connections", type=int, default=512, help="that the overload comes over")
    parser.add_argument(
        "--uploads", type=float, default=10.0, help="a second, beside it; twice as many interactive reads"
    )
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        up(Path(folder) / "data", CAIRN_CONCURRENCY=AS_SET) as (process, instance),
        ProcessPoolExecutor(3, mp_context=spawn) as pool,
    ):
        address = urlsplit(instance.api_url)
        tokens = asyncio.run(runners(instance.api_url))
        target = Target(str(address.hostname), int(address.port or 80), tokens)
        pin(process.pid)
        capacities = [pool.submit(find_capacity, target, 3.0).result() for _ in range(3)]
        capacity = statistics.median(capacities)
        say(f"capacity {capacity:.0f} low-priority reads/s (three runs: {', '.join(f'{c:.0f}' for c in capacities)})")
        calm = pool.submit(beside, target, 10.0, given.uploads).result()
        for name, told in calm.items():
            say(told.line(f"calm: {name}", 10.0))
        flooding = pool.submit(flood, target, given.times * capacity, given.seconds, given.connections)
        besides = pool.submit(beside, target, given.seconds, given.uploads)
        time.sleep(given.seconds * 0.8)
        for line in httpx.get(f"{instance.api_url}/metrics", timeout=30).text.splitlines():
            if line.startswith(("cairn_concurrency", "cairn_requests_at", "cairn_event_loop", "cairn_rate_limiter")):
                say(f"  {line}")
        low, unsent = flooding.result()
        say(f"{low.line('low-priority reads', given.seconds)}, not sent in time: {unsent}")
        kinds = besides.result()
        for name, told in kinds.items():
            say(told.line(name, given.seconds))
    uploads = kinds["uploads"]
    let_in = len(uploads.seconds) / sum(uploads.statuses.values())
    raise SystemExit(0 if let_in >= 0.999 and uploads.percentile(0.99) < 0.5 else 1)


if __name__ == "__main__":
    main()
