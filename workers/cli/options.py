"""What commands share: the data folder, and faults told in one line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

CHECKOUT: Final = Path(__file__).parents[2]

F = TypeVar("F", bound=Callable[..., Any])


def data_option(command: F) -> F:
    """`--data DIR`: where the instance lives."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=CHECKOUT / ".cairn",
        envvar="CAIRN_DATA",
        show_default=".cairn beside the launcher",
        help="The instance's folder.",
        callback=lambda _context, _parameter, value: Path(os.path.abspath(value)),  # noqa: PTH100 - links stay as given
    )(command)
