"""The whole product as processes, killed one after the other while runs come in."""

import asyncio
import time
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from api.client import WATCHED, Client
from tests.recordings import STARTED, fit, gpx
from tests.system.instances import activities, await_end, descendants, kill, up

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

VICTIMS = ("api.main", " ingest ", " projector ", "bin/postgres", "valkey-server")
MOST_KILLS = 4 * len(VICTIMS)  # on a busy machine parts come back more slowly than they are killed, for ever
UPLOADS = 60


async def kill_in_turn(supervisor: int, until: asyncio.Event) -> list[str]:
    """Kill -9 of one part after the other, each as it is found; what was killed."""
    killed: list[str] = []
    for victim in cycle(VICTIMS):
        if len(killed) >= (len(VICTIMS) if until.is_set() else MOST_KILLS):
            return killed
        if kill(supervisor, victim):
            killed.append(victim)
        await asyncio.sleep(1.5)
    return killed


async def test_every_acked_run_becomes_one_activity_whatever_is_killed(data: Path) -> None:
    with up(data) as (process, instance):
        async with Client(instance.api_url, pacing=WATCHED, patience_seconds=180) as client:
            await client.register(f"{uuid4()}@example.com", "correct horse", "Anna", uuid4())
            done, acked = asyncio.Event(), list[UUID]()
            killing = asyncio.create_task(kill_in_turn(process.pid, done))
            places = asyncio.Semaphore(4)

            async def upload(number: int) -> None:
                write = fit if number % 2 else gpx
                activity_id = uuid4()
                async with places:
                    await client.upload(
                        activity_id, write(number, kilometres=1, started_at=STARTED + timedelta(hours=number))
                    )
                    acked.append(activity_id)
                    await asyncio.sleep(0.5)

            await asyncio.gather(*(upload(number) for number in range(UPLOADS)))
            done.set()
            killed = await killing
            assert set(killed) == set(VICTIMS)

            for activity_id in acked:
                deadline = time.monotonic() + 60
                while (state := await client.upload_state(activity_id))["status"] == "processing":
                    assert time.monotonic() < deadline, (data.parent / "up.log").read_text()[-5000:]
                    await asyncio.sleep(0.2)
                assert state["status"] == "ready", state
            deadline = time.monotonic() + 30  # a projector that was killed is replaced when its leases end
            while len(seen := [activity_id async for activity_id in activities(client)]) < len(acked):
                assert time.monotonic() < deadline, seen
                await asyncio.sleep(0.2)
            assert sorted(seen) == sorted(map(str, acked))
            summaries = await client.summaries("all")
            assert [item["count"] for item in summaries] == [UPLOADS]


async def test_data_is_kept_between_starts_and_nothing_is_left_running(data: Path) -> None:
    with up(data) as (process, instance):
        async with Client(instance.api_url, pacing=WATCHED) as client:
            await client.register("anna@example.com", "correct horse", "Anna", uuid4())
            await client.upload(uuid4(), fit(1))
        started = [pid for pid, _ in descendants(process.pid)]
    await_end(started)
    with up(data) as (process, instance):
        async with Client(instance.api_url, pacing=WATCHED) as client:
            await client.sign_in("anna@example.com", "correct horse")
            for _ in range(100):
                if await client.feed():
                    break
                await asyncio.sleep(0.1)
            assert len(await client.feed()) == 1
        started = [pid for pid, _ in descendants(process.pid)]
        process.kill()
        await_end(started)
