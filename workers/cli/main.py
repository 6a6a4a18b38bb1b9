"""The `cairn` command."""

import logging
import os
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, Final

import click

from infra.faults import Fault
from infra.settings import LOG_FORMAT, log_level
from workers.cli.options import CHECKOUT

_INTERRUPTED: Final = 130  # as shells have it
_VERSION: Final[str] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
_MODULES: Final = {  # where `up_command` is, and the others
    "up": "workers.cli.up",
    "demo": "workers.cli.demo",
    "import": "workers.cli.importing.command",
    "fleet": "workers.cli.fleet.command",
    "events": "workers.cli.events",
    "projections": "workers.cli.projections.command",
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
    output = _watched_output()
    try:
        logging.basicConfig(level=log_level(os.environ), format=LOG_FORMAT)
        logging.getLogger("alembic").setLevel(logging.WARNING)  # `migrate` says what it did
        for chatty in ("alembic", "httpx"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        sys.exit(cairn.main(prog_name="cairn", standalone_mode=False))
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(wrong.exit_code)
    except (KeyboardInterrupt, click.Abort) as stopped:
        sys.exit(_INTERRUPTED if KeyboardInterrupt in map(type, _with_causes(stopped)) else 1)
    except Fault as fault:
        click.echo(f"cairn: {fault}", err=True)
        sys.exit(1)
    except OSError as fault:
        if not output.failed:
            raise
        click.echo(f"cairn: what is to be printed cannot be written: {fault.strerror}.", err=True)
        sys.exit(1)


def _with_causes(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__context__


class _Output(FileIO):
    """Standard output that knows when it took nothing: an `OSError` alone does not say of what it is."""

    failed = False

    def write(self, data: Any) -> int:  # noqa: ANN401 - as `FileIO` has it
        """Once it failed, the rest goes nowhere: the end of the process would fail at it as well."""
        if self.failed:
            return len(data)
        try:
            return super().write(data)
        except OSError:
            self.failed = True
            raise


def _watched_output() -> _Output:
    output = _Output(1, "wb", closefd=False)
    if sys.stdout is not None:  # as where it was closed
        given = sys.stdout
        sys.stdout = TextIOWrapper(
            BufferedWriter(output),
            given.encoding,
            given.errors,
            line_buffering=given.isatty(),
        )
    return output


def _open_standard_streams() -> None:
    """Where one is closed (`>&-`), the next file that is opened gets its number, and what is printed lands in that."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - its signature


if __name__ == "__main__":
    main()
