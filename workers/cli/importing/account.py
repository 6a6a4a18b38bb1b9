"""Whose account it is: signing in, or opening it, and the time zone in which its days are counted."""

import os
from pathlib import Path
from typing import Final
from zoneinfo import available_timezones

import click
from msgspec import Struct

from api.client import Client, Refused
from infra.faults import Fault
from workers.cli.importing.sending import with_errors

_LOCAL_TIME: Final = Path("/etc/localtime")
_NOWHERE: Final = ("UTC", "Etc/")  # as servers and containers have it, in which nobody lives


class Account(Struct, frozen=True):
    """As the command was told. `time_zone`: None leaves it to this machine, where the account is new."""

    address: str
    email: str
    password: str
    time_zone: str | None = None


async def enter(client: Client, account: Account) -> list[str]:
    """Sign in, or open the account that is not there yet, with its time zone: it cannot count past runs on other days
    later. One without zone and runs is as new: whoever opened it may have been cut off right after. Remarks for the
    report; `Fault`.
    """
    is_new = await _opened(client, account)
    try:
        zone = None if is_new else (await client.me()).get("time_zone", "")
        is_new = is_new or (zone is None and await _has_no_runs(client))
        if zone is None and (wanted := account.time_zone or (_of_this_machine() if is_new else None)):
            await client.change_profile(time_zone=wanted)
            click.echo(f"the days of {account.email} are counted in {wanted}", err=True)
            return []
    except Refused as refusal:
        if account.time_zone is not None:
            raise Fault(f"the time zone of {account.email} cannot be set: {with_errors(refusal)}") from None
        return []
    if zone and account.time_zone not in {None, zone}:
        raise Fault(
            f"the time zone of {account.email} is {zone}: leave --time-zone out, or change it in the app before; it "
            "decides on which day a run counts, and for runs that are there it stays."
        )
    if zone is not None:
        return []
    remark = (
        f"NO TIME ZONE: {account.email} has none, so a run counts on the day that its file tells, and one in GPX or "
        "TCX on the day in UTC: of many evening runs, that is another one. It stays so for what is imported now: give "
        "--time-zone Europe/Berlin, or whichever it is, before."
    )
    click.secho(remark, err=True, bold=True)
    return [remark]


async def _opened(client: Client, account: Account) -> bool:
    """Sign in; whether the account was opened for it."""
    try:
        await client.sign_in(account.email, account.password)
    except Refused as refusal:
        if refusal.code != "sign-in-refused":
            raise Fault(f"signing in as {account.email} failed: {with_errors(refusal)}") from None
        await _register(client, account)
        return True
    return False


async def _has_no_runs(client: Client) -> bool:
    """False also when the server does not tell."""
    try:
        return not await client.activities(client.user_id)
    except Refused:
        return False


async def _register(client: Client, account: Account) -> None:
    email = account.email
    try:
        await client.register(email, account.password, email.partition("@")[0][:80])
    except Refused as refusal:
        if refusal.code == "email-taken":
            raise Fault(f"the password of {email} is another one.") from None
        told = with_errors(refusal)
        if any("password" in str(one) for one in refusal.problem.get("errors", ())):
            raise Fault(
                f"the password is not that of {email}; and if there is no such account yet, no account can be opened "
                f"for {email} with it: {told}"
            ) from None
        raise Fault(f"no account can be opened for {email}: {told}") from None
    click.echo(f"opened an account for {email}", err=True)


def _of_this_machine() -> str | None:
    """The name of the zone in which this machine is, if it has one in which people live."""
    named = os.environ.get("TZ", "").removeprefix(":") or str(_LOCAL_TIME.resolve())
    name = named.rpartition("zoneinfo/")[2]
    return name if name in available_timezones() and not name.startswith(_NOWHERE) else None
