"""`cairn up`: everything on one machine, under one supervisor."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from infra.embedded.places import private_folder, remove_socket_folder
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.valkey import EmbeddedValkey
from infra.faults import Fault
from infra.instance import Instance, announce, hold, hold_servers
from infra.processes import child_command, child_environ
from infra.secrets import load_secrets, make_secrets
from infra.settings import KEY_NAMES, external_urls, forget_others_postgres, load_settings
from workers.cli.addresses import (
    answers,
    http_url,
    psql_address,
    require_free,
    require_postgres,
    require_store,
    require_valkey,
    without_password,
)
from workers.cli.options import CHECKOUT, data_option, host_option
from workers.cli.serving import migrate
from workers.prefixed_log import PrefixedLog
from workers.supervisor import Service, ServiceFailed, Supervisor

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RECOVERY_SECONDS: Final = 900.0  # a server that was cut off reads its log again first: some GB at most
_CHECKPOINT_SECONDS: Final = 60.0  # that a server may take to write all down when it stops


@click.command("up")
@host_option
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="The port to listen on.")
@data_option
def up_command(host: str, port: int, data: Path) -> None:
    """Start everything and stay: Postgres, Valkey, the API and the workers.

    DATABASE_URL, REDIS_URL and OBJECT_STORE_URL point to servers of yours instead of the embedded ones. What
    crashes is started again. Ctrl-C stops everything; the data stays in --data.
    """
    external = external_urls(os.environ)
    private_folder(data)
    with hold(data):
        require_free(host, port)
        postgres = None if "DATABASE_URL" in external else _embedded_postgres(data)
        folders = {data} if postgres is None else {data, postgres.place}
        with ExitStack() as held:
            locks = [held.enter_context(hold_servers(folder)) for folder in folders]
            held.callback(remove_socket_folder, data)
            try:
                asyncio.run(_Up(data, host, port, external, postgres, locks).run())
            except ServiceFailed as failure:
                raise Fault(str(failure)) from None


def _embedded_postgres(data: Path) -> EmbeddedPostgres:
    forget_others_postgres(os.environ)
    return EmbeddedPostgres(data)


class _Up:
    """One start of everything."""

    def __init__(
        self,
        data: Path,
        host: str,
        port: int,
        external: Mapping[str, str],
        postgres: EmbeddedPostgres | None,
        servers_locks: Sequence[int],
    ) -> None:
        self._data = data
        self._host = host
        self._port = port
        self._external = external
        self._postgres = postgres
        self._servers_locks = servers_locks
        self._log = PrefixedLog()
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
            self._log.flush()

    async def _start(self) -> Instance:
        postgres = self._postgres
        valkey = None if "REDIS_URL" in self._external else EmbeddedValkey(self._data)
        self._require_secrets(postgres)
        await self._start_servers(postgres, valkey)
        instance = Instance(
            pid=os.getpid(),
            api_url=http_url(self._host, self._port),
            database_url=postgres.url if postgres else self._external["DATABASE_URL"],
            redis_url=valkey.url if valkey else self._external["REDIS_URL"],
            object_store_url=self._external.get("OBJECT_STORE_URL", (self._data / "objects").as_uri()),
            embedded_postgres=postgres is not None,
        )
        environ = {
            **os.environ,
            "DATABASE_URL": instance.database_url,
            "REDIS_URL": instance.redis_url,
            "OBJECT_STORE_URL": instance.object_store_url,
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONSAFEPATH": "1",  # our packages, never a folder of the same name where the user happens to be
            "PYTHONUNBUFFERED": "1",
        }
        settings = load_settings(self._data, environ)
        await asyncio.to_thread(migrate, settings)
        await asyncio.to_thread(require_store, settings.database_url, settings.object_store_url)
        await self._supervisor.start(*self._processes(environ))
        return instance

    async def _start_servers(self, postgres: EmbeddedPostgres | None, valkey: EmbeddedValkey | None) -> None:
        """The embedded ones; servers of the operator's own must answer, before anything starts on them."""
        servers = []
        if postgres is None:
            await asyncio.to_thread(require_postgres, self._external["DATABASE_URL"])
        else:
            if postgres.is_new:
                self._log("cairn", f"making the database (once) in {postgres.folder}")
            await asyncio.to_thread(postgres.make)
            postgres.forget_dead()
            servers.append(self._server("postgres", postgres))
        if valkey is None:
            await asyncio.to_thread(require_valkey, self._external["REDIS_URL"])
        else:
            valkey.make()
            servers.append(self._server("valkey", valkey))
        await self._supervisor.start(*servers, timeout_seconds=_RECOVERY_SECONDS)

    def _server(self, name: str, server: EmbeddedPostgres | EmbeddedValkey) -> Service:
        return Service(
            name,
            server.argv,
            child_environ(),
            ready=server.is_ready,
            stop_signal=server.stop_signal,
            grace_seconds=_CHECKPOINT_SECONDS,
            pass_fds=self._servers_locks,
        )

    def _require_secrets(self, postgres: EmbeddedPostgres | None) -> None:
        """Keys are made with a new database of ours, and never for one that was made with others."""
        if load_secrets(self._data) or all(os.environ.get(name) for name in KEY_NAMES):
            return
        if postgres is None:
            raise Fault(
                f"with a DATABASE_URL of yours the keys must be given: set {', '.join(KEY_NAMES)} "
                f"(each key is what `openssl rand -base64 32` prints; CAIRN_TOKEN_KEYS is KEY_ID:BASE64)."
            )
        if not postgres.is_new:
            raise Fault(
                f"{self._data}/secrets is missing, and the data there was made with it: "
                f"put back your backup of the secrets, or move {self._data} away to start anew."
            )
        make_secrets(self._data)

    def _processes(self, environ: Mapping[str, str]) -> list[Service]:
        """The workers, and the API last, so that it is the first to stop."""
        data = ["--data", str(self._data)]
        worker = ["workers.cli.main", "worker", *data]
        api = ["api.main", "--host", self._host, "--port", str(self._port), *data]

        def process(name: str, module: list[str], ready: Callable[[], bool] | None = None) -> Service:
            argv = child_command([sys.executable, "-m", *module], on_death=signal.SIGKILL)
            return Service(name, argv, environ, ready)

        return [
            process("projector", [*worker, "projector", "reactor"]),
            process("ingest", [*worker, "ingest"]),
            process("api", api, lambda: answers(self._host, self._port, "/readyz")),
        ]

    def _tell(self, instance: Instance) -> None:
        lines = (
            "ready",
            f"  API        {instance.api_url}/v1",
            f"  API docs   {instance.api_url}/docs",
            f"  Postgres   {psql_address(instance.database_url)}",
            f"  Valkey     {without_password(instance.redis_url)}",
            f"  objects    {instance.object_store_url}",
            f"  data       {self._data}   (its secrets/ belongs in a backup of its own)",
            "  Ctrl-C stops everything.",
        )
        for line in lines:
            self._log("cairn", line)
