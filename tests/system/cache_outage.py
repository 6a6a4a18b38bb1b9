"""Valkey emptied and stopped under load: who reads gets answers all the time, a little later for a moment.

.venv/bin/python -m tests.system.cache_outage [--runners 60]

Reads come at a steady pace. Printed is each second's share of hits, 99th percentile and errors; then what the seconds
after FLUSHALL and after Valkey stood still were like, beside those in which it had been away for long: reads without a
cache.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from tests.recordings import fit
from tests.system.instances import descendants, up
from workers.cli.bench.loading import Connection, itself

PACE_SECONDS = 0.25  # of each runner
FLUSHED, STOPPED, SETTLED, BACK, END = 6, 14, 20, 28, 36  # seconds
HEAD = "Host: 127.0.0.1\r\nAccept-Encoding: gzip\r\nCairn-Client: ios/9.4.1; device={device}\r\n"


class Second(Struct):
    """What there was in one."""

    took: list[float]
    errors: int = 0
    hits: float = 0.0
    reads: float = 0.0

    @property
    def p99_ms(self) -> float:
        """Of those who asked in it."""
        return 1000 * sorted(self.took)[len(self.took) * 99 // 100] if self.took else 0.0


async def runners(url: str, count: int) -> list[str]:
    """Requests of each: the feed, over and over."""
    asked = []
    async with httpx.AsyncClient(base_url=f"{url}/v1", timeout=60.0) as http:
        for number in range(count):
            body = {"email": f"{uuid4()}@example.com", "password": "correct horse", "display_name": f"Runner {number}"}
            while (answer := await http.post("/users", json=body)).status_code == 429:
                await asyncio.sleep(float(answer.headers["Retry-After"]))
            token = answer.raise_for_status().json()["access_token"]
            signed = {"Authorization": f"Bearer {token}", "Prefer": "wait=30"}
            (await http.put(f"/activities/{uuid4()}", content=fit(number), headers=signed)).raise_for_status()
            head = HEAD.format(device=uuid4())
            asked.append(f"GET /v1/feed HTTP/1.1\r\n{head}Authorization: Bearer {token}\r\n\r\n")
    return asked


async def hits(url: str) -> tuple[float, float]:
    """Reads that the process answered from what it keeps, and all."""
    async with httpx.AsyncClient() as http:
        families = text_string_to_metric_families((await http.get(f"{url}/metrics")).text)
    samples = [sample for family in families if family.name == "cairn_cache_reads" for sample in family.samples]
    mine = [sample for sample in samples if sample.labels["tier"] == "process"]
    kept = sum(sample.value for sample in mine if sample.labels["outcome"] in ("hit", "not_modified", "coalesced"))
    return kept, sum(sample.value for sample in mine)


async def run(url: str, redis_url: str, valkey: int, asked: Sequence[str]) -> list[Second]:
    """Seconds, one after the other."""
    loop = asyncio.get_running_loop()
    seconds = [Second([]) for _ in range(END)]
    began = asyncio.get_running_loop().time()

    def told(status: int, sent_at: float, at: float) -> None:
        number = int(sent_at - began)
        if number < END:
            seconds[number].took.append(at - sent_at)
            seconds[number].errors += status >= 500

    connections = [Connection(request, began + END, told, PACE_SECONDS) for request in asked]
    opening = [
        asyncio.create_task(opened(connection, url, number * PACE_SECONDS / len(asked)))
        for number, connection in enumerate(connections)
    ]
    before = await hits(url)
    for number in range(END):
        await asyncio.sleep(max(0.0, began + number - loop.time()))
        if number == FLUSHED:
            async with Redis.from_url(redis_url) as redis:
                await redis.flushall()
        if number == STOPPED:
            os.kill(valkey, signal.SIGSTOP)
        if number == BACK:
            os.kill(valkey, signal.SIGCONT)
        await asyncio.sleep(max(0.0, began + number + 0.95 - loop.time()))
        after = await hits(url)
        seconds[number].hits, seconds[number].reads = after[0] - before[0], after[1] - before[1]
        before = after
    await asyncio.gather(*opening)
    return seconds


async def opened(connection: Connection, url: str, after: float) -> None:
    """The connection from its beginning to its end."""
    await asyncio.sleep(after)
    await asyncio.get_running_loop().create_connection(partial(itself, connection), *address(url))
    await connection.done


def address(url: str) -> tuple[str, int]:
    """Where it listens."""
    parsed = httpx.URL(url)
    return parsed.host, parsed.port or 80


def show(seconds: Sequence[Second]) -> bool:
    """Print it; whether it held."""
    events = {FLUSHED: "FLUSHALL", STOPPED: "Valkey stands still", SETTLED: "(without a cache)", BACK: "Valkey goes on"}
    for number, second in enumerate(seconds):
        share = 100 * second.hits / second.reads if second.reads else 0.0
        note = events.get(number, "")
        sys.stdout.write(
            f"{number:>3} s  {len(second.took):>4} reads  hits {share:5.1f} %  p99 {second.p99_ms:7.1f} ms  "
            f"5xx {second.errors}  {note}\n"
        )
    without = _p99(seconds[SETTLED:BACK])
    parts = {"FLUSHALL": seconds[FLUSHED : FLUSHED + 4], "stopped": seconds[STOPPED + 1 : SETTLED]}
    for name, part in parts.items():
        sys.stdout.write(
            f"{name}: p99 {_p99(part):.1f} ms, {_p99(part) / without:.2f} x without a cache ({without:.1f} ms)\n"
        )
    late = sum(second.errors for number, second in enumerate(seconds) if number not in (FLUSHED, STOPPED, BACK))
    sys.stdout.write(f"5xx beyond the first second: {late}\n")
    return late == 0 and all(_p99(part) < 2 * without for part in parts.values())


def _p99(part: Sequence[Second]) -> float:
    return Second([took for second in part for took in second.took]).p99_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runners", type=int, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, up(Path(folder) / "data") as (process, instance):
        valkey = next(pid for pid, command in descendants(process.pid) if "valkey-server" in command)

        async def measured() -> list[Second]:
            asked = await runners(instance.api_url, given.runners)
            return await run(instance.api_url, instance.redis_url, valkey, asked)

        try:
            held = show(asyncio.run(measured()))
        finally:
            os.kill(valkey, signal.SIGCONT)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
