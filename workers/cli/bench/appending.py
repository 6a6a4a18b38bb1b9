"""A process that appends as fast as it can, for `cairn bench append`: it says when it is ready, and waits for a line.

python -m workers.cli.bench.appending URL HOW_MANY_AT_ONCE SECONDS [--port]
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from uuid import UUID, uuid4

import uvloop

from domain.activity import Activity
from domain.events.activity import ActivityRecorded
from domain.measures import UserId
from infra.event_store.mapper import MAPPER, associated
from infra.event_store.postgres import PostgresLog
from infra.event_store.rows import Save
from infra.event_store.streams import EventStore
from infra.keys import MasterKeys, UserCipher, UserKeys
from infra.views import ReadModels
from workers.cli.bench.events import log

MASTER: Final = b"m" * 32


def recorded() -> tuple[UserId, ActivityRecorded]:
    """The event that every save appends."""
    return next((made.owner_id, made.event) for made in log(100) if isinstance(made.event, ActivityRecorded))


def sealed() -> tuple[str, bytes]:
    """The event as it is stored."""
    owner, event = recorded()
    return MAPPER.encode(event, UserCipher(MASTER), associated(owner, UUID(int=0), 1))


async def _by_log(url: str, at_once: int, seconds: float) -> None:
    """Encoded already, as pgbench's rows are."""
    opened, (owner, _), state = PostgresLog(url), recorded(), sealed()
    await _repeat(at_once, seconds, lambda: opened.append(Save(uuid4(), owner, 1, (state,))))
    await opened.close()


async def _by_port(url: str, at_once: int, seconds: float) -> None:
    """All that a command does: load the stream, decide, seal, encode, append."""
    read_models = ReadModels(url, connections=2)
    await read_models.open()
    store = EventStore(PostgresLog(url), UserKeys(read_models, MasterKeys([MASTER])))
    owner, event = recorded()
    record = partial(Activity.record, recorded=event)
    await _repeat(at_once, seconds, lambda: store.transact(Activity, uuid4(), owner, record))
    await store.close()
    await read_models.close()


async def _repeat(at_once: int, seconds: float, save: Callable[[], Awaitable[object]]) -> None:
    await asyncio.gather(*(save() for _ in range(min(at_once, 8))))  # connected, and prepared
    print("ready", flush=True)  # noqa: T201 - the parent listens
    await asyncio.to_thread(sys.stdin.readline)
    count, began = 0, time.perf_counter()

    async def work() -> None:
        nonlocal count
        while time.perf_counter() - began < seconds:
            await save()
            count += 1

    await asyncio.gather(*(work() for _ in range(at_once)))
    print(count / (time.perf_counter() - began), flush=True)  # noqa: T201


if __name__ == "__main__":
    url, at_once, seconds, *port = sys.argv[1:]
    uvloop.run((_by_port if port else _by_log)(url, int(at_once), float(seconds)))
