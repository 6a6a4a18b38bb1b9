"""Read models as readers see them: connections, which build of each projection is read, and waiting for a position."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from domain.errors import StoreUnavailable
from infra.away import AWAY, UNMIGRATED, Impatient, require_alive
from infra.durability import DURABLE
from infra.hung_up import OWN_SESSION, THOSE_THERE, HungUp
from infra.positions import from_token
from infra.projecting.readers import announce
from infra.shadowing import Shadowing
from projections import PROJECTIONS
from projections.projection import Projection, Query, Reading
from projections.statements import statement

_log = logging.getLogger(__name__)

RECONNECT_SECONDS: Final = 3.0  # then the next request connects: longer pauses would outlast the outage
REACTORS: Final = "reactors"  # stands among the names of projections, for waiting until a notice is told
_POLL_SECONDS: Final = 0.02  # of the positions, while a read waits for one
_WAIT_SECONDS: Final = 2.0  # for a connection, or for who looks at the pointers
_FULL_SECONDS: Final = 0.25  # of a read, where all that it may take are taken: it comes again, and no queue grows
_POINTERS_SECONDS: Final = 1.0  # how old what is known of the pointers may be: builds stay filled for longer than this


class Readable(Struct, frozen=True):
    """A build that is filled, and how far it is."""

    schema: str
    version: int
    position: int


class Standing(Struct, frozen=True):
    """The builds of a projection that somebody reads."""

    active: Readable
    shadow: Readable | None
    shadow_percent: int

    def tried_by(self, user_id: UUID) -> Readable | None:
        """The shadow, if the user is of the share that reads it. The same users, whatever the projection."""
        return self.shadow if user_id.int % 100 < self.shadow_percent else None

    def of(self, user_id: UUID) -> Readable:
        """The build that the user reads."""
        return self.tried_by(user_id) or self.active


Standings = Mapping[str, Standing]


class ReadModels:
    """Connections for queries, and waiting for a position. Implements `api.services.ReadModels`.

    `announced`: projections are read over them, so that no version is dropped which is all that this code knows.
    """

    def __init__(
        self,
        database_url: str,
        *,
        connections: int,
        projections: Sequence[Projection] = PROJECTIONS,
        announced: bool = False,
    ) -> None:
        self._pool = AsyncConnectionPool(
            database_url,
            connection_class=Impatient,
            open=False,
            min_size=1,
            max_size=connections,
            timeout=_WAIT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            max_waiting=connections * 32,
            check=require_alive,
            configure=self._configure,
            kwargs={"autocommit": True, "connect_timeout": 2},
        )
        self._connections = connections
        self._taken = 0
        self._hung_up = HungUp()
        self._minor = asyncio.Semaphore(max(1, connections // 2))
        self._standings: Standings = {}
        self.log = ""  # which log the builds are of: another one once it is restored from a backup
        self._builds = ""
        self._read_at = -_POINTERS_SECONDS
        self._reading = asyncio.Lock()
        self._declared = {(projection.name, projection.version) for projection in projections} | {(REACTORS, 0)}
        self._announced = announced
        self.shadowing = Shadowing(projections)

    async def _configure(self, connection: Impatient) -> None:
        await connection.execute("SET timezone = 'UTC'")
        await connection.execute(DURABLE)
        [(session,)] = await (await connection.execute(OWN_SESSION)).fetchall()
        connection.session = session.encode()
        # before the connection hangs up: only silence means death
        await connection.execute("SET statement_timeout = '4s'")
        if self._announced:
            await announce(connection, self._declared)

    async def open(self) -> None:
        """Begin to connect; a server that is away is waited for in the background."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self, *, hurried: bool = False) -> AsyncIterator[Impatient]:
        """A connection for a few queries. `StoreUnavailable` when none is to be had within two seconds, when what is
        asked over it is not answered, when it takes no writes and is given one, and while the tables are not there.

        `hurried`: within a quarter of a second, where others have all of them.
        """
        full = self._taken >= self._connections
        try:
            async with self._pool.connection(_FULL_SECONDS if hurried and full else _WAIT_SECONDS) as connection:
                self._taken += 1
                try:
                    yield connection
                except ReadOnlySqlTransaction:
                    await connection.close()
                    raise
                finally:
                    self._taken -= 1
                    if connection.closed:  # so are the others, as a rule, and each would cost a read
                        await self._pool.drain()
        except AWAY as error:
            raise StoreUnavailable from error
        except UNMIGRATED as error:
            _log.exception("a table or a column is not there: is cairn migrate to be run?")
            raise StoreUnavailable from error

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        """One for what changes something. `StoreUnavailable` also while too many changes hang in Postgres."""
        async with self.connection() as connection:
            if asked := self._hung_up.asked_for():
                found = await AsyncRawCursor(connection).execute(THOSE_THERE, [b" ".join(asked).decode()])
                self._hung_up.found(asked, {session.encode() for (session,) in await found.fetchall()})
            try:
                yield connection
            finally:
                if connection.closed:
                    self._hung_up.add(connection.session)

    @asynccontextmanager
    async def reading(self, *, minor: bool) -> AsyncIterator[AsyncConnection]:
        """A hurried one for a read. `minor`: one of the half that reads have which matter least: were one table locked,
        they would have all of them, and every other read would wait.
        """
        async with (
            _held(self._minor, _FULL_SECONDS) if minor else nullcontext(),
            self.connection(hurried=True) as connection,
        ):
            yield connection

    def reader(self, user_id: UUID, *, minor: bool = False) -> "Reader":
        """For one request of this user; `minor`: others matter more."""
        return Reader(self, user_id, minor=minor)

    async def versions(self, user_id: UUID) -> dict[str, tuple[int, bool]]:
        """Which version of each projection the user reads, and whether it is a shadow's; what was known last while
        the server is away.
        """
        standings = self._standings
        with suppress(StoreUnavailable):
            async with self.connection() as connection:
                standings = await self.standings(connection)
        return {
            name: (one.of(user_id).version, one.tried_by(user_id) is not None)
            for name, one in standings.items()
            if name != REACTORS
        }

    async def standings(self, connection: AsyncConnection) -> Standings:
        """Which builds are read, as it was a second ago or later."""
        if time.monotonic() - self._read_at > _POINTERS_SECONDS:
            async with _held(self._reading, _WAIT_SECONDS):
                if time.monotonic() - self._read_at > _POINTERS_SECONDS:
                    await self._look(connection)
        return self._standings

    async def passed(self, position: int, names: Sequence[str], user_id: UUID) -> Standings | None:
        """What is read, if the user's builds of these projections have passed the position by now."""
        asked_at = time.monotonic()

        def is_new() -> bool:
            aged = asked_at - self._read_at > _POINTERS_SECONDS
            return not aged and (self._read_at >= asked_at or self._knows(position, names, user_id))

        if not is_new():
            async with (
                self.connection(hurried=True) as connection,
                _held(self._reading, _WAIT_SECONDS),
            ):  # as in `standings`: else they wait for each other
                if not is_new():  # many waiting reads share one look
                    await self._look(connection)
        return self._standings if self._knows(position, names, user_id) else None

    async def _look(self, connection: AsyncConnection) -> None:
        await self.shadowing.store(connection)
        [(self.log,)] = await (await connection.execute(_LOG)).fetchall()
        found: dict[str, dict[str, tuple[Readable, int]]] = {}
        for name, role, percent, *build in await (await connection.execute(_STANDINGS)).fetchall():
            if (name, build[1]) in self._declared:
                found.setdefault(name, {})[role] = Readable(*build), percent
        self._standings = {name: standing for name, roles in found.items() if (standing := _standing(roles))}
        self._builds = ",".join(
            f"{one.active.schema}+{one.shadow.schema if one.shadow else ''}+{one.shadow_percent}"
            for _, one in sorted(self._standings.items())
        )
        self._read_at = time.monotonic()

    @property
    def known(self) -> Standings:
        """Which builds are read, as it was when somebody looked last."""
        return self._standings

    @property
    def builds(self) -> str:
        """Which builds are read, as far as is known; another text as soon as others are."""
        return self._builds

    def position(self, token: str) -> int:
        """The position that a write was told. `MalformedPosition`."""
        return from_token(token)

    def forget(self) -> None:
        """Look at the builds again before the next read."""
        self._read_at = -_POINTERS_SECONDS

    def _knows(self, position: int, names: Sequence[str], user_id: UUID) -> bool:
        standings = self._standings
        return all(name in standings and standings[name].of(user_id).position >= position for name in names)


@asynccontextmanager
async def _held(place: asyncio.Lock | asyncio.Semaphore, seconds: float) -> AsyncIterator[None]:
    """`StoreUnavailable` when it is not to be had in time: who has it gets no answer either."""
    try:
        async with asyncio.timeout(seconds):
            await place.acquire()
    except TimeoutError:
        raise StoreUnavailable from None
    try:
        yield
    finally:
        place.release()


def _standing(roles: Mapping[str, tuple[Readable, int]]) -> Standing | None:
    """Of the builds whose versions this code knows. Code from before a cutover reads on what is on standby since."""
    active = roles.get("active") or roles.get("standby")
    if active is None:
        return None
    shadow, percent = roles.get("shadow", (None, 0))
    return Standing(active[0], shadow, percent)


class Reader:
    """Reads of one request. What it reads after `reach` is what was reached, though it be exchanged in between."""

    def __init__(self, read_models: ReadModels, user_id: UUID, *, minor: bool) -> None:
        self._read_models = read_models
        self._user_id = user_id
        self._minor = minor
        self._reached: Standings | None = None
        self._standings = read_models.known
        self._builds = read_models.builds

    async def reach(self, token: str, names: Sequence[str], timeout_seconds: float) -> bool:
        """Wait until what this user reads of these projections has passed the position; whether it did in time."""
        position = from_token(token)
        deadline = time.monotonic() + timeout_seconds
        while (reached := await self._read_models.passed(position, names, self._user_id)) is None:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        self._reached = self._standings = reached
        self._builds = self._read_models.builds
        return True

    @asynccontextmanager
    async def view(self) -> AsyncIterator["SchemaView"]:
        """The read models as this user sees them, for a few queries. `StoreUnavailable`."""
        async with self._read_models.reading(minor=self._minor) as connection:
            if self._reached is None:
                self._standings = await self._read_models.standings(connection)
                self._builds = self._read_models.builds
            yield SchemaView(
                connection, self._standings, self._user_id, self._read_models.shadowing, log=self._read_models.log
            )

    def seen(self, names: Sequence[str]) -> tuple[int, str] | None:
        """A position that all reads so far have passed in these, and the builds. None when that is not known, and while
        a new version is tried: every read of that is to be compared.
        """
        standings = [self._standings.get(name) for name in names]
        if any(one is None or one.tried_by(self._user_id) is not None for one in standings):
            return None
        return min(one.of(self._user_id).position for one in standings if one is not None), self._builds


class SchemaView:
    """Implements `projections.projection.View` over the builds that one user reads."""

    def __init__(
        self,
        connection: AsyncConnection,
        standings: Standings,
        user_id: UUID,
        shadowing: Shadowing,
        *,
        log: str,
    ) -> None:
        self._connection = connection
        self._standings = standings
        self._user_id = user_id
        self._shadowing = shadowing
        self._log = log

    def reading(self, names: Sequence[str]) -> Reading:
        """See `projections.projection.View`. Another build of the same version is the same: it was proved equal."""
        read = [self._standing(name).of(self._user_id) for name in names]
        versions = (f"{name} {one.version}" for name, one in zip(names, read, strict=True))
        return Reading(" ".join((self._log, *versions)), tuple(one.schema for one in read))

    async def rows(self, query: Query, parameters: Sequence[Any] | Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the query finds in the build that this user reads. `StoreUnavailable` while there is none."""
        standing = self._standing(query.projection)
        shadow = standing.tried_by(self._user_id)
        if shadow is None:
            return await self._ask(query, standing.active, parameters)
        return await self._compared(query, shadow, standing.active, parameters)

    def _standing(self, name: str) -> Standing:
        standing = self._standings.get(name)
        if standing is None:
            raise StoreUnavailable(f"{name} is not built in a version that this code knows")
        return standing

    async def _compared(
        self, query: Query, shadow: Readable, active: Readable, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """What the new version says; beside it, in the same snapshot, what the old one does, if both are as far."""
        async with self._connection.transaction():
            await self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            found = await self._ask(query, shadow, parameters)
            level = await (await self._connection.execute(_LEVEL, ([shadow.schema, active.schema],))).fetchone()
            if level is not None and level[0]:
                old = await self._ask(query, active, parameters)
                self._shadowing.compare(query.projection, shadow.version, shadow.schema, old, found)
        return found

    async def _ask(
        self, query: Query, build: Readable, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        text = query.others.get(build.version, query.text)
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement(build.schema, text), parameters)
            return await cursor.fetchall()


_STANDINGS: Final = """
    SELECT p.name, r.role, p.shadow_percent, r.schema_name, b.version,
        (SELECT coalesce(min(position), -1) FROM projection_shards s WHERE s.schema_name = r.schema_name)
    FROM projection_pointers p
    CROSS JOIN LATERAL (VALUES ('active', p.active), ('standby', p.standby), ('shadow', p.shadow)) r (role, schema_name)
    JOIN projection_builds b ON b.schema_name = r.schema_name
    UNION ALL SELECT 'reactors', 'active', 0, '', 0, coalesce(min(position), -1)
    FROM reactors WHERE NOT starts_with(name, 'cdn')  -- what a cache is told is nobody's notice: it may be away
"""
# Another cluster, another timeline of it (a restored one goes on from the past), another database or another table.
_LOG: Final = """
    SELECT md5(concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
        CASE WHEN pg_is_in_recovery()
            THEN (SELECT upper(lpad(to_hex(timeline_id), 8, '0')) FROM pg_control_checkpoint())
            ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
        (SELECT oid FROM pg_database WHERE datname = current_database()), 'stored_events'::regclass::oid))
"""
_LEVEL: Final = "SELECT min(position) = max(position) FROM projection_shards WHERE schema_name = ANY(%s)"
