"""Trials of one request that comes many times at once, while connections are cut at each commit point and servers die.

By hand: `.venv/bin/python -m tests.infra.event_store.same_request --trials 10000` (`--seed` repeats a run).
"""

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from msgspec import Struct

from domain.errors import StoreUnavailable
from domain.measures import UserId
from domain.streams import Replied, Request, StreamContended
from domain.user import User
from infra import migrations
from infra.embedded.postgres import EmbeddedPostgres
from infra.event_store.postgres import PostgresLog
from infra.event_store.streams import EventStore
from infra.keys import MasterKeys, UserKeys
from infra.views import ReadModels
from tests.infra.event_store.proxy import Proxy
from tests.scenarios import ANNA, MAY_1
from tests.servers import kill_and_start, kill_backend, start, stop

STORES = 3  # as many processes would be: each with its own connections, caches and group commit


class Report(Struct, kw_only=True):
    """What came of it. `faults` is empty when all is well."""

    trials: int = 0
    saves: int = 0
    again: int = 0
    cut_before: int = 0
    cut_after: int = 0
    given_up: int = 0
    backends_killed: int = 0
    servers_killed: int = 0
    faults: list[str] = []


class Trials:
    """One server, and stores that reach it through proxies."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.report = Report(faults=[])
        self.folder = folder
        self.server = EmbeddedPostgres(folder / "server")
        self.postgres: subprocess.Popen[bytes] = start(self.server)
        migrations.upgrade(self.server.url)
        self.proxies: list[Proxy] = []
        self.stores: list[EventStore] = []

    async def run(self, trials: int) -> Report:
        async with AsyncExitStack() as stack:
            read_models = ReadModels(self.server.url, connections=4)
            await read_models.open()
            stack.push_async_callback(read_models.close)
            for number in range(STORES):
                place = self.folder / f"proxy-{number}"
                place.mkdir()
                proxy = await stack.enter_async_context(Proxy(place, self.server.url).running())
                store = EventStore(PostgresLog(proxy.url), UserKeys(read_models, MasterKeys([b"m" * 32])))
                stack.push_async_callback(store.close)
                self.proxies.append(proxy)
                self.stores.append(store)
            for _ in range(trials):
                await self.trial()
                self.report.trials += 1
        return self.report

    async def trial(self) -> None:
        """Each of the saves would change a stream of its own, and have a reply of its own."""
        request, count = Request(os.urandom(32), b"f" * 32), self.dice.randint(2, 50)
        streams = [uuid4() for _ in range(count)]
        breaking = asyncio.create_task(self.break_something())
        results = await asyncio.gather(*(self.attempt(stream, request) for stream in streams), return_exceptions=True)
        await breaking
        for proxy in self.proxies:
            proxy.pass_all()
        streams.append(uuid4())
        last = await self.attempt(streams[-1], request, patient=True)  # the phone, once all is well again
        assert last is not None
        self.report.saves += count + 1
        for failed in (result for result in results if isinstance(result, BaseException)):
            self.fault(request, f"a save failed with {failed!r}")
        replies = [last, *(result for result in results if isinstance(result, Replied))]
        if len({(replied.reply, replied.position) for replied in replies}) != 1:
            self.fault(request, f"there are {len({replied.reply for replied in replies})} replies")
        if sum(not replied.again for replied in replies) > 1:
            self.fault(request, "several were the first")
        self.report.again += sum(replied.again for replied in replies)
        found = await self.effects(streams)
        if [(stream.bytes, count) for stream, count in found] != [(last.reply, 1)]:
            self.fault(request, f"the effects are {found}, the reply says {UUID(bytes=last.reply)}")

    async def effects(self, streams: list[UUID]) -> list[tuple[UUID, int]]:
        """The streams that have events, and how many; from a server that may still be recovering."""
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.server.url) as connection:
                return connection.execute(_EFFECTS, (streams,)).fetchall()
            await asyncio.sleep(0.05)

    async def attempt(self, stream: UUID, request: Request, *, patient: bool = False) -> Replied | None:
        """What a handler does, sent again while it fails. None: it was given up, as a process that died would."""
        store = self.dice.choice(self.stores)
        begin = partial(User.register, display_name="Anna", at=MAY_1)
        dies = not patient and self.dice.random() < 0.2
        await asyncio.sleep(self.dice.random() * 0.004)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.dice.random() * 0.01 if dies else None):
                while True:
                    with contextlib.suppress(StoreUnavailable, StreamContended):
                        return await store.transact_once(User, stream, UserId(ANNA), begin, request, stream.bytes)
                    await asyncio.sleep(0.02)
        self.report.given_up += 1
        return None

    async def break_something(self) -> None:
        """A request that never reaches the server, an answer that never comes back, a server that dies."""
        chance, proxy = self.dice.random(), self.dice.choice(self.proxies)
        await asyncio.sleep(self.dice.random() * 0.004)
        if chance < 0.3:
            proxy.cut_request = lambda data: b"\0append" in data
            self.report.cut_before += 1
        elif chance < 0.6:
            proxy.cut_answer = lambda _data: True
            self.report.cut_after += 1
        elif chance < 0.61:
            self.report.backends_killed += kill_backend(self.server.url, self.dice)
        elif chance < 0.612:
            await asyncio.to_thread(self.kill_server)

    def kill_server(self) -> None:
        self.postgres = kill_and_start(self.server, self.postgres)
        self.report.servers_killed += 1

    def fault(self, request: Request, text: str) -> None:
        self.report.faults.append(f"{request.key_hash.hex()[:8]}: {text}")

    def close(self) -> None:
        stop(self.server, self.postgres)


_EFFECTS = """
    SELECT originator_id, count(*) FROM stored_events WHERE originator_id = ANY(%s)
    GROUP BY originator_id
"""


def run(trials: int, seed: int, folder: Path) -> Report:
    """The trials, one after the other."""
    all_of_them = Trials(folder, seed)
    try:
        return asyncio.run(all_of_them.run(trials))
    finally:
        all_of_them.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = run(given.trials, given.seed, Path(temporary))
    print(f"seed {given.seed}: {found}")  # noqa: T201
    sys.exit(bool(found.faults))
