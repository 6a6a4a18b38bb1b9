"""The demo's runners: who they are, what they ran, and how the API tells it."""

import asyncio
import hashlib
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import click
from rich.console import Console
from rich.table import Table

from api.client import WATCHED, Client, Refused
from infra.faults import Fault
from infra.formats import sniff
from infra.formats.fit_writer import write_fit
from infra.formats.gpx_writer import write_gpx
from workers.cli.tables import distance, duration, pace
from workers.simulation import simulate_run

_NAMESPACE: Final = UUID("6e7b0a52-2f0c-5a37-9c55-0c3a8f6f1d11")  # of the demo's ids: a second demo adds nothing
_PASSWORD: Final = "run-with-cairn"  # noqa: S105 - shown on the screen
_VERDICT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Runner:
    """Who runs where, how far and how fast, and behind whom."""

    name: str
    home: tuple[float, float]
    time_zone: str
    pace_s_per_km: float
    kilometres: tuple[float, ...]  # the latest run first
    follows: tuple[str, ...]

    @property
    def user_id(self) -> UUID:
        """The same in every demo."""
        return uuid5(_NAMESPACE, self.name)

    @property
    def email(self) -> str:
        """What to sign in with."""
        return f"{self.name.split()[0].lower()}@example.com"


@dataclass(frozen=True)
class Recording:
    """A file to hand in."""

    name: str
    activity_id: UUID
    body: bytes


_ANNA, _BEN, _MIA, _LEO = "Anna Lind", "Ben Okafor", "Mia Sato", "Leo Costa"
_RUNNERS: Final = (
    Runner(_ANNA, (52.5163, 13.3777), "Europe/Berlin", 318, (8.2, 12.5, 6.1, 18.0), (_BEN, _MIA)),
    Runner(_BEN, (51.5081, -0.0759), "Europe/London", 352, (5.0, 10.2, 7.4), (_ANNA,)),
    Runner(_MIA, (35.6852, 139.7528), "Asia/Tokyo", 296, (10.0, 21.3, 5.2), (_ANNA, _LEO)),
    Runner(_LEO, (38.7223, -9.1393), "Europe/Lisbon", 371, (4.3, 6.6, 9.1), (_ANNA, _BEN, _MIA)),
)
_GOALS: Final[tuple[dict[str, object], ...]] = (
    {"metric": "distance", "target": 30_000.0, "period": "week", "sport": "running"},
    {"metric": "count", "target": 8.0, "period": "month"},
    {"metric": "elevation_gain", "target": 2_000.0, "period": "year"},
)


async def tell_story(address: str, folder: Path | None) -> None:
    """Make the runners, bring their runs in, and print what each of them sees; all of it through the API.

    `Fault` when a run gets no verdict, or an address is taken. A demo goes on with what one before it left undone.
    """
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(address, name="cairn-demo/0.1", pacing=WATCHED)) for _ in _RUNNERS
        ]
        everyone = list(zip(clients, _RUNNERS, strict=True))
        for client, runner in everyone:
            await _enter(client, runner)
        for client, runner in everyone:
            for name in runner.follows:
                await client.follow(uuid5(_NAMESPACE, name))
            await _set_goals(client, runner)
        dealt = _dealt(folder) if folder else [await _made_up(*one) for one in everyone]
        click.echo(f"bringing in {sum(map(len, dealt))} recordings")
        await asyncio.gather(*(_bring_in(client, files) for client, files in zip(clients, dealt, strict=True)))
        width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "100"))
        console = Console(width=width, markup=False, emoji=False, highlight=False)  # titles are nobody's markup
        for client, runner in everyone:
            await _show(console, client, runner)
    _show_addresses(console, address)


async def _enter(client: Client, runner: Runner) -> None:
    try:
        await client.register(runner.email, _PASSWORD, runner.name, runner.user_id)
    except Refused as refusal:
        if refusal.code != "email-taken":
            raise
        raise Fault(f"{runner.email} is somebody else's here: give the demo a folder of its own with --data.") from None
    await client.change_profile(time_zone=runner.time_zone)


async def _set_goals(client: Client, runner: Runner) -> None:
    new_year = datetime.now(UTC).date().replace(month=1, day=1).isoformat()
    for goal in _GOALS:
        await client.set_goal(uuid5(runner.user_id, str(goal["metric"])), {**goal, "starts_on": new_year})


async def _made_up(client: Client, runner: Runner) -> list[Recording]:
    """Runs of the last three weeks as a watch (FIT) and a phone (GPX) would write them, less those that are there."""
    ended, files = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1), []
    for index, kilometres in enumerate(runner.kilometres):
        activity_id = uuid5(runner.user_id, f"run {index}")  # not of the bytes: they tell the time of the first demo
        if await _handed_in(client, activity_id):
            continue
        length = timedelta(seconds=kilometres * runner.pace_s_per_km)
        run = simulate_run(
            seed=runner.user_id.int % 2**32 + index,
            started_at=ended - length - timedelta(days=index * 5, minutes=37 * index),
            distance_m=kilometres * 1000,
            pace_s_per_km=runner.pace_s_per_km * (1 + 0.01 * kilometres**0.5),
            home=runner.home,
        )
        kind, write = ("fit", write_fit) if index % 2 == 0 else ("gpx", write_gpx)
        files.append(Recording(f"{runner.name} {index + 1}.{kind}", activity_id, write(run)))
    return files


async def _handed_in(client: Client, activity_id: UUID) -> bool:
    try:
        await client.upload_state(activity_id)
    except Refused:
        return False
    return True


def _dealt(folder: Path) -> list[list[Recording]]:
    """The recordings of a folder, dealt out among the runners."""
    found = [(path.name, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]
    recordings = [(name, body) for name, body in found if sniff(body) is not None]
    return [
        [
            Recording(name, uuid5(runner.user_id, hashlib.sha256(body).hexdigest()), body)
            for name, body in recordings[index :: len(_RUNNERS)]
        ]
        for index, runner in enumerate(_RUNNERS)
    ]


async def _bring_in(client: Client, recordings: Sequence[Recording]) -> None:
    for recording in recordings:
        try:
            state = await client.upload(recording.activity_id, recording.body)
            waited = 0.0
            while state["status"] == "processing":
                if waited > _VERDICT_SECONDS:
                    raise Fault(f"{recording.name} got no verdict in {_VERDICT_SECONDS:.0f} s: see the lines above.")
                await asyncio.sleep(_POLL_SECONDS)
                waited += _POLL_SECONDS
                state = await client.upload_state(recording.activity_id)
        except Refused as refusal:
            if not refusal.code.startswith("recording-"):
                raise
            state = {"status": "refused", "problem": {"detail": str(refusal)}}
        if state["status"] != "ready":
            click.echo(f"  {recording.name}: {state['status']} {state.get('problem', {}).get('detail', '')}")


async def _show(console: Console, client: Client, runner: Runner) -> None:
    console.print()
    console.rule(f"{runner.name}", align="left")
    _show_feed(console, await client.feed(limit=8))
    _show_summaries(console, await client.summaries("week"))
    _show_goals(console, await client.goals())


def _show_feed(console: Console, items: Sequence[dict[str, Any]]) -> None:
    table = _table("feed", "runner", "activity", ("distance", "right"), ("time", "right"), ("pace", "right"), "started")
    for item in items:
        started = datetime.fromisoformat(item["started_at"]) + timedelta(seconds=item["utc_offset_s"])
        way, moved = item["distance_m"], item["moving_s"]
        table.add_row(
            item["display_name"],
            item["title"],
            distance(way),
            duration(moved),
            pace(way, moved),
            f"{started:%a %d %b %H:%M}",
        )
    console.print(table)


def _show_summaries(console: Console, items: Sequence[dict[str, Any]]) -> None:
    table = _table("weeks", "from", ("runs", "right"), ("distance", "right"), ("moving", "right"), ("climb", "right"))
    for item in items:
        climb = f"{item['elevation_gain_m']:.0f} m"
        moved = duration(item["moving_s"])
        table.add_row(item["starts_on"], str(item["count"]), distance(item["distance_m"]), moved, climb)
    console.print(table)


def _show_goals(console: Console, items: Sequence[dict[str, Any]]) -> None:
    table = _table("goals", "goal", ("done", "right"), ("target", "right"), ("", "right"), "so far")
    for item in items:
        done, target = _measured(item["metric"], item["progress"]), _measured(item["metric"], item["target"])
        share, word = f"{item['fraction']:.0%}", "on pace" if item["on_pace"] else "behind"
        table.add_row(f"{item['metric'].replace('_', ' ')} a {item['period']}", done, target, share, word)
    console.print(table)


def _measured(metric: str, value: float) -> str:
    match metric:
        case "distance":
            return distance(value)
        case "elevation_gain":
            return f"{value:.0f} m"
        case _:
            return f"{value:.0f}"


def _table(title: str, *columns: str | tuple[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        name, justify = column if isinstance(column, tuple) else (column, "left")
        table.add_column(name, justify="right" if justify == "right" else "left")
    return table


def _show_addresses(console: Console, address: str) -> None:
    console.print()
    console.rule("to look at", align="left")
    console.print(f"API        {address}/v1")
    console.print(f"API docs   {address}/docs")
    for runner in _RUNNERS:
        console.print(f"sign in    {runner.email}  password: {_PASSWORD}")
