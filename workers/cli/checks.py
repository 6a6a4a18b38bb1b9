"""`cairn test`: every check and every test, the quick ones first."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from infra.settings import forget_others_postgres
from workers.cli.options import CHECKOUT

_BIN: Final = Path(sys.executable).parent
_STATIC: Final[tuple[tuple[str, ...], ...]] = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("lint-imports",),
    ("deptry", "."),
    ("vulture",),
    ("mypy",),
)
_TESTS: Final[tuple[tuple[str, ...], ...]] = (
    # One by one in their order, so that all end together: those of the API, which come first, share a running instance
    # in each process, whose event loop must not stand still for minutes in between. More than cores: tests wait, too.
    ("pytest", "-n", "3", "--dist", "load", "--maxschedchunk", "1", "-m", "not system"),
    # Each is a machine full of processes that mostly wait for each other: two at a time take two thirds of the time.
    ("pytest", "-n", "2", "--dist", "load", "--maxschedchunk", "1", "-m", "system"),
)


@click.command("test", context_settings={"ignore_unknown_options": True})
@click.option("--static", is_flag=True, help="The checks of the code, and no tests.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test_command(*, static: bool, pytest_arguments: Sequence[str]) -> None:
    """Run all checks and tests, stopping at the first that fails. With arguments: pytest alone, with them."""
    if static and pytest_arguments:
        raise click.UsageError(f"--static runs no tests: leave {pytest_arguments[0]} out, or --static")
    tests = () if static else [("pytest", *pytest_arguments)] if pytest_arguments else _TESTS
    checks = [*(() if pytest_arguments else _STATIC), *tests]
    # Images made for CI often forbid bytecode: each process would compile what it imports
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    forget_others_postgres(environ)
    for check in checks:
        click.secho(f"== {' '.join(check)}", bold=True)
        began = time.monotonic()
        code = subprocess.run([_BIN / check[0], *check[1:]], cwd=CHECKOUT, env=environ, check=False).returncode
        if code != 0:
            click.secho(f"== {' '.join(check)} failed (exit code {code})", fg="red", bold=True, err=True)
            sys.exit(code)
        click.secho(f"== fine, {time.monotonic() - began:.0f} s", dim=True)
