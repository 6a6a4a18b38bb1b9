"""The apps of a fleet: one as it should be, and the ways in which others are not."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID, uuid4

import httpx

from api.client import Client, Refused, Unreachable, send_waiting, sync
from infra.formats.fit_writer import write_fit
from workers.cli.fleet.counting import Counting, Tally
from workers.simulation import simulate_run

_GIVEN_UP: Final = 30.0  # seconds of tries of a hurried app
_FIXED_PAUSE: Final = 1.0
_POLL_AT_MOST: Final = 15.0  # seconds: a fleet runs for minutes, not for days
_DAYS: Final = 1_000


class Runner(Protocol):
    """Who is behind an app."""

    user_id: UUID
    tokens: dict[str, Any]
    dice: random.Random
    recordings: random.Random  # never the same one twice: it would be a duplicate
    runs: int  # that this app took down


class Time:
    """How long the fleet is under way, by the loop's clock."""

    def __init__(self, ends_at: float) -> None:
        self._ends_at = ends_at

    @property
    def left(self) -> float:
        """Seconds; 0 once it is over."""
        return max(0.0, self._ends_at - asyncio.get_running_loop().time())

    async def rest(self, seconds: float) -> None:
        """Sleep, and no longer than until it is over."""
        await asyncio.sleep(min(seconds, self.left))


async def good(client: Client, runner: Runner, tally: Tally, time: Time) -> None:
    """The reference client: an outbox, one call at launch, ETags, polls when the server says."""
    with contextlib.suppress(Unreachable, Refused):
        if runner.dice.random() < 0.2:
            client.phone.outbox.add_recording(runner.user_id, _run(runner.recordings), title="Fleet run")
            runner.runs += 1
        await send_waiting(client)
        synced = await sync(client)
        for item in synced.screen["feed"]["items"][:2]:
            await client.activity(item["activity_id"])
        await time.rest(min(synced.poll_in, runner.dice.uniform(0.5, 1.0) * _POLL_AT_MOST))
        return
    tally.unreachable += 1
    await time.rest(runner.dice.uniform(0.5, 1.0) * _POLL_AT_MOST)


class Careless:
    """HTTP as a hurried developer writes it: the same again, after a fixed pause, with nothing kept."""

    def __init__(self, http: httpx.AsyncClient, tokens: dict[str, Any], tally: Tally, time: Time) -> None:
        self._http = http
        self._tally = tally
        self.time = time
        self._headers = {"Authorization": f"Bearer {tokens['access_token']}"}

    async def get(self, path: str) -> dict[str, Any]:
        """A read; nothing when it was given up."""
        for _ in range(int(_GIVEN_UP / _FIXED_PAUSE)):
            with contextlib.suppress(httpx.TransportError):
                answer = await self._http.get(path, headers=self._headers)
                if answer.is_success:
                    return dict(answer.json())
                if answer.is_client_error and answer.status_code != 429:
                    return {}
            await self.time.rest(_FIXED_PAUSE)
            if not self.time.left:
                break
        self._tally.unreachable += 1
        return {}


async def eager(app: Careless, runner: Runner) -> None:
    """Polls by a fixed clock and tries again every second, whatever the server says."""
    await app.get("/feed?limit=20")
    await app.get("/me/notifications")
    await app.time.rest(5.0)
    del runner


async def looping(app: Careless, runner: Runner) -> None:
    """N+1: a list, then each of its items by itself, with its runner."""
    page = await app.get("/feed?limit=20")
    for item in page.get("items", ()):
        await app.get(f"/activities/{item['activity_id']}")
        await app.get(f"/users/{item['user_id']}")
    await app.time.rest(runner.dice.uniform(4.0, 6.0))


async def storming(app: Careless, runner: Runner) -> None:
    """A launch storm: every screen at once, in the same second on all phones."""
    await app.time.rest(10 - datetime.now(UTC).timestamp() % 10)
    if not app.time.left:
        return
    screens = ("/me", "/feed", "/me/goals", "/me/notifications", "/me/summaries?period=week", "/client-config")
    await asyncio.gather(*map(app.get, screens), app.get(f"/users/{runner.user_id}/activities"))


Act = Callable[[Careless, Runner], Awaitable[None]]
VERSIONS: Final = {
    "good": "fleet-good/3.0.0",
    "eager": "fleet-eager/2.1.0",
    "looping": "fleet-looping/2.2.0",
    "storming": "fleet-storming/2.3.0",
}
_CARELESS: Final[dict[str, Act]] = {"eager": eager, "looping": looping, "storming": storming}


async def use(kind: str, url: str, runner: Runner, tally: Tally, time: Time) -> None:
    """One app of a kind, used until the time is over."""
    network = Counting(tally)
    await asyncio.sleep(runner.dice.uniform(0.0, min(5.0, time.left)))
    if kind == "good":
        async with Client(url, name=VERSIONS[kind], transport=network, patience_seconds=_GIVEN_UP) as client:
            client.begin(runner.tokens)
            while time.left:
                await good(client, runner, tally, time)
            with contextlib.suppress(Unreachable, Refused):
                await send_waiting(client)
        return
    headers = {"Cairn-Client": f"{VERSIONS[kind]}; device={uuid4()}"}
    async with httpx.AsyncClient(base_url=f"{url}/v1", headers=headers, transport=network, timeout=30.0) as http:
        while time.left:
            await _CARELESS[kind](Careless(http, runner.tokens, tally, time), runner)


def _run(dice: random.Random) -> bytes:
    began = datetime(2024, 1, 1, 6, tzinfo=UTC) + timedelta(days=dice.randrange(_DAYS), seconds=dice.randrange(40_000))
    home = (52.5 + dice.uniform(-0.2, 0.2), 13.4 + dice.uniform(-0.3, 0.3))
    return write_fit(
        simulate_run(dice.randrange(2**31), started_at=began, distance_m=3_000, pace_s_per_km=330, home=home)
    )
