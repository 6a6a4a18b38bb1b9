"""The API over real parts in this process, with a projector and an ingest loop beside it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from msgspec import Struct

from api.app import create_app
from api.front.front import Front
from api.main import services_of
from api.serving.limits import Limits
from api.serving.server import Server
from domain.errors import StoreUnavailable
from domain.user import User
from infra.bootstrap import Parts, now, open_parts
from infra.reading_pool import ProcessReader
from infra.settings import Settings
from tests.contract.holding import check
from tests.instance_settings import settings_of
from workers.cli.worker import run_projector, run_reactor
from workers.ingest.ingest import Ingest
from workers.ingest.loop import IngestLoop


class World(Struct):
    """The whole line, in one process."""

    http: httpx.AsyncClient
    parts: Parts
    settings: Settings
    app: Front

    async def runner(self, name: str = "Anna") -> "Runner":
        """Somebody new, signed in."""
        email = f"{name.lower()}-{uuid4().hex}@example.com"
        body = {"email": email, "password": "correct horse", "display_name": name}
        answer = await self.http.post("/v1/users", json=body)
        assert answer.status_code == 201, answer.text
        return Runner(self.http, UUID(answer.json()["user_id"]), email, answer.json())


class Runner(Struct):
    """A signed-in user who makes requests."""

    http: httpx.AsyncClient
    user_id: UUID
    email: str
    tokens: dict[str, Any]

    async def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}", **more.pop("headers", {})}
        return await self.http.request(method, f"/v1{path}", headers=headers, **more)

    async def later(self, path: str, after: str, **more: Any) -> httpx.Response:
        """A read that must see the write of a position, however busy the machine is."""
        headers = {"Cairn-Min-Position": after, **more.pop("headers", {})}
        for _ in range(15):  # of two seconds
            answer = await self("GET", path, headers=headers, **more)
            if "Cairn-Stale" not in answer.headers:
                return answer
        raise AssertionError(f"{path} is still behind {after}")

    async def get(self, path: str, after: str | None = None, **more: Any) -> Any:
        """The JSON of a read; `after` is the position of a write that it must see."""
        answer = await (self.later(path, after, **more) if after else self("GET", path, **more))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def run(self, body: bytes, activity_id: UUID | None = None, **query: str) -> str:
        """Hand a recording in and wait for it: the position that its activity is seen from."""
        answer = await self(
            "PUT", f"/activities/{activity_id or uuid4()}", content=body, params=query, headers={"Prefer": "wait=20"}
        )
        assert answer.status_code == 201, answer.text
        return str(answer.headers["Cairn-Position"])


class AsDocumented(httpx.AsyncBaseTransport):
    """Every answer that a test gets this way is as the OpenAPI document says."""

    def __init__(self, app: httpx.ASGITransport) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._app.handle_async_request(request)
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        raw = b"".join([piece async for piece in answer.stream])
        status, headers = answer.status_code, answer.headers
        check(
            request.method,
            request.url.path,
            status,
            headers,
            httpx.Response(status, headers=headers, content=raw).content,
        )
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(raw))


@pytest.fixture(scope="session")
async def world(
    fresh_database: Callable[[], str], redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """One for all tests of HTTP: each makes runners of its own."""
    data: Path = tmp_path_factory.mktemp("world")
    settings = settings_of(data, fresh_database(), redis_url, "objects")
    stop = threading.Event()
    reader = ProcessReader()
    async with open_parts(settings) as parts:
        ingest = Ingest(
            parts.inbox, parts.streams, reader, parts.tracks, parts.claims, parts.attempts, parts.sessions, clock=now
        )
        loops = [
            asyncio.create_task(IngestLoop(ingest, parts.inbox, parts.queue, clock=now).run()),
            asyncio.create_task(asyncio.to_thread(run_projector, settings, stop)),
            asyncio.create_task(asyncio.to_thread(run_reactor, settings, stop)),
        ]
        async with asyncio.timeout(60):  # a busy machine may take its time to connect
            while not await _connected(parts):
                await asyncio.sleep(0.1)
        app = create_app(services_of(parts, settings))
        loops.append(asyncio.create_task(app.listen()))
        async with asyncio.timeout(60):  # cut off while it connects, redis-py leaves the connection open
            while not app._reads._cache.open:
                await asyncio.sleep(0.01)
        transport = AsDocumented(httpx.ASGITransport(app, raise_app_exceptions=False))
        async with httpx.AsyncClient(transport=transport, base_url="http://cairn") as http:
            yield World(http, parts, settings, app)
        stop.set()
        loops[0].cancel()
        loops[-1].cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*loops)
        reader.close()


async def _connected(parts: Parts) -> bool:
    with suppress(StoreUnavailable):
        async with parts.read_models.connection():
            await parts.streams.load(User, uuid4())
            return True
    return False


@pytest.fixture
async def anna(world: World) -> Runner:
    """A runner of this test's own."""
    return await world.runner("Anna")


@pytest.fixture
async def ben(world: World) -> Runner:
    """Another one."""
    return await world.runner("Ben")


@pytest.fixture(scope="session")
async def served(world: World) -> AsyncIterator[str]:
    """The real API on a port."""
    services = services_of(world.parts, world.settings)
    app = create_app(services)
    server = Server(app, services.telemetry, Limits(), at_once=app.at_once)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving
