"""A host of Postgres that dies without a word: no FIN, no RST, no answer."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, OperationalError
from psycopg.conninfo import conninfo_to_dict

from domain.errors import StoreUnavailable
from infra.away import watched
from infra.event_store.postgres import PostgresLog
from infra.event_store.rows import Save
from infra.views import ReadModels
from tests.infra.event_store.proxy import Host
from tests.scenarios import ANNA


@pytest.fixture
async def host(database_url: str) -> AsyncIterator[Host]:
    async with Host(database_url).running() as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("infra.away", "infra.event_store.postgres"):
        monkeypatch.setattr(f"{module}.ANSWER_SECONDS", 0.5)


@pytest.fixture
async def read_models(host: Host) -> AsyncIterator[ReadModels]:
    opened = ReadModels(host.url, connections=4)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def log(host: Host) -> AsyncIterator[PostgresLog]:
    opened = PostgresLog(host.url)
    yield opened
    await opened.close()


def connect(url: str) -> Connection:
    return psycopg.connect(url, autocommit=True)


async def looked(read_models: ReadModels) -> bool:
    """Whether a read was answered, where it was not told that the store is away."""
    read_models.forget()
    try:
        async with read_models.reader(ANNA).view():
            return True
    except StoreUnavailable:
        return False


async def reached(read_models: ReadModels) -> bool:
    try:
        return await read_models.reader(ANNA).reach("p1-0", [], 0.0)
    except StoreUnavailable:
        return False


async def wrote(log: PostgresLog, events: int) -> bool:
    states = tuple(("follow.ended@1", uuid4().bytes) for _ in range(events))
    try:
        return await log.append(Save(uuid4(), ANNA, 1, states)) > 0
    except StoreUnavailable:
        return False


@pytest.mark.usefixtures("impatient")
async def test_reads_that_meet_a_silent_host_are_refused_and_the_next_ones_reach_its_successor(
    read_models: ReadModels, host: Host
) -> None:
    assert all(await asyncio.gather(*(looked(read_models) for _ in range(8))))
    host.die()
    async with asyncio.timeout(60):
        assert not await looked(read_models)
        assert all(await asyncio.gather(*(looked(read_models) for _ in range(8))))


@pytest.mark.usefixtures("impatient")
async def test_while_all_is_silent_no_read_waits_for_the_ones_before_it(read_models: ReadModels, host: Host) -> None:
    assert await reached(read_models)
    host.gone = True
    host.die()
    read_models.forget()
    async with asyncio.timeout(60):  # one after the other they would need minutes
        assert not any(await asyncio.gather(*(reached(read_models) for _ in range(100))))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("events", [1, 2])
async def test_writes_that_meet_a_silent_host_reach_its_successor(log: PostgresLog, host: Host, events: int) -> None:
    async with AsyncExitStack() as all_of_them:  # more than a write has tries
        for _ in range(8):
            await all_of_them.enter_async_context(log._channels.one())
    host.die()
    async with asyncio.timeout(60):
        assert await wrote(log, events)
        assert await log.load(uuid4()) == []


async def test_a_host_that_falls_silent_while_it_is_connected_to_is_not_waited_for(
    log: PostgresLog, host: Host
) -> None:
    host.gone = True
    async with asyncio.timeout(60):
        assert not await wrote(log, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="acted with a socket filter")
async def test_workers_and_commands_notice_that_a_host_has_no_power(host: Host) -> None:
    """With their real settings, which take seven seconds."""
    url = watched(host.url)
    asking, waiting = await asyncio.gather(asyncio.to_thread(connect, url), asyncio.to_thread(connect, url))
    answer = asyncio.create_task(asyncio.to_thread(waiting.execute, "SELECT pg_sleep(60)"))
    await asyncio.sleep(0.5)  # until the server has heard it
    host.die(deaf=True)
    with pytest.raises(OperationalError):
        await asyncio.to_thread(asking.execute, "SELECT 1")
    with pytest.raises(OperationalError):
        await answer
    asking.close()
    waiting.close()


def test_what_an_address_says_itself_stays() -> None:
    url = watched("postgresql://u:p%40ss@db1:5432,db2:5433/cairn?keepalives_idle=60&target_session_attrs=read-write")
    assert conninfo_to_dict(url) == {
        "user": "u",
        "password": "p@ss",
        "dbname": "cairn",
        "host": "db1,db2",
        "port": "5432,5433",
        "target_session_attrs": "read-write",
        "tcp_user_timeout": "5000",
        "keepalives": "1",
        "keepalives_idle": "60",
        "keepalives_interval": "2",
        "keepalives_count": "2",
    }
