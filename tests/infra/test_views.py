import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from infra.views import ReadModels


@pytest.fixture
async def read_models(database_url: str) -> AsyncIterator[ReadModels]:
    opened = ReadModels(database_url, connections=1)
    await opened.open()
    yield opened
    await opened.close()


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


async def test_who_waits_for_a_position_and_who_reads_do_not_wait_for_each_other(read_models: ReadModels) -> None:
    async with read_models.connection() as connection:
        waiting = asyncio.create_task(read_models.passed(10**9, ("people",), uuid4()))  # for this very connection
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            await read_models.standings(connection)
    assert await waiting is None
