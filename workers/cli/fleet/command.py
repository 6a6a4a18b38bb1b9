"""The command: which apps, how many of them, for how long, and what came of it."""

import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import click
import httpx
from rich.console import Console
from rich.table import Table

from api.client import WATCHED, Client, Refused, Unreachable
from infra.faults import Fault
from infra.instance import find
from workers.cli.fleet.apps import VERSIONS, Time, use
from workers.cli.fleet.counting import Tally, total
from workers.cli.options import data_option, json_option

_NAMESPACE: Final = UUID("6e7b0a52-2f0c-5a37-9c55-0c3a8f6f1d12")  # of the fleet's runners: the same seed, the same ones
_PASSWORD: Final = "run-in-a-fleet"  # noqa: S105 - of made-up runners
_AT_ONCE: Final = 4  # accounts: passwords are hashed at a cost that is meant
_VERDICT_TRIES: Final = 60
_LIVE_SECONDS: Final = 5.0
_INTERRUPTED: Final = 130  # as shells have it
_DEVICES: Final = 10  # of one runner: more accounts would only take longer to make


class Mix(click.ParamType[dict[str, int]]):
    """Kinds of apps with their shares."""

    name = "kind=share,..."

    def convert(self, value: Any, _parameter: click.Parameter | None, _context: click.Context | None) -> dict[str, int]:  # noqa: ANN401 - as click has it
        """Shares by kind."""
        if isinstance(value, dict):
            return value
        shares: dict[str, int] = {}
        for part in str(value).split(","):
            kind, _, share = part.partition("=")
            if kind not in VERSIONS or not share.isdecimal():
                raise Fault(
                    f"{part!r} is no kind with a share: give good=7,eager=1 and the like, of {', '.join(VERSIONS)}."
                )
            shares[kind] = int(share)
        if not sum(shares.values()):
            raise Fault("all shares are 0: give at least one kind a share.")
        return shares


@dataclass
class Member:
    """One app, and who is behind it."""

    kind: str
    user_id: UUID
    tokens: dict[str, Any]
    dice: random.Random
    recordings: random.Random = field(default_factory=random.Random)
    runs: int = 0


@dataclass
class Told:
    """What came of it."""

    tallies: dict[str, Tally]
    seconds: float = 0.0  # that it was under way, which is more than was asked for where answers are late
    problems: list[str] = field(default_factory=list)
    stopped: bool = False  # before the runs were counted


def _address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise click.BadParameter("give it with its scheme, such as http://127.0.0.1:8000")
    return value


@click.command("fleet")
@click.option("--url", callback=_address, help="The API's address. Default: the instance in --data.")
@click.option("--runners", type=click.IntRange(1, 5_000), default=50, show_default=True, help="Apps at once.")
@click.option("--for", "seconds", type=click.FloatRange(1, 600), default=60, show_default=True, help="Seconds.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed has the same runners.")
@click.option(
    "--mix",
    type=Mix(),
    default="good=7,eager=1,looping=1,storming=1",
    show_default=True,
    help="Shares of: good (the reference client), eager (fixed polls and retries, no ETags), looping (N+1 requests), "
    "storming (all screens at once, all phones in the same second).",
)
@json_option
@data_option
def fleet_command(
    url: str | None, runners: int, seconds: float, seed: int, mix: dict[str, int], as_json: bool, data: Path
) -> None:
    """Let many apps use a running instance at once, good ones and bad ones, and tell what they were told.

    Their names are in `Cairn-Client` (fleet-good/3.0.0, ...), so /metrics tells them apart. Runs that good apps took
    down are counted at the end: each must be an activity. Exit 1 when one is missing or doubled; 130 after Ctrl-C, with
    what was counted by then.
    """
    instance = find(data)
    address = url or (instance.api_url if instance else None)
    if address is None:
        raise Fault(f"no instance runs in {data}: start ./cairn up, or name the API with --url.")
    try:
        told = asyncio.run(_fleet(address.rstrip("/"), runners, seconds, seed, mix))
    except (Refused, Unreachable) as fault:
        raise Fault(f"the fleet could not begin at {address}: {fault}") from None
    if as_json:
        rows = {kind: tally.row() for kind, tally in told.tallies.items()}
        everything = {"kinds": rows, "all": total(told.tallies.values()).row(), "problems": told.problems}
        click.echo(json.dumps({**everything, "stopped": told.stopped}))
    else:
        _show(told)
    if told.stopped:
        sys.exit(_INTERRUPTED)
    sys.exit(1 if told.problems else 0)


async def _fleet(url: str, count: int, seconds: float, seed: int, mix: dict[str, int]) -> Told:
    await _find(url)
    members = await _members(url, count, seed, mix)
    whose = {one.user_id: one.tokens for one in members}
    before = await _counted(url, whose)
    told = Told({kind: Tally() for kind in sorted({one.kind for one in members})})
    clock = asyncio.get_running_loop().time
    began_at = clock()
    try:
        try:
            time = Time(began_at + seconds)
            await asyncio.gather(*(use(one.kind, url, one, told.tallies[one.kind], time) for one in members))
        finally:
            told.seconds = clock() - began_at
        made = Counter(before)
        for one in members:
            made[one.user_id] += one.runs
        click.echo(f"{sum(one.runs for one in members)} runs were handed in", err=True)
        told.problems = await _problems(url, whose, made)
    except asyncio.CancelledError:  # Ctrl-C
        told.stopped = True
    return told


async def _find(url: str) -> None:
    """`Fault` unless the API is there: apps would go on trying for a minute."""
    try:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(), timeout=_LIVE_SECONDS) as http:
            answer = await http.get(f"{url}/livez")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Fault(f"there is no answer from {url}: {str(error) or type(error).__name__}") from None
    if answer.status_code != httpx.codes.OK:
        raise Fault(f"{url} is no API of cairn: its /livez answers {answer.status_code}.")


async def _members(url: str, count: int, seed: int, mix: dict[str, int]) -> list[Member]:
    """Accounts for as many apps, opened or signed in to again."""
    dice, places = random.Random(seed), asyncio.Semaphore(_AT_ONCE)  # noqa: S311 - the same for the same seed
    runners = [uuid5(_NAMESPACE, f"{seed}/{number}") for number in range(-(-count // _DEVICES))]

    async def enter(user_id: UUID) -> dict[str, Any]:
        async with places, Client(url, name="fleet-setup/1.0.0", pacing=WATCHED) as client:
            await client.register(f"{user_id}@fleet.example", _PASSWORD, "Fleet runner", user_id)
            return client.session

    async def follow(one: dict[str, Any], other: UUID) -> None:
        async with places, Client(url, name="fleet-setup/1.0.0", pacing=WATCHED) as client:
            client.begin(one)
            await client.follow(other)

    tokens = await asyncio.gather(*map(enter, runners))
    if len(runners) > 1:
        await asyncio.gather(*map(follow, tokens, [*runners[1:], runners[0]]))
    kinds = dice.choices([*mix], weights=[*mix.values()], k=count)
    who = [number % len(runners) for number in range(count)]
    return [
        Member(kind, runners[number], tokens[number], random.Random(dice.random()))  # noqa: S311 - as above
        for kind, number in zip(kinds, who, strict=True)
    ]


async def _counted(url: str, whose: dict[UUID, dict[str, Any]]) -> Counter[UUID]:
    """How many activities each runner has."""
    counts = Counter[UUID]()
    for user_id, tokens in whose.items():
        async with Client(url, name="fleet-setup/1.0.0", pacing=WATCHED) as client:
            client.begin(tokens)
            counts[user_id] = sum(item["count"] for item in await client.summaries("all"))
    return counts


async def _problems(url: str, whose: dict[UUID, dict[str, Any]], made: Counter[UUID]) -> list[str]:
    """What is not as it was promised, once the workers had their time."""
    tries = 1
    while (found := await _counted(url, whose)) != made and tries < _VERDICT_TRIES:
        tries += 1
        await asyncio.sleep(1)
    return [f"{made[one]} runs of {one} should be there, {found[one]} are" for one in whose if found[one] != made[one]]


def _show(told: Told) -> None:
    columns = (
        "apps",
        "requests",
        "a second",
        "retries",
        "304",
        "too early",
        "no answer",
        "p50 ms",
        "p99 ms",
        "refusals",
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column in {"apps", "refusals"} else "right")
    for kind, tally in {**told.tallies, "all": total(told.tallies.values())}.items():
        row = tally.row()
        refusals = ", ".join(f"{count} x {what}" for what, count in tally.refusals.most_common(5)) or "-"
        figures = (row["requests"], f"{tally.requests / told.seconds:.0f}", row["retries"], row["not_modified"])
        more = (row["came_too_early"], row["no_answer"], row["p50_ms"], row["p99_ms"])
        table.add_row(kind, *map(str, figures), *map(str, more), refusals)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    for line in told.problems:
        click.echo(line)
    if told.stopped:
        click.echo("stopped: whether each run is one activity was not looked at")
    else:
        click.echo("runs are missing or doubled" if told.problems else "each run is one activity")
