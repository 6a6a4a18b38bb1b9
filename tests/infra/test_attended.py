"""A line that leads nowhere is hung up on; a statement that takes long is not."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from psycopg import OperationalError

from infra.attended import Attended, attended
from tests.infra.event_store.proxy import Host


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.attended.LOOK_SECONDS", 0.1)


@pytest.fixture
async def host(database_url: str) -> AsyncIterator[Host]:
    async with Host(database_url).running() as running:
        yield running


async def test_who_waits_on_a_line_that_leads_nowhere_is_told(host: Host) -> None:
    def ask() -> None:
        with Attended.connect(host.url, autocommit=True) as connection, attended(host.url, connection):
            connection.execute("SELECT 1")
            asyncio.run_coroutine_threadsafe(died(), loop).result()
            connection.execute("SELECT 1")

    async def died() -> None:
        host.die()

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        with pytest.raises(OperationalError):
            await asyncio.to_thread(ask)


def test_who_waits_for_what_takes_long_waits_on(database_url: str) -> None:
    with Attended.connect(database_url, autocommit=True) as connection, attended(database_url, connection):
        assert connection.execute("SELECT pg_sleep(1.5), 'done'").fetchone() == ("", "done")
        time.sleep(0.5)  # idle, and nobody waits
        assert connection.execute("SELECT 'again'").fetchone() == ("again",)
