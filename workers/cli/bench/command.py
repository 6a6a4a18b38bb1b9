"""The command: a server of its own, durable as ours always are, and the figures as a table or JSON."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import msgspec
import psycopg
from psycopg.conninfo import make_conninfo
from rich.console import Console

from infra import migrations
from infra.embedded.postgres import EmbeddedPostgres
from infra.faults import Fault
from infra.processes import child_environ, cores
from infra.settings import forget_others_postgres
from workers.cli.bench import append, serving, upload
from workers.cli.bench.measure import ROUNDS, Bench, Finding, Outcome, Spread, measure
from workers.cli.bench.rebuild import LAG_GOALS, LIVE_GOALS, MEMORY_GOALS, REBUILD_GOALS, Live, Rebuilds
from workers.cli.bench.recordings import from_folder, made_up
from workers.cli.bench.replay import DECODE_GOALS, SCAN_GOALS, Logs
from workers.cli.bench.tracks import SIZE_GOALS, SPEED_GOALS, Tracks

_RESULTS: Final = {
    "append": append.GOALS,
    "scan": SCAN_GOALS,
    "decode": DECODE_GOALS,
    "replay": (*REBUILD_GOALS, *MEMORY_GOALS),
    "live": (*LIVE_GOALS, *LAG_GOALS),
    "tracks": (*SIZE_GOALS, *SPEED_GOALS),
    "upload": upload.GOALS,
    "api": serving.GOALS,
}
_GROUP_OF: Final = {goal.name: group for group, goals in _RESULTS.items() for goal in goals}
NAMES: Final = (*_RESULTS, *(name for name in _GROUP_OF if name not in _RESULTS))

_SECONDS, _QUICK_SECONDS = 3.0, 1.0
_LAG_SECONDS: Final = 10.0
_EVENTS, _QUICK_EVENTS, _REPLAYED = 100_000, 10_000, 1_000_000
_RECORDINGS, _QUICK_RECORDINGS = 24, 2
_WITHOUT_SERVER: Final = frozenset({"tracks"})
_START_SECONDS: Final = 30.0


@click.command("bench")
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print figures, ratios and the machine as JSON.")
@click.option("--quick", is_flag=True, help="Short runs, to see that it works: the figures mean little.")
@click.option(
    "--events",
    type=click.IntRange(min=1_000),
    help=f"Of the log for replay [default: {_REPLAYED:,}, with --quick {_QUICK_EVENTS:,}].",
)
@click.option(
    "--from",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Of recordings, for tracks. Without it, made-up ones.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=ROUNDS, show_default=True, help="Rounds of each bench.")
def bench_command(
    *, names: tuple[str, ...], as_json: bool, quick: bool, events: int | None, folder: Path | None, rounds: int
) -> None:
    """Measure this machine: ours and the references, in turns, on a Postgres of its own with fsync on.

    \b
      append    durable saves: ours, pgbench's single-row INSERTs, the stock recorder
      scan      reading the log for a rebuild: ours, and the stock library's way
      decode    stored bytes to events, in memory
      replay    rebuilding read models from a large log: ours, the stock runner, a bare COPY
      live      keeping up: events a second of one worker, and its lag at 2,000 a second
      tracks    stored tracks: bytes a point, points a second; gzip, zstd, JSON, Parquet, pcodec
      upload    recordings to a whole instance: time to the ack, CPU, rows and memory
      api       the API's process: CPU of kept reads and 304s, durable commands a second; a bare server, pgbench

    A name is one of these or of a result, such as append_1_client, which stands for all of its group. Without names:
    all of them, in some minutes. Each round runs every contender once, in another order. A ratio is the median of the
    rounds' ratios. Exit code 1 when a target is missed, but for --quick. An instance that runs is not touched, but
    both slow each other down.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    chosen = {_GROUP_OF.get(name, name) for name in names} or set(_RESULTS)
    console = Console(stderr=True)
    with console.status("getting ready") as status:
        outcomes: list[Outcome] = []
        if chosen - _WITHOUT_SERVER:
            replayed = events or (_QUICK_EVENTS if quick else _REPLAYED)
            outcomes += _measured(chosen, rounds, replayed, quick=quick, told=status.update)
        if "tracks" in chosen:
            outcomes += _of_tracks(folder, rounds, quick=quick, told=status.update)
    if as_json:
        results = [result for outcome in outcomes for result in _results(outcome)]
        click.echo(json.dumps({"machine": _machine(), "quick": quick, "results": results}, indent=2))
    else:
        for outcome in outcomes:
            _print(outcome)
        if quick:
            click.echo("These were short runs: leave --quick out for figures that mean something.")
    if not quick and any(finding.met is False for outcome in outcomes for finding in outcome.findings):
        sys.exit(1)


def _results(outcome: Outcome) -> Iterator[Mapping[str, Any]]:
    """A target is of the ratio where there is a reference, else of the value. Values and ratios are medians."""
    for finding in outcome.findings:
        reference = outcome.figures[finding.reference] if finding.reference is not None else None
        yield {
            "name": finding.name,
            "value": outcome.figures[finding.contender].median,
            "unit": outcome.unit,
            "reference": finding.reference,
            "reference_value": reference.median if reference else None,
            "ratio": finding.figure.median if reference else None,
            "target": finding.bound,
            "met": finding.met,
            "contender": finding.contender,
            "rounds": outcome.rounds,
            "spread": msgspec.to_builtins(finding.figure),
        }


def _measured(
    names: Collection[str], rounds: int, events: int, *, quick: bool, told: Callable[[str], None]
) -> Iterator[Outcome]:
    told("starting Postgres")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="cairn-bench-")))
        server = stack.enter_context(_running(folder / "server"))
        benches: list[Callable[[], Bench]] = []
        if "append" in names:
            benches.append(partial(append.bench, server, folder, _QUICK_SECONDS if quick else _SECONDS))
        if "scan" in names or "decode" in names:
            told("filling the logs")
            clear_url, sealed_url = _database(server, "clear"), _database(server, "sealed")
            count = _QUICK_EVENTS if quick else _EVENTS
            logs = stack.enter_context(closing(Logs(server.url, clear_url, sealed_url, count)))
            benches += [logs.scan] if "scan" in names else []
            benches += [logs.decode] if "decode" in names else []
        if "replay" in names:
            told("filling a log to rebuild from")
            rebuilds = Rebuilds(_database(server, "rebuilt"), _database(server, "stock_rebuilt"), events)
            benches += [rebuilds.bench, rebuilds.memory_bench]
        if "live" in names:
            told("filling a log to follow")
            live = Live(_database(server, "live"), _database(server, "stock_live"), _QUICK_EVENTS if quick else _EVENTS)
            benches += [live.bench, lambda: live.lag_bench(_QUICK_SECONDS if quick else _LAG_SECONDS)]
        if "upload" in names:
            told("starting an instance, and making recordings")
            load = upload.QUICK if quick else upload.Load()
            benches += stack.enter_context(upload.uploads(folder / "whole", load)).benches()
        if "api" in names:
            told("starting an instance, with runners and a feed")
            seconds = _QUICK_SECONDS if quick else _SECONDS
            benches += stack.enter_context(serving.serving(folder / "served", seconds)).benches()
        for bench in benches:
            yield measure(bench(), rounds, told)


def _of_tracks(folder: Path | None, rounds: int, *, quick: bool, told: Callable[[str], None]) -> Iterator[Outcome]:
    told("reading recordings")
    recordings = made_up(_QUICK_RECORDINGS if quick else _RECORDINGS) if folder is None else from_folder(folder)
    tracks = Tracks(recordings, _QUICK_SECONDS / 10 if quick else _SECONDS / 3)
    for bench in (tracks.sizes, tracks.speeds):
        yield measure(bench(), rounds, told)


@contextmanager
def _running(data: Path) -> Iterator[EmbeddedPostgres]:
    data.mkdir()
    forget_others_postgres(os.environ)
    server = EmbeddedPostgres(data)
    server.make()
    process = subprocess.Popen(
        server.argv, env=dict(child_environ()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + _START_SECONDS
        while not server.is_ready():
            if process.poll() is not None or time.monotonic() > until:
                raise Fault("the bench's own Postgres does not start: see whether ./cairn up does, which says why.")
            time.sleep(0.05)
        migrations.upgrade(server.url)
        yield server
    finally:
        process.send_signal(server.stop_signal)
        process.wait()


def _database(server: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = make_conninfo(server.url, dbname=name)
    migrations.upgrade(url)
    return url


def _machine() -> Mapping[str, Any]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": cores(),
    }


def _print(outcome: Outcome) -> None:
    click.echo(f"\n{outcome.name}: {outcome.unit}, median of {outcome.rounds} rounds (lowest to highest)")
    for name, figure in outcome.figures.items():
        click.echo(f"  {name:<48} {_number(figure)}")
    for finding in outcome.findings:
        click.echo(f"  {_sentence(finding)}")


def _number(figure: Spread) -> str:
    return f"{_digits(figure.median):>11}   ({_digits(figure.lowest)} to {_digits(figure.highest)})"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _sentence(finding: Finding) -> str:
    verdict = {True: "met", False: "MISSED", None: "no goal"}[finding.met]
    if finding.reference is None:
        goal = (
            "" if finding.bound is None else f", at {'most' if finding.at_most else 'least'} {_digits(finding.bound)}"
        )
        return f"{finding.name}: {finding.contender}: {_digits(finding.figure.median)}{goal}: {verdict}"
    spread = f"{finding.figure.median:.2f} ({finding.figure.lowest:.2f} to {finding.figure.highest:.2f})"
    goal = "" if finding.bound is None else f", at {'most' if finding.at_most else 'least'} {finding.bound:g}"
    return f"{finding.name}: {finding.contender} / {finding.reference}: {spread}{goal}: {verdict}"
