"""The command: who signs in where, what is brought, and how it is told."""

import asyncio
import signal
import sys
import threading
from collections.abc import Awaitable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeVar
from zoneinfo import available_timezones

import click

from api.client import PATIENCE_SECONDS, WATCHED, Client, Unreachable
from domain.measures import Sport, Visibility
from infra.faults import Fault
from infra.instance import find
from workers.cli.importing.account import Account, enter
from workers.cli.importing.entries import NOT_OPENED
from workers.cli.importing.journal import Journal
from workers.cli.importing.report import Report, named, opened, progress, write_csv, write_json, write_table
from workers.cli.importing.running import import_all
from workers.cli.importing.sending import Wanted, all_there
from workers.cli.importing.sources import items
from workers.cli.options import data_option

_ENTRY_SECONDS: Final = 5.0  # where nothing answers, waiting longer is no help
_INTERRUPTED: Final = 130  # as shells have it

T = TypeVar("T")


def _address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise click.BadParameter("give it with its scheme, such as http://127.0.0.1:8000")
    return value


def _zone(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and value not in available_timezones():
        raise click.BadParameter("give it as IANA names it, such as Europe/Berlin")
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
@click.option(
    "--visibility",
    type=click.Choice([*map(str, Visibility)]),
    help="Who may see what is brought in. Default: as the account has it.",
)
@click.option(
    "--sport",
    type=click.Choice([*map(str, Sport)]),
    help="What the recordings are of which the export does not say it. Default: as each file says.",
)
@click.option(
    "--time-zone",
    callback=_zone,
    help="Where the runner lives, such as Europe/Berlin: it decides on which day a run counts. Default, where the "
    "account is opened by this, or has neither zone nor runs: this machine's.",
)
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Files on their way at once.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the verdicts to this CSV file.")
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where what is done is noted. Default: imports/ in --data, a file for each account.",
)
@data_option
def import_command(
    paths: Sequence[Path],
    email: str,
    password: str,
    server: str | None,
    visibility: str | None,
    sport: str | None,
    time_zone: str | None,
    jobs: int,
    as_json: bool,
    report: Path | None,
    journal: Path | None,
    data: Path,
) -> None:
    """Bring FIT, GPX, TCX and JSON files (also .gz), folders and zips of them into an account.

    The zips that Strava, Garmin Connect and Runkeeper give when one asks for one's data are taken as they are:
    titles, sports and descriptions come along. So are their folders, once unpacked.

    An address that has no account yet gets one. Each file gets a verdict. Running it again adds nothing, and goes on
    where it was cut off: the same bytes are the same activity, and the journal knows what is done.
    """
    instance = find(data)
    account = Account(server or (instance.api_url if instance else "http://127.0.0.1:8000"), email, password, time_zone)
    wanted = Wanted(Visibility(visibility) if visibility else None, Sport(sport) if sport else None)
    with ExitStack() as stack:
        place = stack.enter_context(opened(report)) if report is not None else None
        try:
            done = asyncio.run(_interruptible(_import(account, paths, wanted, jobs, journal, data)))
        except Unreachable as silence:
            raise Fault(
                f"there is no answer from {account.address}: start ./cairn up, or name the --server. ({silence})"
            ) from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            click.echo("stopped: the same command goes on from here.", err=True)
            sys.exit(_INTERRUPTED)
        if as_json:
            stack.callback(write_json, done)
        else:
            stack.callback(write_table, done)
        if place is not None:
            write_csv(done, place)
    if done.counts.keys() & {"not sent", NOT_OPENED}:
        sys.exit(1)


async def _interruptible(work: Awaitable[T]) -> T:
    """Ctrl-C cancels it, and once more ends the process, whatever that waits for: a disk of the network, say."""
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        loop.call_soon_threadsafe(task.cancel)

    if threading.current_thread() is not threading.main_thread():
        return await task
    before = signal.signal(signal.SIGINT, stop)
    try:
        done = await task
    except Exception:
        signal.signal(signal.SIGINT, before)
        raise
    signal.signal(signal.SIGINT, before)
    return done


async def _import(
    account: Account, paths: Sequence[Path], wanted: Wanted, jobs: int, journal: Path | None, data: Path
) -> Report:
    async with Client(
        account.address, name="cairn-import/0.1", patience_seconds=_ENTRY_SECONDS, pacing=WATCHED
    ) as client:
        remarks = await enter(client, account)
        client.patience_seconds = PATIENCE_SECONDS
        journal = journal or data / "imports" / f"{client.user_id}.jsonl"
        notes = Journal.open(journal, client.user_id)
        try:
            if not notes.is_empty and (there := await all_there(client)) is not None:
                notes.doubt(there)
            with progress() as told:
                report = await import_all(client, items(paths, told.expect), notes, told, jobs, wanted)
        finally:
            notes.close()
        report.remarks.extend(remarks)
        if notes.why_not:
            report.remarks.append(
                f"The journal {named(journal)} could not be written to its end ({notes.why_not}): "
                "the next import reads again what is not in it, and brings nothing twice."
            )
        return report
