"""Connections whose line may lead nowhere while a new one would do: a middlebox that acknowledges and never forwards.

The kernel notices nothing (decision 14), and a worker's statement has no deadline: it may wait for a repair's locks. So
the server is asked, over another line, whether it is at it at all.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import Connection
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo

R = TypeVar("R")

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 10.0  # who waits from one look to the next is asked about
_IDLE: Final = """
    SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s AND coalesce(state, '') NOT LIKE 'idle%%')
"""


class Attended(Connection):
    """Knows which of its waits is under way, and can hang up on that."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as psycopg has them
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._waits = 0
        self._waiting = False

    def wait(self, gen: PQGen[R], *args: Any, **kwargs: Any) -> R:  # noqa: ANN401 - as above
        """See `psycopg.Connection`: everything that asks the server comes by here."""
        with self._lock:
            self._waits, self._waiting = self._waits + 1, True
        try:
            return super().wait(gen, *args, **kwargs)
        finally:
            with self._lock:
                self._waiting = False

    @property
    def under_way(self) -> int | None:
        """Which wait is, if one is."""
        with self._lock:
            return self._waits if self._waiting else None

    def hang_up(self, wait: int) -> None:
        """End this wait with an `OperationalError`, if it is still under way."""
        with self._lock:
            if self._waiting and self._waits == wait:
                with suppress(OSError), socket.fromfd(self.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line:
                    line.shutdown(socket.SHUT_RDWR)


@contextmanager
def attended(database_url: str, *connections: Attended) -> Iterator[None]:
    """Meanwhile, who waits on one of these for a server that is idle there gets an `OperationalError` after 30 s.

    Behind a pooler, which tells another process than the one that works, they are left alone.
    """
    left = threading.Event()
    for connection in connections:
        if connection.execute("SELECT pg_backend_pid()").fetchone() == (connection.info.backend_pid,):
            threading.Thread(target=_attend, args=(database_url, connection, left), daemon=True).start()
    try:
        yield
    finally:
        left.set()


def _attend(database_url: str, connection: Attended, left: threading.Event) -> None:
    info = connection.info
    pid, same_host = info.backend_pid, make_conninfo(database_url, host=info.host, port=info.port)
    before: int | None = None
    found_idle = False  # once may be a moment before the answer comes
    while not left.wait(LOOK_SECONDS):
        wait = connection.under_way
        if wait is None or wait != before:
            before, found_idle = wait, False
        elif not _is_idle(same_host, pid):
            found_idle = False
        elif found_idle:
            _log.warning("a connection waits for Postgres, which is idle on it: hanging up")
            connection.hang_up(wait)
        else:
            found_idle = True


def _is_idle(database_url: str, pid: int) -> bool:
    """Whether the server does nothing for this process of its own; False where it cannot be asked."""
    try:
        with psycopg.connect(database_url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(_IDLE, (pid,)).fetchone() == (True,)
    except psycopg.Error:
        return False
