"""A line that leads nowhere is hung up on; a statement that takes long is not."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
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


def test_who_is_found_idle_only_now_and_then_waits_on(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose statements are short: each look may come a moment before an answer."""
    with psycopg.connect(database_url, autocommit=True) as other:
        looks = iter([True, False, True, False])

        def is_idle(*_: object) -> bool:
            found = next(looks, None)
            if found is None:
                other.execute("SELECT pg_advisory_unlock_all()")
            return bool(found)

        monkeypatch.setattr("infra.attended._is_idle", is_idle)
        monkeypatch.setattr("infra.attended.LOOK_SECONDS", 0.01)
        other.execute("SELECT pg_advisory_lock(1)")
        with Attended.connect(database_url, autocommit=True) as connection, attended(database_url, connection):
            assert connection.execute("SELECT pg_advisory_lock(1), 'done'").fetchone() == ("", "done")


def test_only_the_wait_that_was_meant_is_ended(database_url: str) -> None:
    with (
        Attended.connect(database_url, autocommit=True) as connection,
        psycopg.connect(database_url, autocommit=True) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        over = connection._waits
        connection.hang_up(over)
        other.execute("SELECT pg_advisory_lock(1)")
        waiting = pool.submit(connection.execute, "SELECT pg_advisory_lock(1)")
        while connection.under_way is None:
            time.sleep(0.001)
        connection.hang_up(over)
        other.execute("SELECT pg_advisory_unlock(1)")
        assert waiting.result(30).fetchone() == ("",)
