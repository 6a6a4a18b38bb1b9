"""`cairn projections rebuild`: builds are filled from the log, and the rows of some users made anew."""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import click

from infra.faults import Fault
from infra.processes import cores
from infra.projecting.builds import Build, Registry
from infra.projecting.lifecycle import NotEqual, RowsMissing
from infra.projecting.rebuild import Options, Progress, rebuilding
from workers.cli.options import Seconds, Size, data_option, json_option, reason_option
from workers.cli.projections.lines import bar, emit, healed_lines, rebuild_lines
from workers.cli.projections.tools import Tools, tools_for

_CATCH_UP_SECONDS: Final = 60.0  # without coming closer


@click.command("rebuild")
@click.argument("names", nargs=-1)
@click.option("--users", metavar="ID,...", help="Only the rows of these users, in live builds.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Processes [default: one for each core]. Fewer leave cores that others want.",
)
@click.option("--memory", type=Size(), default="512M", show_default=True, help="Of all processes together.")
@click.option(
    "--max-live-lag",
    type=Seconds(),
    default="2s",
    show_default=True,
    help="Rest while live projections are further behind.",
)
@click.option("--auto-cutover", is_flag=True, help="Read the new build as soon as it is verified.")
@click.option("--restart", is_flag=True, help="Begin anew instead of going on with an unfinished rebuild.")
@reason_option
@json_option
@data_option
def rebuild_command(
    *,
    names: tuple[str, ...],
    users: str | None,
    workers: int | None,
    memory: int,
    max_live_lag: float,
    auto_cutover: bool,
    restart: bool,
    reason: str,
    as_json: bool,
    data: Path,
) -> None:
    """Fill the newest version of projections from the log, all of them in one pass, beside the live ones.

    Without names: every projection whose newest version is not filled yet. Then the new build follows the log, and is
    compared with the one that is read. It may be cut off at any moment: the same command goes on.

    \b
    Examples:
      cairn projections rebuild summaries
      cairn projections rebuild summaries feed --memory 1G --auto-cutover
      cairn projections rebuild --users 5f0c7e4e-3f0e-4a55-9a43-0c9d8f5a2b11
    """  # noqa: D301 - as above
    with tools_for(data, "rebuild", names=names, users=users, reason=reason) as tools:
        if users is not None:
            if auto_cutover or restart:
                raise Fault("--users changes rows of live builds: there is nothing to begin anew or to cut over to.")
            _rebuild_users(tools, names, users, as_json)
            return
        options = Options(workers or cores(), memory, max_live_lag)
        chosen = list(dict.fromkeys(names)) or _stale(tools.registry)
        if not chosen:
            emit([], as_json, lambda: iter(["every projection is built: name one to build it anew"]))
            return
        result = _rebuild(tools, chosen, options, restart=restart, auto_cutover=auto_cutover, quiet=as_json)
    emit(result, as_json, lambda: rebuild_lines(result))
    if any(one["verified"] is False or "refused" in one for one in result):
        sys.exit(1)


def _stale(registry: Registry) -> list[str]:
    read = {pointer.active for pointer in registry.pointers().values()}
    newest = {name: registry.newest(name).version for name in {one.name for one in registry.projections}}
    builds = [build for build in registry.builds() if build.schema_name in read or build.state == "ready"]
    current = {build.name for build in builds if build.version == newest.get(build.name)}
    return sorted(newest.keys() - current)


def _rebuild(
    tools: Tools, names: Sequence[str], options: Options, *, restart: bool, auto_cutover: bool, quiet: bool
) -> list[dict[str, Any]]:
    began = time.monotonic()
    with (
        bar(quiet) as told,
        rebuilding(tools.connection, tools.registry, tools.url, tools.settings.master_keys, told) as rebuild,
    ):
        builds = rebuild.start(names, restart=restart)
        rebuild.fill(builds, options)
        filled = time.monotonic() - began
        result = []
        for build in _again(tools.registry, builds):
            tools.lifecycle.catch_up(build, partial(_tell_behind, told, build), _CATCH_UP_SECONDS)
            told(Progress(f"verifying {build}"))
            one: dict[str, Any] = {"build": str(build), "fill_seconds": round(filled, 2), "verified": True}
            try:
                one["verdict"] = tools.lifecycle.verify(_again(tools.registry, [build])[0])
            except NotEqual as fault:
                one.update(verified=False, verdict=fault.verdict)
            else:
                if auto_cutover:
                    try:
                        one["cutover"] = tools.lifecycle.cutover(build.name)
                    except RowsMissing as fault:  # the others are still to be verified
                        one["refused"] = str(fault)
            result.append(one)
    return result


def _tell_behind(told: Callable[[Progress], None], build: Build, behind: int) -> None:
    told(Progress(f"{build} catches up, {behind:,} positions behind"))


def _again(registry: Registry, builds: Sequence[Build]) -> list[Build]:
    wanted = [build.schema_name for build in builds]
    return [build for build in registry.builds() if build.schema_name in wanted]


def _rebuild_users(tools: Tools, names: Sequence[str], users: str, as_json: bool) -> None:
    try:
        owners = [UUID(user) for user in users.split(",")]
    except ValueError:
        raise Fault("--users takes ids of users, with commas between them.") from None
    for name in names:
        tools.registry.named(name)
    with tools.healer() as healer:
        healed = [one for name in names or (None,) for one in healer.rebuild_owners(name, owners)]
    emit(healed, as_json, lambda: healed_lines(healed))
