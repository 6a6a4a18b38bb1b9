"""The `cairn` command."""

import logging
import os
import sys
import tomllib
from importlib import import_module
from typing import Final

import click

from infra.faults import Fault
from infra.settings import LOG_FORMAT, log_level
from workers.cli.options import CHECKOUT

_VERSION: Final[str] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
_MODULES: Final = {  # where `up_command` is, and the others
    "up": "workers.cli.up",
    "demo": "workers.cli.demo",
    "import": "workers.cli.importing.command",
    "fleet": "workers.cli.fleet.command",
    "events": "workers.cli.events",
    "projections": "workers.cli.projections",
    "queue": "workers.cli.queue",
    "config": "workers.cli.config",
    "keys": "workers.cli.keys",
    "api": "workers.cli.serving",
    "worker": "workers.cli.worker",
    "migrate": "workers.cli.serving",
    "bench": "workers.cli.bench.command",
    "test": "workers.cli.checks",
}


class _Commands(click.Group):
    """Imports the one that is asked for: all of them take two seconds of CPU, and `up` starts two workers by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        for name in [cmd_name] if cmd_name in _MODULES else _MODULES:  # all: click then tells which one is alike
            self.commands[name] = getattr(import_module(_MODULES[name]), f"{name}_command")
        return self.commands.get(cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_VERSION, prog_name="cairn")
def cairn() -> None:
    """Cairn: the open backend of a running-tracker app.

    \b
    First run:
      ./cairn demo            everything, with runners and runs in it
      ./cairn up              everything, empty: API, workers, Postgres, Valkey
      ./cairn import FOLDER --email you@example.com --password ...
    """  # noqa: D301 - \b is click's mark for lines to be left as they are


def main() -> None:
    """Run the command; what a person can mend is told in one line."""
    _open_standard_streams()
    try:
        logging.basicConfig(level=log_level(os.environ), format=LOG_FORMAT)
        logging.getLogger("alembic").setLevel(logging.WARNING)  # `migrate` says what it did
        for chatty in ("alembic", "httpx"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        cairn(prog_name="cairn")
    except Fault as fault:
        click.echo(f"cairn: {fault}", err=True)
        sys.exit(1)


def _open_standard_streams() -> None:
    """Where one is closed (`>&-`), the next file that is opened gets its number, and what is printed lands in that."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - its signature


if __name__ == "__main__":
    main()
