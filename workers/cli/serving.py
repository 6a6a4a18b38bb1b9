"""`cairn api` and `cairn migrate`: what `cairn up` does beside the workers, one by one."""

import os
import sys
from pathlib import Path

import click
import psycopg
from psycopg.errors import InsufficientPrivilege
from sqlalchemy.exc import DBAPIError

from infra import migrations
from infra.faults import Fault
from infra.projecting.builds import Registry
from infra.server_checks import check_server, require_session, require_unicode
from infra.settings import Settings, load_settings
from infra.vault import Vault
from workers.cli.options import CHECKOUT, data_option, host_option


@click.command("api")
@host_option
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="The port to listen on.")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="How long to serve on after SIGTERM, with /readyz at 503, until a load balancer has turned away.",
)
@data_option
def api_command(host: str, port: int, drain_seconds: float, data: Path) -> None:
    """Serve the HTTP API.

    Servers come by DATABASE_URL, REDIS_URL and OBJECT_STORE_URL, or from the instance that runs in --data.
    """
    load_settings(data, os.environ)  # its faults are told here, in one line
    os.chdir(CHECKOUT)
    arguments = ["--host", host, "--port", str(port), "--drain-seconds", str(drain_seconds), "--data", str(data)]
    os.execv(sys.executable, [sys.executable, "-m", "api.main", *arguments])  # noqa: S606 - our own module, no shell


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
            require_session(settings.database_url)
            require_unicode(connection)
            versions = migrations.upgrade(settings.database_url)
            check_server(connection, Vault(settings.master_keys))
            Registry(connection).register()
    except (psycopg.Error, DBAPIError) as error:
        raise _unusable(error.orig if isinstance(error, DBAPIError) else error) from None
    return versions


def _unusable(error: BaseException | None) -> Fault:
    reason = (error.diag.message_primary if isinstance(error, psycopg.Error) else None) or str(error).strip()
    if isinstance(error, InsufficientPrivilege):
        reason += ": its user must be able to make tables and schemas: make it the owner of the database."
    return Fault(f"the Postgres of DATABASE_URL cannot be used: {reason}")
