"""A real instance goes away under many apps, and comes back: how many requests come in each second after that.

By hand: `PYTHONPATH=. .venv/bin/python -m tests.system.outage --clients 500`. Capacity is what the instance answered to
the same apps, asking without a pause, from the same machine: it is a low estimate, and the ratio a high one.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import httpx

from api.client import WATCHED, Client, Refused, Unreachable, sync
from infra.instance import find
from tests.system.instances import CHECKOUT, free_port
from workers.cli.fleet.counting import certificates

DEVICES = 25  # of one account
AT_ONCE = 32  # to measure the capacity
_START = 5.0  # seconds that an instance takes about
_AFTER = 90.0  # seconds to look at


class Watched(httpx.AsyncBaseTransport):
    """The network of all apps, with the moments at which they asked and were answered."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._way = httpx.AsyncHTTPTransport(certificates(), limits=limits)
        self.asked: list[float] = []
        self.answered: list[float] = []
        self.refused: Counter[int] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(time.monotonic())
        answer = await self._way.handle_async_request(request)
        if answer.status_code < 400:
            self.answered.append(time.monotonic())
        else:
            self.refused[answer.status_code] += 1
        return answer


@contextmanager
def instance(data: Path, port: int) -> Iterator[None]:
    """`cairn up` on this port, ready."""
    command = [sys.executable, "-m", "workers.cli.main", "up", "--port", str(port), "--data", str(data)]
    with (data.parent / "up.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, env={**os.environ}, stdout=log, stderr=log)
    try:
        while find(data) is None:
            assert process.poll() is None, (data.parent / "up.log").read_text()
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@asynccontextmanager
async def beside(data: Path, port: int) -> AsyncIterator[None]:
    """It, while the apps live on."""
    running = instance(data, port)
    await asyncio.to_thread(running.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


class Apps:
    """So many devices, of a few accounts."""

    def __init__(self, url: str, count: int, seed: int, stack: AsyncExitStack) -> None:
        self.network = Watched()
        self.syncs = 0
        self._url = url
        self._count = count
        self._dice = random.Random(seed)
        self._stack = stack
        self._clients: list[Client] = []

    async def sign_in(self) -> None:
        for number in range(-(-self._count // DEVICES)):
            async with Client(self._url, pacing=WATCHED) as account:
                await account.register(f"{uuid4()}@example.com", "correct horse", f"Runner {number}")
                for _ in range(DEVICES):
                    client = Client(self._url, transport=self.network, patience_seconds=0)
                    client.begin(account.session)
                    self._clients.append(await self._stack.enter_async_context(client))
        del self._clients[self._count :]

    async def capacity(self, seconds: float) -> float:
        """Answers a second when some apps ask without a pause."""
        ends_at = time.monotonic() + seconds

        async def press(client: Client) -> None:
            while time.monotonic() < ends_at:
                with suppress(Unreachable, Refused):
                    await sync(client)

        await asyncio.gather(*map(press, self._clients[:AT_ONCE]))  # the first calls fill what is kept
        ends_at, before = time.monotonic() + seconds, len(self.network.answered)
        await asyncio.gather(*map(press, self._clients[:AT_ONCE]))
        return (len(self.network.answered) - before) / seconds

    async def live(self, period: float) -> None:
        """Each app synchronises once a period, by its own phase, until this is cancelled."""
        await asyncio.gather(*(self._use(client, period) for client in self._clients))

    async def _use(self, client: Client, period: float) -> None:
        await asyncio.sleep(self._dice.uniform(0, period))
        while True:
            try:
                await sync(client)
            except Unreachable as silence:
                await asyncio.sleep(silence.again_in)
                continue
            self.syncs += 1
            await asyncio.sleep(period * self._dice.uniform(0.9, 1.1))


async def run(data: Path, clients: int, away: float, load: float, seed: int) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        apps = Apps(f"http://127.0.0.1:{port}", clients, seed, stack)
        async with beside(data, port):
            await apps.sign_in()
            capacity = await apps.capacity(10)
            period = clients / (load * capacity)
            tell(f"capacity {capacity:.0f} requests/s; {clients} apps ask every {period:.1f} s: {load:.2f} of it")
            living = asyncio.create_task(apps.live(period))
            await asyncio.sleep(period)
            before, asked = apps.syncs, len(apps.network.asked)
        stopped = apps.network.answered[-1]
        await asyncio.sleep(max(0.0, stopped + away - _START - time.monotonic()))
        answers = len(apps.network.answered)
        async with beside(data, port):
            while len(apps.network.answered) == answers:
                await asyncio.sleep(0.01)
            back = apps.network.answered[answers]
            await asyncio.sleep(_AFTER)
            living.cancel()
            with suppress(asyncio.CancelledError):
                await living
    arrivals = Counter(int(moment - back) for moment in apps.network.asked if moment >= back)
    peak = max(arrivals.values())
    tell(f"away for {back - stopped:.0f} s; peak {peak} requests in a second, {peak / capacity:.2f} of capacity")
    tell(f"in the seconds after it: {' '.join(str(arrivals[second]) for second in range(30))}")
    tell(f"{(len(apps.network.asked) - asked) / (apps.syncs - before):.2f} requests a sync, outage included")
    tell(f"refused: {dict(apps.network.refused)}")


def tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--clients", type=int, default=500)
    arguments.add_argument("--away", type=float, default=60.0, help="seconds")
    arguments.add_argument("--load", type=float, default=1 / 3, help="of the capacity, before and after")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="cairn-") as folder:
        asyncio.run(run(Path(folder) / "data", given.clients, given.away, given.load, given.seed))


if __name__ == "__main__":
    main()
