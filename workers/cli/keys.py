"""`cairn keys`: the master key, replaced while everything runs."""

import asyncio
import os
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from domain.errors import StoreUnavailable
from infra.bootstrap import open_parts
from infra.event_store.reader import LogReader
from infra.faults import Fault
from infra.instance import announced_at
from infra.keys import MasterKeys
from infra.rewrapping import rewrap_waiting
from infra.rotation import Rotation
from infra.secrets import add_master_key, keep_first_master_key, master_key_changed_at
from infra.settings import Settings, load_settings
from infra.vault import Vault
from workers.cli.connecting import connected
from workers.cli.options import data_option

_VARIABLE = "CAIRN_MASTER_KEY"


@click.group("keys")
def keys_command() -> None:
    """The master key, which wraps the users' keys and those of uploads that wait, and seals e-mail addresses."""


@keys_command.command("rotate")
@data_option
def rotate_command(data: Path) -> None:
    """Replace the master key: twice this command, with a restart in between.

    \b
    With the keys in DIR/secrets:
      cairn keys rotate       puts a new key in front; the old one stays behind it
      restart cairn up        every part now knows both
      cairn keys rotate       brings everything under the new key, and drops the old one

    With CAIRN_MASTER_KEY: set it to OLD,NEW in every process and restart them, so that all can open what any of them
    seals; then to NEW,OLD, restart them, run the command, and set it to NEW.

    Nothing stops meanwhile, and it may be cut off and run again at any time. Events are not touched: they are sealed
    under the users' keys, and only those are wrapped anew.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    given = _VARIABLE in os.environ
    if not given and (path := add_master_key(data)) is not None:
        click.echo(
            f"A new master key is in front in {path}; the old one stays behind it. Now:\n"
            f"  1. back up the secrets\n"
            f"  2. restart cairn up, and every other part that reads this folder; until then start no further one: it\n"
            f"     would seal with the new key, which those that run do not know\n"
            f"  3. run cairn keys rotate again"
        )
        return
    settings = load_settings(data, os.environ)
    if len(settings.master_keys) == 1:
        raise Fault(f"{_VARIABLE} has one key: see cairn keys rotate --help for how to come to NEW,OLD everywhere.")
    announced = announced_at(data)
    if not given and announced is not None and announced < master_key_changed_at(data):
        raise Fault("the instance that runs knows the old key only: restart it (./cairn up), and run this again.")
    users, addresses, parked = _rotate(settings)
    uploads = asyncio.run(_rewrap(settings))
    current = MasterKeys(settings.master_keys).current
    click.echo(
        f"{users:,} users' keys, {addresses:,} addresses and {uploads:,} uploads that wait are now under master key "
        f"{current}."
    )
    if parked:  # by parts that did not know the new key yet, maybe
        click.echo(f"{parked:,} streams are parked: run cairn projections heal, then cairn events verify.")
    if given:
        click.echo(f"Set {_VARIABLE} to its first key only. Keep the old one for backups that were made before now.")
    else:
        path = keep_first_master_key(data)
        click.echo(f"The old key is no longer in {path}: backups of the database made before now need it.")


async def _rewrap(settings: Settings) -> int:
    try:
        async with open_parts(settings) as parts:
            master = MasterKeys(settings.master_keys)
            return await rewrap_waiting(parts.objects, master, parts.inbox, parts.chunks)
    except StoreUnavailable as away:
        raise Fault(f"the object store does not answer: run this again when it does. ({away.__cause__})") from None


def _rotate(settings: Settings) -> tuple[int, int, int]:
    """The numbers of users' keys and of addresses that were changed, and of streams that are parked."""
    master, vault = MasterKeys(settings.master_keys), Vault(settings.master_keys)
    with connected(settings) as connection, Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rotating")
        rotation = Rotation(connection, master, vault, lambda count: progress.advance(task, count))
        progress.update(task, total=rotation.left())
        users, addresses = rotation.run()
        return users, addresses, len(LogReader(connection, master).parked())
