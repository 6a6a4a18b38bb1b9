import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from uuid import uuid4

import pytest
from psycopg import Connection

from domain.errors import StoreUnavailable
from infra.projecting.builds import Registry
from infra.views import ReadModels
from projections.people import people
from projections.summaries import days
from tests.scenarios import ANNA


@pytest.fixture
async def read_models(database_url: str) -> AsyncIterator[ReadModels]:
    opened = ReadModels(database_url, connections=1)
    await opened.open()
    yield opened
    await opened.close()


@asynccontextmanager
async def locked(read_models: ReadModels, database: Connection, minor: Sequence[bool]) -> AsyncIterator[None]:
    """Reads of a table that somebody has locked, as many as there are connections for, are under way."""

    async def read(*, minor: bool) -> None:
        async with read_models.reader(ANNA, minor=minor).view() as view:
            await days(view, ANNA, date.min, date.max)

    async with read_models.connection():
        pass  # it is connected
    with database.transaction():
        database.execute("LOCK TABLE summaries_v1.days IN ACCESS EXCLUSIVE MODE")
        stuck = [asyncio.create_task(read(minor=one)) for one in minor]
        await asyncio.sleep(1)
        yield
    await asyncio.gather(*stuck, return_exceptions=True)


async def refused_seconds(read_models: ReadModels, *, minor: bool) -> float:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        async with read_models.reader(ANNA, minor=minor).view():
            pass
    return time.monotonic() - began


@pytest.fixture
async def four(database_url: str, database: Connection) -> AsyncIterator[ReadModels]:
    Registry(database).register()
    opened = ReadModels(database_url, connections=4)
    await opened.open()
    yield opened
    await opened.close()


async def test_what_matters_least_never_has_all_connections(four: ReadModels, database: Connection) -> None:
    async with locked(four, database, [True] * 6):
        assert await refused_seconds(four, minor=True) < 1
        async with asyncio.timeout(1), four.reader(ANNA).view() as view:
            assert await people(view, [ANNA]) == {}


async def test_while_others_have_all_connections_a_read_is_refused_soon(four: ReadModels, database: Connection) -> None:
    async with locked(four, database, [False] * 4):
        assert await refused_seconds(four, minor=False) < 1  # not two, which it waits for a server that is away


async def backend(read_models: ReadModels) -> int:
    async with read_models.connection() as connection:
        return connection.info.backend_pid


async def test_a_connection_that_was_lost_in_between_is_replaced(read_models: ReadModels, database_url: str) -> None:
    lost = await backend(read_models)
    assert await backend(read_models) == lost
    other = ReadModels(database_url, connections=1)
    await other.open()
    async with other.connection() as connection:
        await connection.execute("SELECT pg_terminate_backend(%s, 5000)", (lost,))
    await other.close()
    assert await backend(read_models) != lost


async def test_a_build_has_passed_what_all_its_shards_have(read_models: ReadModels, database: Connection) -> None:
    shards = """
        UPDATE projection_shards s SET position = %s FROM projection_pointers p
        WHERE p.name = 'people' AND s.schema_name = p.active AND s.shard >= %s
    """
    assert database.execute(shards, (10, 0)).rowcount > 1
    read_models.forget()
    assert await read_models.passed(7, ("people",), ANNA) is not None
    database.execute(shards, (5, 1))
    read_models.forget()
    assert await read_models.passed(7, ("people",), ANNA) is None


async def test_a_place_is_given_back_whatever_the_read_fails_at(read_models: ReadModels) -> None:
    for _ in range(3):
        with pytest.raises(KeyError):
            async with read_models.reading(minor=True):
                raise KeyError
    assert read_models._taken == 0


async def test_the_server_gives_a_statement_up_before_its_connection_is(read_models: ReadModels) -> None:
    async with read_models.connection() as connection:
        assert await (await connection.execute("SHOW statement_timeout")).fetchone() == ("4s",)


async def test_who_waits_for_a_position_and_who_reads_do_not_wait_for_each_other(read_models: ReadModels) -> None:
    async with read_models.connection() as connection:
        waiting = asyncio.create_task(read_models.passed(10**9, ("people",), uuid4()))  # for this very connection
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            await read_models.standings(connection)
    assert await waiting is None
