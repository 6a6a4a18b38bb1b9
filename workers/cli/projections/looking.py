"""Commands that say how builds are, and change nothing."""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

import click

from infra.projecting.leaving import parked_owners
from infra.projecting.planning import plan
from infra.projecting.status import standings
from workers.cli.options import data_option, json_option
from workers.cli.projections.lines import build_line, emit, plan_lines, status_lines
from workers.cli.projections.tools import name_argument, tools_for

_WATCH_SECONDS: Final = 1.0


@click.command("list")
@json_option
@data_option
def list_command(*, as_json: bool, data: Path) -> None:
    """Print every build of every projection and where it is in its life."""
    with tools_for(data) as tools:
        builds = tools.registry.builds()
    emit(builds, as_json, lambda: (build_line(build) for build in builds))


@click.command("status")
@click.option("--watch", is_flag=True, help="Go on printing, once a second, until Ctrl-C.")
@json_option
@data_option
def status_command(*, watch: bool, as_json: bool, data: Path) -> None:
    """Print how far each build is, who fills it, and what stands in the way.

    Exit code 1 when a build that is read, be it on trial, is stopped, paused, without a worker or over 30 s
    behind.
    """
    with tools_for(data) as tools:
        while True:
            found = standings(tools.connection, tools.registry)
            if watch and not as_json and sys.stdout.isatty():
                click.clear()
            parked = sum(map(len, parked_owners(tools.connection).values()))
            emit(found, as_json, partial(status_lines, found, parked))
            if not watch:
                break
            try:
                time.sleep(_WATCH_SECONDS)
            except KeyboardInterrupt:
                break
    sys.exit(1 if any(standing.trouble and standing.read for standing in found) else 0)


@click.command("plan")
@name_argument
@json_option
@data_option
def plan_command(*, name: str, as_json: bool, data: Path) -> None:
    """Say what a rebuild would do, without doing it: events, bytes, time, and what changes."""
    with tools_for(data) as tools:
        made = plan(tools.connection, tools.registry, name)
    emit(made, as_json, lambda: plan_lines(made))
