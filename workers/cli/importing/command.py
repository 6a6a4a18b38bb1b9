"""The command: who signs in where, what is brought, and how it is told."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from api.client import PATIENCE_SECONDS, WATCHED, Client, Refused, Unreachable
from domain.measures import Visibility
from infra.faults import Fault
from infra.instance import find
from workers.cli.importing.entries import NOT_OPENED
from workers.cli.importing.journal import Journal
from workers.cli.importing.report import Report, progress, write_csv, write_json, write_table
from workers.cli.importing.running import import_all, steps
from workers.cli.importing.sending import with_errors
from workers.cli.importing.sources import items
from workers.cli.options import data_option

_ENTRY_SECONDS: Final = 5.0  # where nothing answers, waiting longer is no help
_INTERRUPTED: Final = 130  # as shells have it


class _Account(Struct, frozen=True):
    address: str
    email: str
    password: str


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
@click.option(
    "--visibility",
    type=click.Choice([*map(str, Visibility)]),
    help="Who may see what is brought in. Default: as the account has it.",
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
    account = _Account(server or (instance.api_url if instance else "http://127.0.0.1:8000"), email, password)
    shown = Visibility(visibility) if visibility else None
    try:
        done = asyncio.run(_import(account, paths, shown, jobs, journal, data))
    except Unreachable as silence:
        raise Fault(
            f"there is no answer from {account.address}: start ./cairn up, or name the --server. ({silence})"
        ) from None
    except KeyboardInterrupt:
        click.echo("stopped: the same command goes on from here.", err=True)
        sys.exit(_INTERRUPTED)
    if report is not None:
        write_csv(done, report)
    if as_json:
        write_json(done)
    else:
        write_table(done)
    if done.counts.keys() & {"not sent", NOT_OPENED}:
        sys.exit(1)


async def _import(
    account: _Account, paths: Sequence[Path], visibility: Visibility | None, jobs: int, journal: Path | None, data: Path
) -> Report:
    async with Client(
        account.address, name="cairn-import/0.1", patience_seconds=_ENTRY_SECONDS, pacing=WATCHED
    ) as client:
        await _enter(client, account.email, account.password)
        client.patience_seconds = PATIENCE_SECONDS
        notes = Journal.open(journal or data / "imports" / f"{client.user_id}.jsonl", client.user_id)
        try:
            with progress() as told:
                return await import_all(client, steps(items(paths, told.expect), notes), notes, told, jobs, visibility)
        finally:
            notes.close()


async def _enter(client: Client, email: str, password: str) -> None:
    """Sign in, or open the account that is not there yet."""
    try:
        await client.sign_in(email, password)
    except Refused as refusal:
        if refusal.code != "sign-in-refused":
            raise Fault(f"signing in as {email} failed: {with_errors(refusal)}") from None
        await _register(client, email, password)


async def _register(client: Client, email: str, password: str) -> None:
    try:
        await client.register(email, password, email.partition("@")[0][:80])
    except Refused as refusal:
        if refusal.code == "email-taken":
            raise Fault(f"the password of {email} is another one.") from None
        raise Fault(f"no account can be opened for {email}: {with_errors(refusal)}") from None
    click.echo(f"opened an account for {email}", err=True)
