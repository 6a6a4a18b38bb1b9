from collections.abc import AsyncIterator

import pytest
from psycopg import AsyncConnection


@pytest.fixture
async def queries(database_url: str) -> AsyncIterator[AsyncConnection]:
    """A connection for queries, as the API makes them."""
    async with await AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("SET timezone = 'UTC'")
        yield connection
