"""Commands that compare builds, say which one is read and filled, and drop what is not read any more."""

from pathlib import Path

import click

from infra.faults import Fault
from infra.projecting.lifecycle import NotEqual
from workers.cli.options import data_option, json_option, reason_option
from workers.cli.projections.lines import dropped_lines, emit, exchanged_lines, verdict_lines
from workers.cli.projections.tools import name_argument, tools_for


@click.command("verify")
@name_argument
@json_option
@data_option
def verify_command(*, name: str, as_json: bool, data: Path) -> None:
    """Compare the new build with the one that is read, both at one position: digests, then rows where they differ.

    Exit code 1 when they differ.
    """
    with tools_for(data, "verify", name=name) as tools:
        build = tools.lifecycle.candidate(name)
        try:
            verdict = tools.lifecycle.verify(build)
        except NotEqual as fault:
            differing = fault.verdict
            emit(differing, as_json, lambda: verdict_lines(differing, str(build)))
            raise
    emit(verdict, as_json, lambda: verdict_lines(verdict, str(build)))


@click.command("shadow")
@name_argument
@click.option("--percent", type=click.IntRange(0, 100), required=True, help="Of the users; 0 ends it.")
@reason_option
@json_option
@data_option
def shadow_command(*, name: str, percent: int, reason: str, as_json: bool, data: Path) -> None:
    """Let a share of the users read the new build, always the same ones, and compare what both answer.

    `cairn projections status` counts the reads that were compared and those that differed.
    """
    with tools_for(data, "shadow", name=name, percent=percent, reason=reason) as tools:
        build = tools.lifecycle.shadow(name, percent)
    told = {"name": name, "percent": percent, "build": None if build is None else str(build)}
    text = f"{percent} % of the users read {build}" if build else f"all users read what {name} had"
    emit(told, as_json, lambda: iter([text]))


@click.command("cutover")
@name_argument
@click.option(
    "--although-it-differs",
    is_flag=True,
    help="Where what is read is wrong, and not the new build; also while streams cannot be read, of which the new one "
    "lacks rows. Needs a --reason.",
)
@reason_option
@json_option
@data_option
def cutover_command(*, name: str, although_it_differs: bool, reason: str, as_json: bool, data: Path) -> None:
    """Read the verified build from now on. What was read before stays filled, for `rollback`.

    Refused while streams cannot be read (`quarantine list`): rows that have what they said would not be read any more.
    """
    if although_it_differs and not reason.strip():
        raise Fault(
            "--although-it-differs takes a --reason: how it was found that what is read is wrong, or not missed."
        )
    arguments = {"name": name, "although_it_differs": although_it_differs, "reason": reason}
    with tools_for(data, "cutover", **arguments) as tools:
        exchanged = tools.lifecycle.cutover(name, although_it_differs=although_it_differs)
    emit(exchanged, as_json, lambda: exchanged_lines(exchanged))


@click.command("rollback")
@name_argument
@reason_option
@json_option
@data_option
def rollback_command(*, name: str, reason: str, as_json: bool, data: Path) -> None:
    """Read again what was read before the last cutover."""
    with tools_for(data, "rollback", name=name, reason=reason) as tools:
        exchanged = tools.lifecycle.rollback(name)
    emit(exchanged, as_json, lambda: exchanged_lines(exchanged))


@click.command("pause")
@name_argument
@reason_option
@json_option
@data_option
def pause_command(*, name: str, reason: str, as_json: bool, data: Path) -> None:
    """Let workers fill no build of the projection any more: reads go on, and grow old."""
    _set_paused(name, reason, as_json, data, paused=True)


@click.command("resume")
@name_argument
@reason_option
@json_option
@data_option
def resume_command(*, name: str, reason: str, as_json: bool, data: Path) -> None:
    """Let workers go on with a projection that was paused, or that stopped by itself."""
    _set_paused(name, reason, as_json, data, paused=False)


def _set_paused(name: str, reason: str, as_json: bool, data: Path, *, paused: bool) -> None:
    action = "pause" if paused else "resume"
    with tools_for(data, action, name=name, reason=reason) as tools:
        shards = tools.lifecycle.pause(name, paused=paused)
    word = "paused" if paused else "going on"
    emit({"name": name, "shards": shards, "paused": paused}, as_json, lambda: iter([f"{name}: {shards} shards {word}"]))


@click.command("gc")
@click.argument("name", required=False)
@click.option(
    "--abandon", is_flag=True, help="Those of NAME that were never read, instead: begun, differing, or ready."
)
@reason_option
@json_option
@data_option
def gc_command(*, name: str | None, abandon: bool, reason: str, as_json: bool, data: Path) -> None:
    """Drop the tables of builds that are not read any more. There is no rollback to them afterwards."""
    if abandon and name is None:
        raise Fault("--abandon takes the NAME of one projection.")
    with tools_for(data, "gc", name=name, abandon=abandon, reason=reason) as tools:
        dropped = tools.lifecycle.abandon(name) if abandon and name else tools.lifecycle.collect(name)
    emit([str(build) for build in dropped], as_json, lambda: dropped_lines(dropped))
