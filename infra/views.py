"""Read models as readers see them: connections, which build of each projection is read, and waiting for a position."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from psycopg import AsyncConnection, OperationalError
from psycopg.rows import class_row, dict_row
from psycopg_pool import AsyncConnectionPool

from domain.errors import StoreUnavailable
from infra.positions import from_token
from projections import PROJECTIONS
from projections.projection import Query
from projections.statements import statement

RECONNECT_SECONDS: Final = 3.0  # then the next request connects: longer pauses would outlast the outage
REACTORS: Final = "reactors"  # stands among the names of projections, for waiting until a notice is told
_POLL_SECONDS: Final = 0.02  # of the positions, while a read waits for one
_POINTERS_SECONDS: Final = 1.0  # how old what is known of the pointers may be: builds stay filled for longer than this


class Standing(Struct, frozen=True):
    """Which build of a projection is read, and how far it is; and the same of the one that some users read instead."""

    name: str
    active: str
    version: int
    position: int
    shadow: str | None
    shadow_version: int | None
    shadow_position: int | None
    shadow_percent: int


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
        self._standings: dict[str, Standing] = {}
        self._read_at = -_POINTERS_SECONDS
        self._reading = asyncio.Lock()
        self._shadowing = _Shadowing()

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

    @asynccontextmanager
    async def view(self, user_id: UUID) -> AsyncIterator["SchemaView"]:
        """The read models as this user sees them, for a few queries. `StoreUnavailable`."""
        async with self.connection() as connection:
            if time.monotonic() - self._read_at > _POINTERS_SECONDS:
                async with self._reading:
                    if time.monotonic() - self._read_at > _POINTERS_SECONDS:
                        await self._look(connection)
            yield SchemaView(connection, self._standings, user_id, self._shadowing)

    async def versions(self, user_id: UUID) -> dict[str, tuple[int, bool]]:
        """Which version of each projection the user reads, and whether it is a shadow's. `StoreUnavailable`."""
        async with self.view(user_id):
            return {
                name: (int(one.shadow_version or 0), True) if reads_shadow(one, user_id) else (one.version, False)
                for name, one in self._standings.items()
                if name != REACTORS
            }

    async def reach(self, token: str, names: Sequence[str], user_id: UUID, timeout_seconds: float) -> bool:
        """Wait until what this user reads of these projections has passed the position; whether it did in time."""
        position = from_token(token)
        deadline = time.monotonic() + timeout_seconds
        while not await self._passed(position, names, user_id):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _passed(self, position: int, names: Sequence[str], user_id: UUID) -> bool:
        asked_at = time.monotonic()
        async with self._reading:  # many waiting reads share one look
            if self._read_at < asked_at and not self._knows(position, names, user_id):
                async with self.connection() as connection:
                    await self._look(connection)
        return self._knows(position, names, user_id)

    async def _look(self, connection: AsyncConnection) -> None:
        await self._shadowing.store(connection)
        async with connection.cursor(row_factory=class_row(Standing)) as cursor:
            await cursor.execute(_STANDINGS)
            self._standings = {standing.name: standing async for standing in cursor}
        self._read_at = time.monotonic()

    def _knows(self, position: int, names: Sequence[str], user_id: UUID) -> bool:
        return all(self._position(name, user_id) >= position for name in names)

    def _position(self, name: str, user_id: UUID) -> int:
        standing = self._standings.get(name)
        if standing is None:
            return -1
        at = standing.shadow_position if reads_shadow(standing, user_id) else standing.position
        return -1 if at is None else at


def reads_shadow(standing: Standing, user_id: UUID) -> bool:
    """Whether the user is of the share that reads the new version. The same users, whatever the projection."""
    return standing.shadow is not None and user_id.int % 100 < standing.shadow_percent


class _Shadowing:
    """Counts how often the new version answered as the old one, and how often not."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._last: dict[str, str] = {}

    def count(self, schema: str, difference: str | None) -> None:
        counted = self._counts.setdefault(schema, [0, 0])
        counted[0] += 1
        if difference is not None:
            counted[1] += 1
            self._last[schema] = difference

    async def store(self, connection: AsyncConnection) -> None:
        """Add what was counted since the last time to what the database has."""
        counts, self._counts = self._counts, {}
        last, self._last = self._last, {}
        for schema, (compared, mismatched) in counts.items():
            await connection.execute(_COUNT_SHADOW, (compared, mismatched, last.get(schema), schema))


class SchemaView:
    """Implements `projections.projection.View` over the builds that one user reads."""

    def __init__(
        self, connection: AsyncConnection, standings: Mapping[str, Standing], user_id: UUID, shadowing: _Shadowing
    ) -> None:
        self._connection = connection
        self._standings = standings
        self._user_id = user_id
        self._shadowing = shadowing

    async def rows(self, query: Query, parameters: Sequence[Any] | Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the query finds in the build that this user reads. `StoreUnavailable` while there is none."""
        standing = self._standings.get(query.projection)
        if standing is None:
            raise StoreUnavailable(f"{query.projection} is not built yet")
        if not reads_shadow(standing, self._user_id):
            return await self._ask(query, standing.active, standing.version, parameters)
        return await self._compared(query, standing, parameters)

    async def _compared(
        self, query: Query, standing: Standing, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """What the new version says; beside it, in the same snapshot, what the old one does, if both are as far."""
        shadow, version = str(standing.shadow), int(standing.shadow_version or 0)
        async with self._connection.transaction():
            await self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            found = await self._ask(query, shadow, version, parameters)
            level = await (await self._connection.execute(_LEVEL, ([shadow, standing.active],))).fetchone()
            if level is not None and level[0]:
                old = await self._ask(query, standing.active, standing.version, parameters)
                self._shadowing.count(shadow, _difference(old, found, _DIFFERS.get((standing.name, version), _NONE)))
        return found

    async def _ask(
        self, query: Query, schema: str, version: int, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        text = query.others.get(version, query.text)
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement(schema, text), parameters)
            return await cursor.fetchall()


def _difference(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], differs: frozenset[str]
) -> str | None:
    """The first difference in the columns that both have and that should be equal. Its values are not told."""
    if len(old) != len(new):
        return f"{len(old)} rows before, {len(new)} now"
    for number, (was, now) in enumerate(zip(old, new, strict=True)):
        for name in was.keys() & now.keys() - differs:
            if was[name] != now[name]:
                return f"row {number}, column {name}"
    return None


_NONE: Final[frozenset[str]] = frozenset()
_DIFFERS: Final = {(projection.name, projection.version): projection.differs for projection in PROJECTIONS}
_STANDINGS: Final = """
    SELECT p.name, p.active, a.version,
        (SELECT coalesce(min(position), -1) FROM projection_shards WHERE schema_name = p.active) AS position,
        p.shadow, b.version AS shadow_version,
        (SELECT coalesce(min(position), -1) FROM projection_shards WHERE schema_name = p.shadow) AS shadow_position,
        p.shadow_percent
    FROM projection_pointers p JOIN projection_builds a ON a.schema_name = p.active
    LEFT JOIN projection_builds b ON b.schema_name = p.shadow
    UNION ALL SELECT 'reactors', '', 0, coalesce(min(position), -1), NULL, NULL, NULL, 0 FROM reactors
"""
_LEVEL: Final = "SELECT min(position) = max(position) FROM projection_shards WHERE schema_name = ANY(%s)"
_COUNT_SHADOW: Final = """
    UPDATE shadow_counts SET compared = compared + %s, mismatched = mismatched + %s,
        last_mismatch = coalesce(%s, last_mismatch) WHERE schema_name = %s
"""


async def _configure(connection: AsyncConnection) -> None:
    await connection.execute("SET timezone = 'UTC'")
    await connection.execute("SET statement_timeout = '10s'")
