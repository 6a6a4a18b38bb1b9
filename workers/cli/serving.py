"""`cairn api`, `cairn worker`, `cairn migrate`: the parts that `cairn up` starts, one by one."""

import os
import sys
from pathlib import Path
from typing import Final

import click
import psycopg
import uvloop

from infra import migrations
from infra.faults import Fault
from infra.projecting.builds import Registry
from infra.server_checks import check_server
from infra.settings import Settings, load_settings
from infra.vault import Vault
from workers.cli.options import CHECKOUT, data_option
from workers.cli.worker import run_workers


@click.command("api")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="The port to listen on.")
@data_option
def api_command(host: str, port: int, data: Path) -> None:
    """Serve the HTTP API.

    Servers come by DATABASE_URL, REDIS_URL and OBJECT_STORE_URL, or from the instance that runs in --data.
    """
    load_settings(data, os.environ)  # its faults are told here, in one line
    os.chdir(CHECKOUT)
    arguments = ["--host", host, "--port", str(port), "--data", str(data)]
    os.execv(sys.executable, [sys.executable, "-m", "api.main", *arguments])  # noqa: S606 - our own module, no shell


_KINDS: Final = ("projector", "reactor", "ingest")


@click.command("worker")
@click.argument("kinds", nargs=-1, type=click.Choice(_KINDS))
@data_option
def worker_command(kinds: tuple[str, ...], data: Path) -> None:
    """Run the loops beside the API: those that are named, or all. Any number of each may run.

    \b
      projector  keeps read models at the end of the log
      reactor    tells runners what happened, once, and shared caches what changed
      ingest     takes recordings in
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    settings = load_settings(data, os.environ)
    uvloop.run(run_workers(settings, frozenset(kinds or _KINDS)))


@click.command("migrate")
@data_option
def migrate_command(data: Path) -> None:
    """Bring the database's tables to this version of the code. Safe to repeat."""
    before, after = migrate(load_settings(data, os.environ))
    click.echo(f"the tables are of version {after}" + ("" if before == after else f" (before: {before or 'none'})"))


def migrate(settings: Settings) -> tuple[str | None, str | None]:
    """Make or change the tables; their versions before and after. `Fault`."""
    try:
        with psycopg.connect(settings.database_url, autocommit=True, connect_timeout=5) as connection:
            versions = migrations.upgrade(settings.database_url)
            check_server(connection, Vault(settings.master_keys))
            Registry(connection).register()
    except psycopg.OperationalError as error:
        raise Fault(f"the Postgres of DATABASE_URL cannot be used: {str(error).strip()}") from None
    return versions
