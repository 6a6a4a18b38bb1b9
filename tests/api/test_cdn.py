"""A real shared cache in front of the API, as operators are told to run it: what it keeps, and when it drops that.

What is counted is what Varnish counts. `CAIRN_CDN_CHANGES=50` repeats the changes; `--log-cli-level=INFO` tells how
long each took.
"""

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import uvicorn
from msgspec import Struct
from msgspec.structs import replace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.app import create_app
from api.main import services_of
from domain.activity import Activity
from domain.events.user import UserErased
from domain.measures import UserId, Visibility
from domain.user import User, user_stream_id
from infra.bootstrap import now
from infra.cdn import PurgePlace
from infra.event_store.fence import Fence
from infra.settings import Cdn
from tests import scenarios
from tests.api.conftest import Runner, World
from tests.recordings import STARTED, fit
from tests.varnish import Varnish, varnish
from workers.cli.worker import run_purgers

_log = logging.getLogger(__name__)

CHANGES = int(os.environ.get("CAIRN_CDN_CHANGES", "1"))
PATIENCE_SECONDS = 30.0  # half of what a page would be kept for if nobody purged it; the machine may be busy


class Gate:
    """In front of the API: answers that begin with one of these paths wait, made as they are, until they may go."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._held: dict[str, asyncio.Event] = {}
        self.arrived: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"] in self._held:
                self.arrived.append(scope["path"])
                await self._held[scope["path"]].wait()
            await send(message)

        await self._app(scope, receive, hold)

    @contextmanager
    def holding(self, path: str) -> Any:
        self._held[path] = asyncio.Event()
        yield self._held[path]
        self._held.pop(path).set()


class Front(Struct):
    """The API behind a shared cache that is told of changes."""

    http: httpx.AsyncClient
    varnish: Varnish
    gate: Gate

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    async def warm(self, path: str) -> httpx.Response:
        """The page as it is kept from now on."""
        return await self.until(path, lambda answer: answer.headers["X-Cache"] == "hit" and answer.is_success)

    async def until(self, path: str, right: Callable[[httpx.Response], bool]) -> httpx.Response:
        """The first answer that is right."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not right(answer := await self.get(path)):
                await asyncio.sleep(0.02)
        return answer

    async def counted(self, before: dict[str, int], whole: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        """What Varnish has counted since then: its threads tell when they have nothing else to do."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not whole(found := {name: it - before.get(name, 0) for name, it in self.varnish.counters().items()}):
                await asyncio.sleep(0.05)
        return found


@pytest.fixture(scope="module")
async def front(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    gate = Gate(create_app(services_of(world.parts, world.settings)))
    server = uvicorn.Server(uvicorn.Config(gate, port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    origin = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    stop = threading.Event()
    with varnish(tmp_path_factory.mktemp("varnish"), origin) as cache:
        cdn = Cdn((cache.purge_url,), None)
        purging = run_purgers(replace(world.settings, cdn=cdn), cdn, stop)
        async with httpx.AsyncClient(base_url=cache.url, timeout=60) as http:
            yield Front(http, cache, gate)
        stop.set()
        await asyncio.gather(*purging)
    server.should_exit = True
    await serving


async def runs(world: World, owner: Runner, count: int, visibility: Visibility = Visibility.PUBLIC) -> list[UUID]:
    """Activities that are there without having been uploaded."""
    user_id = UserId(owner.user_id)
    made = [scenarios.run(user_id, 5_000.0 + number, visibility=visibility) for number in range(count)]
    position = ""
    for event in made:
        position = await world.parts.streams.transact(
            Activity,
            event.activity_id,
            user_id,
            lambda it, event=event: it.record(event),  # type: ignore[misc]
        )
    await owner.later(f"/users/{owner.user_id}/activities", position)
    return [event.activity_id for event in made]


async def all_told(world: World, front: Front) -> None:
    """Until whoever tells the cache has said all that happened so far, twice: it drops nothing for that any more."""
    with psycopg.connect(world.settings.database_url, autocommit=True) as connection:
        last, place = Fence(connection).last_event(of_all=True), PurgePlace(connection, front.varnish.purge_url)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while place.position() < last:
                await asyncio.sleep(0.1)


def trace(seed: int, activities: list[UUID], requests: int) -> list[str]:
    """Who opens which shared link: the n-th most popular activity 1/n as often as the first (Zipf), each time the
    page and the map in it. The cache is empty at first.
    """
    opened = random.Random(seed).choices(
        activities, cum_weights=list(accumulate(1 / rank for rank in range(1, len(activities) + 1))), k=requests // 2
    )
    return [path for it in opened for path in (f"/activities/{it}", f"/v1/public/activities/{it}/map.svg?width=1200")]


def replay(url: str, asked: list[tuple[str, dict[str, str]]]) -> list[tuple[int, str, bytes]]:
    """Status, what the cache says of it, and the body of each, over one connection."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    answers = []
    for path, headers in asked:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answers.append((answer.status, answer.headers["X-Cache"], answer.read()))
    connection.close()
    return answers


async def test_shared_links_are_answered_by_the_cache_and_nothing_private_is_kept(
    world: World, front: Front, anna: Runner, ben: Runner
) -> None:
    shown = await runs(world, anna, 150)
    hidden = await runs(world, anna, 3, Visibility.PRIVATE) + await runs(world, anna, 3, Visibility.FOLLOWERS)
    await all_told(world, front)
    public = trace(1, shown, 7_500)
    dice = random.Random(2)
    private = ["/v1/me", "/v1/feed", f"/v1/users/{anna.user_id}", *(f"/v1/activities/{it}" for it in hidden + shown)]
    bearers = [{"Authorization": f"Bearer {runner.tokens['access_token']}"} for runner in (anna, ben)]
    asked: list[tuple[str, dict[str, str]]] = []
    for path in public:
        asked.append((path, dice.choice([{}, *bearers])))
        if dice.random() < 0.02:
            asked.append((dice.choice(private), dice.choice([{}, *bearers])))
    before = front.varnish.counters()
    answers = await asyncio.to_thread(replay, front.varnish.url, asked)
    counted = await front.counted(
        before, lambda it: it["MAIN.cache_hit"] + it["MAIN.cache_miss"] + it["MAIN.s_pass"] >= len(asked)
    )
    hits, misses = counted["MAIN.cache_hit"], counted["MAIN.cache_miss"]
    _log.info("%d hits, %d misses, %d passed on", hits, misses, counted["MAIN.s_pass"])
    assert hits + misses == len(public)
    assert hits / (hits + misses) >= 0.95
    assert counted["MAIN.s_pass"] == len(asked) - len(public)
    assert counted["MAIN.n_object"] <= len(set(public)) <= misses  # each page once, and nothing else

    kept = set(public)
    for (path, headers), (status, x_cache, body) in zip(asked, answers, strict=True):
        if path in kept:
            assert status == 200, path
            continue
        assert x_cache == "miss", path  # every time anew, whoever asked before
        direct = await world.http.get(path, headers=headers)
        assert (status, body) == (direct.status_code, direct.content), path
        assert (status == 401) == (not headers), path


async def _hide(runner: Runner, activity_id: UUID, _world: World) -> None:
    answer = await runner("PATCH", f"/activities/{activity_id}", json={"visibility": "followers"})
    assert answer.status_code == 204


async def _delete(runner: Runner, activity_id: UUID, _world: World) -> None:
    assert (await runner("DELETE", f"/activities/{activity_id}")).status_code == 204


async def _erase(runner: Runner, _activity_id: UUID, world: World) -> None:
    user_id = UserId(runner.user_id)
    await world.parts.streams.transact(User, user_stream_id(user_id), user_id, lambda _: [UserErased(at=now())])


async def _retitle(runner: Runner, activity_id: UUID, _world: World) -> None:
    assert (await runner("PATCH", f"/activities/{activity_id}", json={"title": "Renamed"})).status_code == 204


async def _rename(runner: Runner, _activity_id: UUID, _world: World) -> None:
    assert (await runner("PATCH", "/me", json={"display_name": "Renamed"})).status_code == 204


@pytest.mark.parametrize("change", [_hide, _delete, _erase, _retitle, _rename])
@pytest.mark.parametrize("_again", range(CHANGES))
async def test_a_change_is_soon_seen_through_the_cache(
    world: World, front: Front, change: Callable[[Runner, UUID, World], Any], _again: int
) -> None:
    runner = await world.runner("Carol")
    (shown,) = await runs(world, runner, 1)
    pages = [f"/activities/{shown}", f"/v1/public/activities/{shown}", f"/v1/public/users/{runner.user_id}"]
    before = {page: (await front.warm(page)).text for page in [*pages, f"/v1/public/activities/{shown}/map.svg"]}
    await change(runner, shown, world)
    acked = time.monotonic()
    renamed = change in {_retitle, _rename}
    for page in pages if renamed else before:
        gone = await front.until(
            page, lambda answer: "Renamed" in answer.text if renamed else answer.status_code == 404
        )
        assert gone.text != before[page]
    _log.info("%s: seen in all pages after %.2f s", change.__name__, time.monotonic() - acked)


async def test_what_becomes_public_is_soon_there(world: World, front: Front, anna: Runner) -> None:
    (hidden,) = await runs(world, anna, 1, Visibility.PRIVATE)
    assert (await front.get(f"/activities/{hidden}")).status_code == 404
    assert (await anna("PATCH", f"/activities/{hidden}", json={"visibility": "public"})).status_code == 204
    await front.until(f"/activities/{hidden}", lambda answer: answer.status_code == 200)


async def test_an_answer_that_was_on_its_way_when_the_cache_was_told_does_not_stay(
    world: World, front: Front, anna: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a busy machine may hold the answer up for longer than any is kept for after it was made (`api.publishing`)
    monkeypatch.setattr("workers.purger.AGAIN_SECONDS", 5.0)
    (shown,) = await runs(world, anna, 1)
    path, other = f"/v1/public/activities/{shown}", f"/activities/{shown}"
    await front.warm(other)
    with front.gate.holding(path) as go:
        late = asyncio.create_task(front.get(path))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while path not in front.gate.arrived:
                await asyncio.sleep(0.01)
        await _hide(anna, shown, world)
        await front.until(other, lambda answer: answer.status_code == 404)  # the cache was told
        go.set()
        assert (await late).status_code == 200  # made before
    _log.info("the late answer is kept: %s", (await front.get(path)).status_code == 200)
    await front.until(path, lambda answer: answer.status_code == 404)


async def test_a_stampede_costs_the_origin_one_answer(world: World, front: Front, anna: Runner) -> None:
    (shown,) = await runs(world, anna, 1)
    path = f"/v1/public/activities/{shown}/map.svg"
    before = front.varnish.counters()
    with front.gate.holding(path) as go:
        crowd = [asyncio.create_task(front.get(path)) for _ in range(50)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while front.varnish.counters()["MAIN.busy_sleep"] - before["MAIN.busy_sleep"] < len(crowd) - 1:
                await asyncio.sleep(0.02)
        go.set()
        answers = await asyncio.gather(*crowd)
    assert {answer.status_code for answer in answers} == {200}
    assert front.gate.arrived.count(path) == 1
    counted = await front.counted(before, lambda it: it["MAIN.cache_miss"] > 0 and it["MAIN.backend_req"] > 0)
    assert counted["MAIN.backend_req"] == 1


async def test_a_picture_is_kept_once_whatever_stands_in_its_address(front: Front, world: World, anna: Runner) -> None:
    (shown,) = await runs(world, anna, 1)
    await all_told(world, front)
    path = f"/v1/public/activities/{shown}/map.svg"
    await front.warm(f"{path}?width=300&height=200&theme=dark")
    assert (await front.get(f"{path}?theme=dark&height=200&width=300")).headers["X-Cache"] == "hit"
    for same in ("utm=1&theme=dark&height=200&&width=300", "=&x&theme=dark&width=300&height=200&xtheme=a%20b"):
        assert (await front.get(f"{path}?{same}")).headers["X-Cache"] == "hit", same
    page = f"/activities/{shown}"
    await front.warm(page)
    answer = await front.get(f"{page}?utm_source=chat&fbclid=1", Host="evil.example", Cookie="a=b")
    assert answer.headers["X-Cache"] == "hit"
    assert answer.headers["Cache-Control"] == "public, max-age=0, must-revalidate"  # nobody behind is told of changes
    assert "Surrogate-Key" not in answer.headers
    known = await front.get(page, **{"If-None-Match": answer.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize(
    "query",
    [
        *("theme=dark&x=1", "x=1&theme=dark", "utm[source]=a&width=300", "?width=300", "&&width=300&", "x=y?width=300"),
        *("width=400&width=300", "theme=dark&theme", "width=300&%77idth=400", "%77idth=400&width=300&a=b"),
        *("width=%33%30%30", "theme=DARK", "theme", "theme=", "theme=dark?x=1", "width=50", "width=1e2"),
    ],
)
async def test_a_picture_is_what_the_origin_says_whatever_is_asked(
    front: Front, world: World, anna: Runner, query: str
) -> None:
    (shown,) = await runs(world, anna, 1)
    path = f"/v1/public/activities/{shown}/map.svg?{query}"
    direct = await world.http.get(path)
    for _ in range(2):
        through = await front.get(path)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)


async def test_uploads_and_everything_signed_in_go_through_untouched(front: Front, anna: Runner) -> None:
    through = replace(anna, http=front.http)
    activity_id = uuid4()
    body = fit(301, started_at=STARTED)
    position = await through.run(body, activity_id)
    assert (await through.later(f"/activities/{activity_id}", position)).status_code == 200
    assert (await through("GET", f"/activities/{activity_id}/original")).content == body
    refused = await front.http.post("/", headers={"Surrogate-Key": "activity-1"})
    assert refused.status_code == 404  # it is told at a socket of its own only


async def test_what_is_for_operators_is_not_for_everybody(front: Front) -> None:
    async with httpx.AsyncClient() as http:
        for path in ("/metrics", "/metrics?name=cairn_uploads_waiting", "/metrics/", "/%6Detrics"):
            assert (await http.get(f"{front.varnish.url}{path}")).status_code == 404
        assert (await http.get(f"{front.varnish.url}/livez")).status_code == 200


async def test_only_keys_are_purged(front: Front) -> None:
    async with httpx.AsyncClient() as http:
        for keys in (".*", "a b  c", "A", "x|y", ""):
            answer = await http.post(front.varnish.purge_url, headers={"Surrogate-Key": keys})
            assert answer.status_code == 400, keys
        assert (await http.get(front.varnish.purge_url)).status_code == 400
