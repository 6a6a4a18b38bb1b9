"""What commands share: the data folder, and faults told in one line."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from infra.faults import Fault

CHECKOUT: Final = Path(__file__).parents[2]

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
reason_option = click.option("--reason", default="", help="Why: kept in the operators' log.")


def _required(_context: click.Context, _parameter: click.Parameter, reason: str) -> str:
    if not reason.strip():
        raise Fault("--reason says why: an empty one tells nobody anything.")
    return reason


def required_reason_option(told: str) -> Callable[[F], F]:
    """`--reason TEXT`, which has to say something."""
    return click.option("--reason", required=True, callback=_required, help=told)


class _Folder(click.Path):
    """A folder with a name: an empty one, as of a variable that is not set, would be where the user happens to be."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - as click has it
        """See `click.Path`."""
        if value == "":
            raise Fault("--data is empty: name a folder, or leave it out.")
        return super().convert(value, param, ctx)


def _absolute(_context: click.Context, _parameter: click.Parameter, folder: Path) -> Path:
    try:
        absolute = os.path.abspath(folder)  # noqa: PTH100 - links stay as given
        absolute.encode()
    except FileNotFoundError:
        raise Fault(
            f"the folder that you are in was removed, so that {folder} is nowhere: go to another one."
        ) from None
    except UnicodeEncodeError:
        raise Fault(
            f"the name of the folder {os.fspath(folder)!a} is no UTF-8: choose another one with --data."
        ) from None
    return Path(absolute)


def data_option(command: F) -> F:
    """`--data DIR`: where the instance lives."""
    return click.option(
        "--data",
        type=_Folder(file_okay=False, path_type=Path),
        default=CHECKOUT / ".cairn",
        envvar="CAIRN_DATA",
        show_default=".cairn beside the launcher",
        help="The instance's folder.",
        callback=_absolute,
    )(command)


def _named_host(_context: click.Context, _parameter: click.Parameter, host: str) -> str:
    if not host.strip():  # to listen it means everywhere, to connect nowhere
        raise Fault("--host is empty: name an address, 0.0.0.0 for all of this machine's.")
    return host


def host_option(command: F) -> F:
    """`--host ADDRESS`: where to listen."""
    return click.option(
        "--host", default="127.0.0.1", show_default=True, help="The address to listen on.", callback=_named_host
    )(command)


class Size(click.ParamType[int]):
    """Bytes, as 512M or 2G."""

    name = "size"

    def convert(self, value: Any, _parameter: click.Parameter | None, _context: click.Context | None) -> int:  # noqa: ANN401 - as click has it
        """The number of bytes."""
        found = re.fullmatch(r"(\d+)([KMG])i?B?", str(value), re.IGNORECASE)
        if found is None:
            raise Fault(f"{value!r} is no size: give it as 512M or 2G.")
        return int(found[1]) * int(1024 ** (" KMG".index(found[2].upper())))


class Seconds(click.ParamType[float]):
    """A time, as 500ms, 2s or 1m."""

    name = "time"

    def convert(self, value: Any, _parameter: click.Parameter | None, _context: click.Context | None) -> float:  # noqa: ANN401 - as above
        """In seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", str(value))
        if found is None:
            raise Fault(f"{value!r} is no time: give it as 500ms, 2s or 1m.")
        return float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[2] or "s"]
