"""`cairn import`: recorded files and folders of them into an account, safely repeatable."""

import asyncio
import gzip
import hashlib
import json
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.client import PATIENCE_SECONDS, Client, Refused, Unreachable
from infra.faults import Fault
from infra.instance import find
from workers.cli.options import data_option
from workers.cli.tables import distance, duration

_NAMESPACE: Final = UUID("6e7b0a52-2f0c-5a37-9c55-0c3a8f6f1d10")  # of imported activities' ids; never changes
_SUFFIXES: Final = (".fit", ".gpx", ".tcx", ".json")
_ENTRY_SECONDS: Final = 5.0  # where nothing answers, waiting longer is no help
_POLL_SECONDS: Final = 0.2
_VERDICT_SECONDS: Final = 300.0
_SHOWN_SECONDS: Final = 20.0  # from a verdict until its activity can be read

Row = dict[str, Any]


def _address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise click.BadParameter("give it with its scheme, such as http://127.0.0.1:8000")
    return value


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--email", required=True, help="The account's e-mail address.")
@click.option("--password", envvar="CAIRN_PASSWORD", prompt=True, hide_input=True, help="Or by CAIRN_PASSWORD.")
@click.option(
    "--server",
    callback=_address,
    help="The API's address. Default: the instance in --data, else http://127.0.0.1:8000.",
)
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Files on their way at once.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
@data_option
def import_command(
    paths: Sequence[Path], email: str, password: str, server: str | None, jobs: int, as_json: bool, data: Path
) -> None:
    """Bring FIT, GPX, TCX and JSON files (also .gz), and folders of them, into an account.

    An address that has no account yet gets one. Each file gets a verdict. Running it again adds nothing: the same
    bytes are the same activity.
    """
    instance = find(data)
    address = server or (instance.api_url if instance else "http://127.0.0.1:8000")
    files, skipped = _collected(paths)
    try:
        rows = asyncio.run(_import(address, email, password, files, jobs))
    except Unreachable as silence:
        raise Fault(f"there is no answer from {address}: start ./cairn up, or name the --server. ({silence})") from None
    rows += [
        {"file": _named(path), "verdict": "skipped", "note": "no .fit, .gpx, .tcx or .json file"} for path in skipped
    ]
    if as_json:
        click.echo(json.dumps({"files": rows, "counts": Counter(row["verdict"] for row in rows)}, indent=2))
    else:
        _print(rows)
    if any(row["verdict"] == "not sent" for row in rows):
        sys.exit(1)


def _collected(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Files to bring in, and files of folders that are something else."""
    found: list[Path] = []
    for path in paths:
        found += sorted(child for child in path.rglob("*") if child.is_file()) if path.is_dir() else [path]
    wanted = [path for path in found if path.name.lower().removesuffix(".gz").endswith(_SUFFIXES)]
    return wanted, [path for path in found if path not in set(wanted)]


async def _import(address: str, email: str, password: str, files: Sequence[Path], jobs: int) -> list[Row]:
    async with Client(address, name="cairn-import/0.1", patience_seconds=_ENTRY_SECONDS) as client:
        await _enter(client, email, password)
        client.patience_seconds = PATIENCE_SECONDS
        places = asyncio.Semaphore(jobs)
        with _progress(len(files)) as tell:

            async def bring(path: Path) -> Row:
                async with places:
                    row = {"file": _named(path), **await _bring(client, path)}
                tell(row)
                return row

            return list(await asyncio.gather(*(bring(path) for path in files)))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Row], None]]:
    """Tells of each file that is done, on standard error, so that `--json` can be piped: a bar, or lines in a log."""
    if not sys.stderr.isatty():
        yield lambda row: click.echo(f"{row['verdict']}: {row['file']}", err=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("importing", total=total)
        yield lambda _row: progress.advance(task)


def _named(path: Path) -> str:
    """The path as text that can be printed and written as JSON, whatever bytes it is made of."""
    return os.fsencode(path).decode("utf-8", "replace")


async def _enter(client: Client, email: str, password: str) -> None:
    """Sign in, or open the account that is not there yet."""
    try:
        await client.sign_in(email, password)
    except Refused as refusal:
        if refusal.code != "sign-in-refused":
            raise Fault(f"signing in as {email} failed: {refusal}") from None
        await _register(client, email, password)


async def _register(client: Client, email: str, password: str) -> None:
    try:
        await client.register(email, password, email.partition("@")[0][:80])
    except Refused as refusal:
        if refusal.code == "email-taken":
            raise Fault(f"the password of {email} is another one.") from None
        raise Fault(f"no account can be opened for {email}: {_with_errors(refusal)}") from None
    click.echo(f"opened an account for {email}", err=True)


async def _bring(client: Client, path: Path) -> Row:
    try:
        body = await asyncio.to_thread(_read, path)
    except (OSError, EOFError, zlib.error) as error:
        return {"verdict": "not sent", "note": f"the file cannot be read: {error}"}
    activity_id = uuid5(_NAMESPACE, f"{client.user_id}/{hashlib.sha256(body).hexdigest()}")
    try:
        known = await _known(client, activity_id)
        state = await client.upload(activity_id, body)
        waited = 0.0
        while state["status"] == "processing" and waited < _VERDICT_SECONDS:
            await asyncio.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
            state = await client.upload_state(activity_id)
        return await _row(client, state, known=known)
    except Refused as refusal:
        about_the_file = refusal.code.startswith("recording-") or refusal.code == "body-too-large"
        return {"verdict": "refused" if about_the_file else "not sent", "note": _with_errors(refusal)}
    except Unreachable as silence:
        return {"verdict": "not sent", "note": str(silence)}


def _read(path: Path) -> bytes:
    body = path.read_bytes()
    return gzip.decompress(body) if path.name.lower().endswith(".gz") else body


async def _known(client: Client, activity_id: UUID) -> bool:
    try:
        await client.upload_state(activity_id)
    except Refused:
        return False
    return True


async def _row(client: Client, state: Row, *, known: bool) -> Row:
    row: Row = {"verdict": state["status"], "note": "already there" if known else ""}
    match state["status"]:
        case "ready":
            row["activities"] = [
                await _activity(client, activity_id, 0 if known else _SHOWN_SECONDS)
                for activity_id in state["activities"]
            ]
        case "duplicate":
            row["note"] = f"the same bytes as {state['duplicate_of']}"
        case "failed":
            row["note"] = state["problem"]["detail"]
        case "processing":
            row["note"] = "safe on the server, and still in its queue"
    return row


async def _activity(client: Client, activity_id: str, patience_seconds: float) -> Row:
    """What the report shows of an activity; all but its id is missing when there is nothing to be seen by then."""
    deadline = time.monotonic() + patience_seconds
    while (seen := await _seen(client, activity_id)) is None:
        if time.monotonic() >= deadline:
            return {"activity_id": activity_id, "warnings": ["not to be seen: deleted, or not shown yet"]}
        await asyncio.sleep(_POLL_SECONDS)  # the projector is behind by more than a read waits for
    shown = ("activity_id", "sport", "started_at", "distance_m", "distance_source", "elapsed_s", "moving_s", "points")
    return {name: seen[name] for name in shown} | {"device": seen["device"], "warnings": seen["warnings"]}


async def _seen(client: Client, activity_id: str) -> Row | None:
    try:
        return await client.activity(activity_id)
    except Refused:
        return None


def _with_errors(refusal: Refused) -> str:
    return "; ".join([str(refusal), *refusal.problem.get("errors", [])])


def _print(rows: Sequence[Row]) -> None:
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "140"))
    console = Console(width=width, markup=False, emoji=False, highlight=False)  # file names are nobody's markup
    table = Table("file", "verdict", "sport", "distance", "time", "note", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        activities = row.get("activities") or [{}]
        for index, seen in enumerate(activities):
            notes = [row.get("note", "")] if index == 0 else []
            notes += [f"session {index + 1} of {len(activities)}"] if len(activities) > 1 else []
            notes += [warning.partition(":")[0] for warning in seen.get("warnings", ())]
            table.add_row(
                Path(row["file"]).name if index == 0 else "",
                row["verdict"] if index == 0 else "",
                seen.get("sport", ""),
                distance(seen["distance_m"]) if "distance_m" in seen else "",
                duration(seen["elapsed_s"]) if "elapsed_s" in seen else "",
                ", ".join(filter(None, notes)),
            )
    console.print(table)
    counts = Counter(row["verdict"] for row in rows)
    console.print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "no files")
