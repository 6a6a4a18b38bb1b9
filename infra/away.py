"""How it shows that Postgres is away: by what it raises, and, where its host died without a word, by its silence."""

import asyncio
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, LiteralString, TypeVar

from psycopg import AsyncConnection, OperationalError
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import ReadOnlySqlTransaction, UndefinedColumn, UndefinedTable
from psycopg_pool import AsyncConnectionPool

from domain.errors import StoreUnavailable

R = TypeVar("R")

# Away, or no place for writes, any more or yet: after a failover a connection may lead to such a node for good.
AWAY: Final = (OperationalError, ReadOnlySqlTransaction)
UNMIGRATED: Final = (UndefinedTable, UndefinedColumn)  # this code came before `cairn migrate`: `/readyz` says so
ANSWER_SECONDS: Final = 5.0  # half of the ten in which all is to answer again after a failover

# By these the kernel finds out within 7 s: by data that nobody acknowledges, or, where an answer is waited for, by
# probes. A server that is busy for an hour passes: its kernel answers. Unix sockets ignore them.
_LIFE_SIGNS: Final = {
    "tcp_user_timeout": 5_000,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}

_UNICODE: Final = {"client_encoding": "utf8"}  # whatever PGCLIENTENCODING says: names would be stored as other letters

# The same seen from the server: what a session holds, as its locks, is free half a minute after its host died.
LETTING_GO: Final[LiteralString] = """
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 25000
"""


@contextmanager
def or_unavailable() -> Iterator[None]:
    """For what asks Postgres: `StoreUnavailable` when it is away, also when nobody knows whether it was done."""
    try:
        yield
    except AWAY as error:
        raise StoreUnavailable from error


def watched(database_url: str) -> str:
    """The address with what makes a connection notice that its server's host died, unless it says itself what does, and
    with the encoding that all of ours have.
    """
    return make_conninfo("", **(_LIFE_SIGNS | conninfo_to_dict(database_url) | _UNICODE))


async def require_alive(connection: AsyncConnection) -> None:
    """Raise when the connection was lost while nobody used it. A server that has gone has closed its socket: asking
    it before each use would cost as much as most queries do.
    """
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):  # its end, or a notice
        await AsyncConnectionPool.check_connection(connection)


class Impatient(AsyncConnection):
    """Hangs up on a server that does not answer in time, whatever keeps the line open: who waits gets an
    `OperationalError`. To cut off the wait would not do: psycopg then asks the server to stop, and waits for that.
    """

    session = b""  # which it is of the server's, once that is known: see `infra.hung_up`

    async def wait(self, gen: PQGen[R], *args: Any, **kwargs: Any) -> R:  # noqa: ANN401 - as psycopg has them
        """See `psycopg.AsyncConnection`: everything that asks the server comes by here."""
        timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._hang_up)
        try:
            return await super().wait(gen, *args, **kwargs)
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError), socket.fromfd(self.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line:
            line.shutdown(socket.SHUT_RDWR)
