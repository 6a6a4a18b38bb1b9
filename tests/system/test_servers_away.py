"""Runs that come in while Postgres and Valkey are both down."""

import asyncio
import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from api.client import WATCHED, Client
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.valkey import EmbeddedValkey
from infra.settings import KEY_NAMES
from tests.recordings import STARTED, fit
from tests.servers import Server, start, stop
from tests.system.instances import activities, kill, up

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

UPLOADS, CLIENTS = 200, 8
DEADLINE_SECONDS = 120.0  # four times what is aimed at: many things share a test machine
KEY = base64.b64encode(b"k" * 32).decode()
KEYS = dict(zip(KEY_NAMES, (KEY, f"first:{KEY}", KEY), strict=True))


class Servers:
    """A Postgres and a Valkey beside the instance, which it cannot start again."""

    def __init__(self, folder: Path) -> None:
        postgres, valkey = EmbeddedPostgres(folder), EmbeddedValkey(folder)
        self._servers: tuple[Server, ...] = (postgres, valkey)
        self.environ = {**KEYS, "DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}
        self.start()

    def start(self) -> None:
        self._processes = [start(server) for server in self._servers]

    def stop(self) -> None:
        for server, process in zip(self._servers, self._processes, strict=True):
            stop(server, process)


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    folder.mkdir()
    started = Servers(folder)
    try:
        yield started
    finally:
        started.stop()


async def upload_all(client: Client, supervisor: int) -> list[UUID]:
    """Runs of different days, from several clients at once, while what takes them in and processes them is killed."""
    acked = list[UUID]()
    numbers = iter(range(UPLOADS))

    async def send() -> None:
        for number in numbers:
            if number == UPLOADS // 2:
                assert all(kill(supervisor, part) for part in ("api.main", " ingest ", " projector "))
            activity_id = uuid4()
            state = await client.upload(activity_id, fit(number, 1, STARTED + timedelta(days=number)))
            assert state["status"] == "processing"
            acked.append(activity_id)

    await asyncio.gather(*(send() for _ in range(CLIENTS)))
    return acked


async def test_two_hundred_runs_acked_while_all_is_down_are_activities_soon_after(data: Path) -> None:
    with servers(data.parent / "servers") as away, up(data, **away.environ) as (process, instance):
        async with Client(instance.api_url, pacing=WATCHED) as client:
            await client.register("anna@example.com", "correct horse", "Anna", uuid4())
            away.stop()
            try:
                acked = await upload_all(client, process.pid)
            finally:
                away.start()
            began = time.monotonic()
            left = set(acked)
            while left:
                assert time.monotonic() - began < DEADLINE_SECONDS, (data.parent / "up.log").read_text()[-5000:]
                for activity_id in list(left):
                    state = await client.upload_state(activity_id)
                    if state["status"] == "processing":
                        break
                    assert state["status"] == "ready", state
                    left.remove(activity_id)
                await asyncio.sleep(0.1)
            seen = [activity_id async for activity_id in activities(client)]
            summaries = await client.summaries("all")
            took = time.monotonic() - began
            print(f"{UPLOADS} runs were activities {took:.1f} s after the servers were back")  # noqa: T201 - see -s
            assert sorted(seen) == sorted(map(str, acked))
            assert [item["count"] for item in summaries] == [UPLOADS]
            # Bytes are moved on after their verdict is told; what a killed API was writing has no name, and stays a day
            while any((data / "objects" / "inbox").glob("[!.]*")):
                assert time.monotonic() - began < DEADLINE_SECONDS, (data.parent / "up.log").read_text()[-5000:]
                await asyncio.sleep(0.1)
