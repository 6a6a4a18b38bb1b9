"""Where read models live: their tables, how far they are, and the connections that queries use."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from psycopg import AsyncConnection, Connection, OperationalError
from psycopg.sql import SQL, Identifier
from psycopg_pool import AsyncConnectionPool

from domain.errors import StoreUnavailable
from domain.events.event import Recorded
from infra.positions import from_token
from projections import PROJECTIONS
from projections.projection import Projection, statement

RECONNECT_SECONDS: Final = 3.0  # then the next request connects: longer pauses would outlast the outage
_POLL_SECONDS: Final = 0.02  # of the positions, while a read waits for one


def make_tables(connection: Connection, projections: Sequence[Projection] = PROJECTIONS) -> None:
    """Make what is missing of the projections' tables. Two at the same time: one waits."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('cairn read models'))")
        for projection in projections:
            schema = Identifier(f"{projection.name}_v{projection.version}")
            connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
            for text in projection.tables():
                connection.execute(statement(projection, text))
            connection.execute(
                "INSERT INTO projection_positions (name, version) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (projection.name, projection.version),
            )


class ViewWriter:
    """The projector's hand on the tables. Implements `workers.projector.Views`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def position(self, projection: Projection) -> int:
        """How far the projection is in the log."""
        try:
            row = self._connection.execute(
                "SELECT position FROM projection_positions WHERE name = %s AND version = %s",
                (projection.name, projection.version),
            ).fetchone()
        except OperationalError as error:
            raise StoreUnavailable from error
        return int(row[0]) if row else 0

    def apply(self, projection: Projection, page: Sequence[Recorded], after: int, ceiling: int) -> None:
        """Rows and position commit together, unless the position is no longer `after`: another worker was first."""
        try:
            with self._connection.transaction():
                moved = self._connection.execute(_MOVE, (ceiling, projection.name, projection.version, after))
                if moved.rowcount == 1:
                    projection.apply(page, self._connection)
        except OperationalError as error:
            raise StoreUnavailable from error


_MOVE: Final = """
    UPDATE projection_positions SET position = %s, updated_at = now()
    WHERE name = %s AND version = %s AND position = %s
"""


class ReadModels:
    """Connections for queries, and waiting for a position. Implements `api.services.ReadModels`."""

    def __init__(self, database_url: str, *, connections: int) -> None:
        self._pool = AsyncConnectionPool(
            database_url,
            open=False,
            min_size=1,
            max_size=connections,
            timeout=2.0,
            reconnect_timeout=RECONNECT_SECONDS,
            max_waiting=connections * 32,
            check=AsyncConnectionPool.check_connection,
            configure=_configure,
            kwargs={"autocommit": True, "connect_timeout": 5},
        )
        self._positions: dict[str, int] = {}
        self._read_at = -1.0
        self._reading = asyncio.Lock()

    async def open(self) -> None:
        """Begin to connect; a server that is away is waited for in the background."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection for a few queries; `StoreUnavailable` when none is to be had within two seconds."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except OperationalError as error:
            raise StoreUnavailable from error

    async def reach(self, token: str, names: Sequence[str], timeout_seconds: float) -> bool:
        """Wait until these projections have passed the position; whether they did in time."""
        position = from_token(token)
        deadline = time.monotonic() + timeout_seconds
        while not await self._passed(position, names):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _passed(self, position: int, names: Sequence[str]) -> bool:
        asked_at = time.monotonic()
        async with self._reading:  # many waiting reads share one look
            if self._read_at < asked_at and not self._knows(position, names):
                async with self.connection() as connection:
                    found = await connection.execute(_POSITIONS, (_NAMES, _VERSIONS))
                    self._positions = {name: int(at) async for name, at in found}
                self._read_at = time.monotonic()
        return self._knows(position, names)

    def _knows(self, position: int, names: Sequence[str]) -> bool:
        return all(self._positions.get(name, -1) >= position for name in names)


_NAMES: Final = [projection.name for projection in PROJECTIONS]
_VERSIONS: Final = [projection.version for projection in PROJECTIONS]
_POSITIONS: Final = """
    SELECT name, position FROM projection_positions
    WHERE (name, version) IN (SELECT * FROM unnest(%s::text[], %s::integer[]))
"""


async def _configure(connection: AsyncConnection) -> None:
    await connection.execute("SET timezone = 'UTC'")
    await connection.execute("SET statement_timeout = '10s'")
