"""What thousands of slow connections do to everybody else: p99 of a signed-in read, with them and without, in turns.

By hand: `.venv/bin/python -m tests.system.slow_clients --connections 5000 --rounds 5`. The API has a core to itself,
and goes before other processes, as its clients do, where that is allowed (to root): other work there does not count.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx

from tests.slow_clients import SlowClients
from tests.system.instances import CHECKOUT, descendants, go_first, up

RUNNERS: Final = 25
RATE: Final = 100  # reads a second, of all of them
SPREAD: Final = 30.0  # seconds that the slow connections begin in: longer than the server bears any of them
BESIDES: Final = 200  # descriptors that are not for slow connections


async def read(port: int, token: str, until: float, begin: float) -> list[float]:
    """Seconds from when each read was due to its answer: one that had to wait for the one before it counts in full."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    took, due = [], begin
    while due < until:
        await asyncio.sleep(due - time.monotonic())
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        took.append(time.monotonic() - due)
        due += RUNNERS / RATE
    writer.close()
    return took


async def p99(port: int, tokens: list[str], seconds: float) -> float:
    """Of all reads, in milliseconds."""
    now = time.monotonic() + 0.1
    began = [now + number / RATE for number in range(len(tokens))]
    took = await asyncio.gather(
        *(read(port, token, now + seconds, begin) for token, begin in zip(tokens, began, strict=True))
    )
    return sorted(itself for one in took for itself in one)[int(sum(map(len, took)) * 0.99)] * 1000


async def hold(clients: SlowClients, count: int) -> None:
    """Another process's part: hold so many slow connections until standard input ends; print how they ended."""
    ended: Counter[str] = Counter()
    holding = asyncio.create_task(clients.many(count, ended, again=True, spread=SPREAD))
    await asyncio.to_thread(sys.stdin.read)
    holding.cancel()
    with suppress(asyncio.CancelledError):
        await holding
    print(json.dumps(ended))  # noqa: T201


def connections(api_url: str) -> int:
    told = httpx.get(f"{api_url}/metrics").text
    return int(float(next(line.split()[1] for line in told.splitlines() if line.startswith("cairn_connections "))))


def await_connections(api_url: str, least: int, most: int) -> None:
    deadline = time.monotonic() + 120
    while not least <= (found := connections(api_url)) <= most:
        assert time.monotonic() < deadline, f"{found} connections, not {least} to {most}"
        time.sleep(0.5)


def sign_up(api_url: str) -> str:
    body = {"email": f"{uuid4().hex}@example.com", "password": "correct horse", "display_name": "Anna"}
    answer = httpx.post(f"{api_url}/v1/users", json=body, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["access_token"])


def measure(count: int, rounds: int, seconds: float, folder: Path) -> tuple[list[float], list[float], Counter[str]]:
    """p99 of each round in milliseconds without and with the slow connections, and how those ended."""
    alone, among, ended = [], [], Counter[str]()
    with up(folder / "data") as (process, instance):
        cores = sorted(os.sched_getaffinity(0))
        for pid, command in descendants(process.pid):
            os.sched_setaffinity(pid, cores[:1] if "api.main" in command else cores[-1:])
            if "api.main" in command:
                go_first(pid)
        os.sched_setaffinity(0, cores[-1:])
        go_first(os.getpid())
        port = int(instance.api_url.rpartition(":")[2])
        tokens = [sign_up(instance.api_url) for _ in range(RUNNERS)]
        asyncio.run(p99(port, tokens, seconds))
        for number in range(rounds):
            for with_them in (False, True) if number % 2 else (True, False):
                if with_them:
                    found, how = _among(port, tokens, count, seconds, instance.api_url)
                    among.append(found)
                    ended += how
                else:
                    await_connections(instance.api_url, 0, BESIDES)
                    alone.append(asyncio.run(p99(port, tokens, seconds)))
            print(f"round {number + 1}: {alone[-1]:.1f} ms alone, {among[-1]:.1f} ms among them", flush=True)  # noqa: T201
    return alone, among, ended


def _among(port: int, tokens: list[str], count: int, seconds: float, api_url: str) -> tuple[float, Counter[str]]:
    arguments = ["--hold", str(count), "--port", str(port), "--token", tokens[0]]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.system.slow_clients", *arguments],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        # What is measured is the server alone: Postgres and Valkey do not wait for those who are slow on purpose.
        os.sched_setscheduler(holder.pid, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, holder.pid, 19)
        await_connections(api_url, int(count * 0.95), count + BESIDES)  # some are between two lives
        found = asyncio.run(p99(port, tokens, seconds))
        told, _ = holder.communicate("")
    return found, Counter(json.loads(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5_000, help="as many as this, or as `ulimit -n` allows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of reading, twice in each round")
    parser.add_argument("--hold", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.hold:
        clients = SlowClients(given.port, "/openapi.json", f"Authorization: Bearer {given.token}\r\n")
        asyncio.run(hold(clients, given.hold))
        return
    count = min(given.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - BESIDES)
    with tempfile.TemporaryDirectory(prefix="cairn-") as folder:
        alone, among, ended = measure(count, given.rounds, given.seconds, Path(folder))
    ratio = statistics.median(among) / statistics.median(alone)
    lines = [
        f"{count} slow connections; how they ended: {dict(ended)}",
        f"p99 alone      {statistics.median(alone):.1f} ms ({min(alone):.1f} to {max(alone):.1f})",
        f"p99 among them {statistics.median(among):.1f} ms ({min(among):.1f} to {max(among):.1f})",
        f"ratio of the medians {ratio:.2f}; target: at most 1.20",
    ]
    print("\n".join(lines))  # noqa: T201
    sys.exit(ratio > 1.2)


if __name__ == "__main__":
    main()
