"""Behind a pooler that lends its sessions for a transaction, nothing begins."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from infra.object_store import FolderObjects
from infra.server_checks import ServerChecks, UnsafeServer, require_session
from infra.settings import Settings
from infra.vault import Vault
from tests.infra.pooler import Pooler
from tests.instance_settings import settings_of
from workers.cli.connecting import connected
from workers.cli.serving import migrate
from workers.cli.worker import run_ingest, run_projector, run_reactor

REFUSED = "DATABASE_URL leads to a pooler in transaction mode"


@pytest.fixture
async def pooler(database_url: str, tmp_path: Path) -> AsyncIterator[Pooler]:
    async with Pooler(tmp_path, database_url, sessions=2).running() as pooler:
        yield pooler


@pytest.fixture
def settings(pooler: Pooler, redis_url: str, tmp_path: Path) -> Settings:
    return settings_of(tmp_path, pooler.url, redis_url, "objects")


@pytest.mark.parametrize("sessions", [1, 2, 3, 5])
async def test_it_is_known_however_many_sessions_it_has(database_url: str, tmp_path: Path, sessions: int) -> None:
    async with Pooler(tmp_path, database_url, sessions).running() as pooler:
        with pytest.raises(UnsafeServer, match=f"{REFUSED}: connect to Postgres itself, or pool by session"):
            await asyncio.to_thread(require_session, pooler.url)


def soon() -> threading.Event:
    """Set by itself: what is not refused would go on for ever."""
    stop = threading.Event()
    timer = threading.Timer(20, stop.set)
    timer.daemon = True
    timer.start()
    return stop


def connect(settings: Settings) -> None:
    with connected(settings):
        pass


def project(settings: Settings) -> None:
    run_projector(settings, soon())


def react(settings: Settings) -> None:
    run_reactor(settings, soon())


def ingest(settings: Settings) -> None:
    asyncio.run(asyncio.wait_for(run_ingest(settings), 20))


@pytest.mark.parametrize("begin", [migrate, connect, project, react, ingest])
async def test_whatever_is_to_begin_on_it_is_refused(settings: Settings, begin: Callable[[Settings], object]) -> None:
    with pytest.raises(UnsafeServer, match=REFUSED):
        await asyncio.to_thread(begin, settings)


async def test_an_api_over_it_ends(pooler: Pooler, redis_url: str, tmp_path: Path) -> None:
    redis = Redis.from_url(redis_url)
    checks = ServerChecks(pooler.url, redis, Vault([b"m" * 32]), FolderObjects(tmp_path))
    await checks.look()
    assert REFUSED in (checks.fatal or "")
    await redis.aclose()
