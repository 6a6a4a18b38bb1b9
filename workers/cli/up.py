"""`cairn up`: everything on one machine, under one supervisor."""

import asyncio
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import psycopg
from redis import Redis
from redis.exceptions import RedisError

from infra.embedded.places import private_folder
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.valkey import EmbeddedValkey
from infra.faults import Fault
from infra.instance import Instance, announce, hold
from infra.processes import end_with_parent
from infra.secrets import load_secrets, make_secrets
from infra.settings import external_urls, load_settings
from workers.cli.options import CHECKOUT, data_option
from workers.cli.serving import migrate
from workers.supervisor import Service, ServiceFailed, Supervisor, prefixed_log

_KEYS: Final = ("CAIRN_MASTER_KEY", "CAIRN_TOKEN_KEYS", "CAIRN_CURSOR_KEY")
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command("up")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="The port to listen on.")
@data_option
def up_command(host: str, port: int, data: Path) -> None:
    """Start everything and stay: Postgres, Valkey, the API and the workers.

    DATABASE_URL, REDIS_URL and OBJECT_STORE_URL point to servers of yours instead of the embedded ones. What
    crashes is started again. Ctrl-C stops everything; the data stays in --data.
    """
    external = external_urls(os.environ)
    private_folder(data)
    _require_free(host, port)
    with hold(data):
        try:
            asyncio.run(_Up(data, host, port, external).run())
        except ServiceFailed as failure:
            raise Fault(str(failure)) from None


def _require_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise Fault(f"port {port} on {host} cannot be used ({error.strerror}): choose another with --port.") from None


class _Up:
    """One start of everything."""

    def __init__(self, data: Path, host: str, port: int, external: Mapping[str, str]) -> None:
        self._data = data
        self._host = host
        self._port = port
        self._external = external
        self._log = prefixed_log()
        self._supervisor = Supervisor(self._log)

    async def run(self) -> None:
        """Until a signal, or until something does not start."""
        stopping = asyncio.Event()
        for number in _STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        starting = asyncio.create_task(self._start())
        waiting = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                announce(self._data, starting.result())
                self._tell(starting.result())
            await waiting
            self._log("cairn", "stopping")
        finally:
            for task in (starting, waiting):
                task.cancel()
            await asyncio.gather(starting, waiting, return_exceptions=True)
            await self._supervisor.stop()
        self._log("cairn", "stopped")

    async def _start(self) -> Instance:
        postgres = None if "DATABASE_URL" in self._external else EmbeddedPostgres(self._data)
        valkey = None if "REDIS_URL" in self._external else EmbeddedValkey(self._data)
        self._require_secrets(postgres)
        servers = []
        if postgres is not None:
            self._log("cairn", "preparing Postgres")
            await asyncio.to_thread(postgres.make)
            servers.append(_server("postgres", postgres))
        if valkey is not None:
            servers.append(_server("valkey", valkey))
        await self._supervisor.start(*servers)
        instance = Instance(
            pid=os.getpid(),
            api_url=f"http://{self._host}:{self._port}",
            database_url=postgres.url if postgres else self._external["DATABASE_URL"],
            redis_url=valkey.url if valkey else self._external["REDIS_URL"],
            object_store_url=self._external.get("OBJECT_STORE_URL", (self._data / "objects").as_uri()),
        )
        environ = {
            **os.environ,
            "DATABASE_URL": instance.database_url,
            "REDIS_URL": instance.redis_url,
            "OBJECT_STORE_URL": instance.object_store_url,
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
        }
        await asyncio.to_thread(_require_reachable, instance)
        await asyncio.to_thread(migrate, load_settings(self._data, environ))
        await self._supervisor.start(*self._processes(instance, environ))
        return instance

    def _require_secrets(self, postgres: EmbeddedPostgres | None) -> None:
        """Keys are made with a new database of ours, and never for one that was made with others."""
        if load_secrets(self._data) or all(os.environ.get(name) for name in _KEYS):
            return
        if postgres is None:
            raise Fault(
                f"with a DATABASE_URL of yours the keys must be given: set {', '.join(_KEYS)} "
                f"(each key is what `openssl rand -base64 32` prints; CAIRN_TOKEN_KEYS is KEY_ID:BASE64)."
            )
        if not postgres.is_new:
            raise Fault(
                f"{self._data}/secrets is missing, and the data there was made with it: "
                f"put back your backup of the secrets, or move {self._data} away to start anew."
            )
        make_secrets(self._data)

    def _processes(self, instance: Instance, environ: Mapping[str, str]) -> list[Service]:
        data = ["--data", str(self._data)]
        api = ["api.main", "--host", self._host, "--port", str(self._port), *data]
        worker = ["workers.cli.main", "worker", *data]

        def process(name: str, module: list[str], ready_url: str | None = None) -> Service:
            return Service(
                name,
                [sys.executable, "-m", *module],
                environ,
                ready=(lambda: _answers(ready_url)) if ready_url else lambda: True,
                before_exec=end_with_parent,
            )

        return [
            process("api", api, f"{instance.api_url}/readyz"),
            process("projector", [*worker, "projector"]),
            process("ingest", [*worker, "ingest"]),
        ]

    def _tell(self, instance: Instance) -> None:
        lines = (
            "ready",
            f"  API        {instance.api_url}/v1",
            f"  API docs   {instance.api_url}/docs",
            f"  Postgres   {_without_password(instance.database_url)}",
            f"  Valkey     {_without_password(instance.redis_url)}",
            f"  objects    {instance.object_store_url}",
            f"  data       {self._data}   (its secrets/ belongs in a backup of its own)",
            "  Ctrl-C stops everything.",
        )
        for line in lines:
            self._log("cairn", line)


def _server(name: str, server: EmbeddedPostgres | EmbeddedValkey) -> Service:
    return Service(
        name,
        server.argv,
        {"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        ready=server.is_ready,
        stop_signal=server.stop_signal,
        before_exec=server.before_exec,
    )


def _require_reachable(instance: Instance) -> None:
    """Servers of the operator's own: a wrong address is told before anything starts on it."""
    try:
        psycopg.connect(instance.database_url, connect_timeout=5).close()
    except psycopg.Error as error:
        raise Fault(f"the Postgres of DATABASE_URL does not answer: {str(error).strip()}") from None
    redis = Redis.from_url(instance.redis_url, socket_timeout=5, socket_connect_timeout=5)
    try:
        redis.ping()
    except (RedisError, OSError) as error:
        raise Fault(f"the Valkey or Redis of REDIS_URL does not answer: {error}") from None
    finally:
        redis.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _without_password(url: str) -> str:
    """The address with the password left out."""
    scheme, found, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{found}{user.partition(':')[0]}{at}{host}"
