"""The `cairn` command."""

import logging
import os
import sys
import tomllib
from typing import Final

import click

from infra.faults import Fault
from infra.settings import LOG_FORMAT, log_level
from workers.cli.bench.command import bench_command
from workers.cli.checks import test_command
from workers.cli.config import config_command
from workers.cli.demo import demo_command
from workers.cli.events import events_command
from workers.cli.importing.command import import_command
from workers.cli.keys import keys_command
from workers.cli.options import CHECKOUT
from workers.cli.projections import projections_command
from workers.cli.queue import queue_command
from workers.cli.serving import api_command, migrate_command, worker_command
from workers.cli.up import up_command

_VERSION: Final[str] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_VERSION, prog_name="cairn")
def cairn() -> None:
    """Cairn: the open backend of a running-tracker app.

    \b
    First run:
      ./cairn demo            everything, with runners and runs in it
      ./cairn up              everything, empty: API, workers, Postgres, Valkey
      ./cairn import FOLDER --email you@example.com --password ...
    """  # noqa: D301 - \b is click's mark for lines to be left as they are


_COMMANDS: Final = (
    up_command,
    demo_command,
    import_command,
    events_command,
    projections_command,
    queue_command,
    config_command,
    keys_command,
    api_command,
    worker_command,
    migrate_command,
    bench_command,
    test_command,
)
for command in _COMMANDS:
    cairn.add_command(command)


def main() -> None:
    """Run the command; what a person can mend is told in one line."""
    try:
        logging.basicConfig(level=log_level(os.environ), format=LOG_FORMAT)
        logging.getLogger("alembic").setLevel(logging.WARNING)  # `migrate` says what it did
        for chatty in ("alembic", "httpx"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        cairn(prog_name="cairn")
    except Fault as fault:
        click.echo(f"cairn: {fault}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
