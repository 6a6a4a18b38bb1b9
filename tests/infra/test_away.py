"""A host of Postgres that dies without a word, no FIN, no RST, no answer; and a node that takes no writes."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, OperationalError
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from domain.errors import StoreUnavailable
from domain.measures import ActivityId
from infra.away import watched
from infra.claims import PostgresAttempts, bookkeeping
from infra.event_store.postgres import PostgresLog
from infra.event_store.rows import Save
from infra.keys import MasterKeys, UserKeys
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


@pytest.mark.parametrize("said", ["", " client_encoding=LATIN1"])
def test_text_is_unicode_whatever_the_environment_or_the_address_says(
    database_url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with connect(watched(database_url + said)) as connection:
        assert connection.info.encoding == "utf-8"


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


@contextmanager
def demoted(database_url: str) -> Iterator[None]:
    """Connections that are made meanwhile take no writes, for good: as those to a standby, or to a demoted primary."""
    change = SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
    name = Identifier(str(conninfo_to_dict(database_url)["dbname"]))
    with connect(database_url) as operator:
        operator.execute(change.format(name, SQL("on")))
        yield
        operator.execute("SET default_transaction_read_only = off")
        operator.execute(change.format(name, SQL("off")))


@pytest.mark.parametrize("events", [1, 2])
async def test_a_write_that_meets_a_node_that_takes_none_leaves_it_for_good(database_url: str, events: int) -> None:
    log = PostgresLog(database_url)
    with demoted(database_url):
        async with AsyncExitStack() as all_of_them:
            for _ in range(2):
                await all_of_them.enter_async_context(log._channels.one())
        assert not await wrote(log, events)
        async with log._channels.one(), log._channels.one():
            pass
    await wrote(log, events)  # a single event is tried once more by itself
    assert await wrote(log, events)
    await log.close()


async def test_so_does_any_other_change(database_url: str) -> None:
    read_models = ReadModels(database_url, connections=2)
    keys = UserKeys(read_models, MasterKeys([b"m" * 32]))
    with demoted(database_url):
        await read_models.open()
        async with read_models.connection(), read_models.connection():
            pass
    with pytest.raises(StoreUnavailable):
        await keys.to_seal(ANNA)
    await keys.to_seal(ANNA)
    await read_models.close()


async def test_so_does_the_bookkeeping_of_ingest(database_url: str) -> None:
    channels = bookkeeping(database_url)
    attempts = PostgresAttempts(channels)
    with demoted(database_url):
        async with channels.one(), channels.one():
            pass
    with pytest.raises(StoreUnavailable):
        await attempts.begin(ActivityId(uuid4()))
    assert await attempts.begin(ActivityId(uuid4())) == 1
    channels.close()


def test_what_an_address_says_itself_stays() -> None:
    url = watched("postgresql://u:p%40ss@db1:5432,db2:5433/cairn?keepalives_idle=60&target_session_attrs=read-write")
    assert conninfo_to_dict(url) == {
        "user": "u",
        "password": "p@ss",
        "dbname": "cairn",
        "host": "db1,db2",
        "port": "5432,5433",
        "target_session_attrs": "read-write",
        "client_encoding": "utf8",
        "tcp_user_timeout": "5000",
        "keepalives": "1",
        "keepalives_idle": "60",
        "keepalives_interval": "2",
        "keepalives_count": "2",
    }
