"""What must be true of the servers: refused settings, the right key, the right tables; and what is missing now."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import Connection
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from domain.errors import StoreUnavailable
from infra.faults import Fault
from infra.object_store import Objects
from infra.projecting.readers import not_readable
from infra.store_mark import StoreMissing, WrongStore, check_store
from infra.valkey_checks import unfit, warn_of_evictions
from infra.vault import Vault, WrongMasterKey
from projections import PROJECTIONS
from projections.projection import Projection

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_LATEST: Final = "0008"  # of `infra/migrations/versions`

# A 2xx means durable: none of these may be off (https://www.postgresql.org/docs/18/runtime-config-wal.html).
_DURABLE: Final = ("fsync", "synchronous_commit", "full_page_writes")
# The oldest code that can use these tables is in the comment: infra/migrations/env.py.
_TABLES: Final = """
    SELECT version_num, coalesce(obj_description('alembic_version'::regclass, 'pg_class'), version_num)
    FROM alembic_version
"""
_WHO: Final = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_LOOKS_FOR_POOLER: Final = 3  # others may use its sessions in between, so that ours get different ones
_SEQUENCE: Final = "stored_events_notification_id_seq"
_LOG_STATE: Final = f"""
    SELECT (SELECT seqcache FROM pg_sequence WHERE seqrelid = '{_SEQUENCE}'::regclass), (
        SELECT string_agg(oid::regprocedure::text, ', ') FROM pg_proc
        WHERE proname LIKE 'es\\_insert\\_events\\_%' AND pg_function_is_visible(oid)
    )
"""  # noqa: S608 - a name of ours


class UnsafeServer(Fault):
    """The Postgres server would lose what was acked. The message names the setting."""


class MigrationMissing(Fault):
    """The database's tables are none that this code can use."""


def require_session(database_url: str) -> None:
    """`UnsafeServer` behind a pooler that lends a session for a transaction only.

    What one of ours sets for itself, as that it need not wait for the disk, another would have; and what it prepared
    or locked, it would not find again.
    """
    with ExitStack() as opened:
        one = opened.enter_context(_connect(database_url, autocommit=True))
        for _ in range(_LOOKS_FOR_POOLER):
            other = opened.enter_context(_connect(database_url))  # it keeps what it gets: the next look has fewer
            if is_lent(partial(_who, one), partial(_who, other)):
                raise UnsafeServer(
                    "DATABASE_URL leads to a pooler in transaction mode: "
                    "connect to Postgres itself, or pool by session."
                )


def _connect(database_url: str, *, autocommit: bool = False) -> Connection:
    return psycopg.connect(database_url, connect_timeout=5, autocommit=autocommit, prepare_threshold=None)


def _who(connection: Connection) -> object:
    return connection.execute(_WHO).fetchone()


def is_lent(answering: Callable[[], object], holding: Callable[[], object]) -> bool:
    """Whether a connection has no server process of its own, by which one answers it, before and after the other
    connection is in a transaction. Where there is but one process, the second answer would not come: it is not needed.
    """
    before = answering()
    return before == holding() or before != answering()


def require_unicode(connection: Connection) -> None:
    """`UnsafeServer` unless the database can hold every letter."""
    row = connection.execute("SELECT current_setting('server_encoding')").fetchone()
    if row != ("UTF8",):
        raise UnsafeServer(
            f"the encoding of the database is {row and row[0]}, in which names are lost: make it anew, "
            f"CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        )


def check_server(connection: Connection, vault: Vault) -> None:
    """Raise what makes this database unusable: `UnsafeServer`, `MigrationMissing`, `WrongMasterKey`."""
    require_unicode(connection)
    for name in _DURABLE:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
        if row is not None and row[0] == "off":
            raise UnsafeServer(f"Postgres runs with {name} = off, which loses acked writes: set it to on.")
    check_tables(connection)
    _check_log(connection)
    vault.check(connection)


def _check_log(connection: Connection) -> None:
    """What lets followers skip events without anybody noticing; see docs/decisions/0005."""
    cached, functions = connection.execute(_LOG_STATE).fetchone() or (1, None)
    if cached != 1:
        raise UnsafeServer(
            f"the sequence of the log hands out {cached} positions at once to each connection, so that events appear "
            f"out of order: run ALTER SEQUENCE {_SEQUENCE} CACHE 1."
        )
    if functions:
        raise UnsafeServer(
            f"the database has {functions}, by which the eventsourcing library appends: they know no owner, and lock "
            f"the whole log: drop them, and set CREATE_TABLE=no where the library's applications run."
        )


def check_tables(connection: Connection) -> None:
    """Raise `MigrationMissing` unless this code can use the tables: its own, or newer ones that say that it can."""
    made = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
    row = connection.execute(_TABLES).fetchone() if made and made[0] else None
    if row is None or row[0] < _LATEST:
        found = f"of version {row[0]}" if row else "missing"
        raise MigrationMissing(f"the database's tables are {found}, this code needs {_LATEST}: run cairn migrate.")
    version, oldest_code = row
    if oldest_code > _LATEST:
        raise MigrationMissing(
            f"the database's tables are of version {version}, made by newer code, and this code, of version {_LATEST}, "
            f"cannot use them: run code of version {oldest_code} or newer."
        )


class ServerChecks:
    """Looks again and again, and keeps what it saw for `/readyz`."""

    def __init__(
        self,
        database_url: str,
        redis: Redis,
        vault: Vault,
        objects: Objects,
        projections: Sequence[Projection] = PROJECTIONS,
    ) -> None:
        self._database_url = database_url
        self._projections = projections
        self._redis = redis
        self._vault = vault
        self._objects = objects
        self._own_store: str | None = None  # the id of the store that is known to be this database's
        self._has_session = False  # whether it is known that no pooler lends it: that is asked once
        self._warned = False  # whether Valkey was looked at for what may be the operator's wish
        self._looks: Mapping[str, Callable[[], Awaitable[str | None]]] = {
            "postgres": lambda: asyncio.to_thread(self._postgres),
            "valkey": self._valkey,
            "objects": lambda: asyncio.to_thread(self._store),
        }
        self._found: dict[str, str | None] = dict.fromkeys(self._looks, "not looked at yet")
        self._found["projections"] = None  # of them Postgres tells
        self.fatal: str | None = None  # a wrong key or store, an unsafe server: nothing should go on

    def missing(self) -> Mapping[str, str]:
        """What is missing now, by part, with what is known of the reason."""
        return {part: reason for part, reason in self._found.items() if reason is not None}

    async def look(self) -> None:
        """Look once."""
        await asyncio.gather(*map(self._look, self._looks))

    async def look_for_ever(self) -> None:
        """Look each second until cancelled, or until something is found that nothing can mend."""
        looking = [asyncio.create_task(self._look_on(part)) for part in self._looks]
        try:
            ended, _ = await asyncio.wait(looking, return_when=asyncio.FIRST_COMPLETED)
            for one in ended:
                one.result()
        finally:
            for one in looking:
                one.cancel()

    async def _look_on(self, part: str) -> None:
        """A loop for each: a disk may hang for long, and the others are told of meanwhile."""
        while self.fatal is None:
            await self._look(part)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self, part: str) -> None:
        try:
            self._found[part] = await self._looks[part]()
        except Exception:  # noqa: BLE001 - whatever it is, the next look may go well, and the other parts are looked at
            _log.exception("%s cannot be looked at", part)
            self._found[part] = "cannot be looked at: the log says why"

    def _postgres(self) -> str | None:
        try:
            if not self._has_session:
                require_session(self._database_url)
                self._has_session = True
            with psycopg.connect(self._database_url, connect_timeout=2, autocommit=True) as connection:
                check_server(connection, self._vault)
                self._found["projections"] = not_readable(connection, self._projections)
                read_only = connection.execute("SELECT current_setting('transaction_read_only') = 'on'").fetchone()
        except (UnsafeServer, WrongMasterKey) as fault:
            self.fatal = str(fault)
            return self.fatal
        except MigrationMissing as fault:
            return str(fault)
        except psycopg.Error as error:
            return error.diag.message_primary or "does not answer"  # it says nothing of addresses
        return "takes no writes: reads go on, commands are refused" if read_only == (True,) else None

    async def _valkey(self) -> str | None:
        info: Mapping[str, Any] = {}
        try:
            with suppress(NoPermissionError):  # which is an answer
                await self._redis.ping()
            with suppress(ResponseError):  # it answers, and does not tell what it is
                info = await self._redis.info()
        except (RedisError, OSError):
            return "does not answer: slower, and nothing is lost"
        if not self._warned:
            warn_of_evictions(info)
            self._warned = True
        return unfit(info)

    def _store(self) -> str | None:
        """The database is asked whose a store is once; while it is away, any store that has an id will do."""
        found = None
        try:
            found = self._objects.identity()
            if found is None or found != self._own_store:  # another disk may be in its place
                with psycopg.connect(self._database_url, connect_timeout=2, autocommit=True) as connection:
                    check_store(connection, self._objects)
                self._own_store = found
        except WrongStore as fault:
            self.fatal = str(fault)
            return self.fatal
        except StoreMissing as fault:
            return str(fault)
        except StoreUnavailable as away:
            return f"cannot be used: {away.__cause__}"
        except psycopg.Error:
            return None if found else "has no id yet, which the database gives it"
        return None
