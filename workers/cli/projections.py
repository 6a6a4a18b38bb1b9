"""`cairn projections`: how data shapes change in flight."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import click
from psycopg import Connection

from domain.streams import MalformedPosition
from infra.bootstrap import open_changes
from infra.faults import Fault
from infra.keys import MasterKeys
from infra.positions import from_token
from infra.processes import cores
from infra.projecting.auditing import audit
from infra.projecting.builds import Build, Registry
from infra.projecting.healing import Healer, healing
from infra.projecting.leaving import parked_owners
from infra.projecting.lifecycle import Lifecycle, NotEqual, RowsMissing
from infra.projecting.planning import plan
from infra.projecting.rebuild import Options, Progress, rebuilding
from infra.projecting.status import standings
from infra.settings import Settings, load_settings
from workers.cli.connecting import connected
from workers.cli.noting import noted
from workers.cli.options import Seconds, Size, data_option, json_option, reason_option, required_reason_option
from workers.cli.projections_text import (
    audit_lines,
    bar,
    build_line,
    dropped_lines,
    emit,
    exchanged_lines,
    healed_lines,
    plan_lines,
    quarantine_lines,
    rebuild_lines,
    status_lines,
    verdict_lines,
)

_WATCH_SECONDS: Final = 1.0
_CATCH_UP_SECONDS: Final = 60.0  # without coming closer

F = TypeVar("F", bound=Callable[..., None])

name_argument = click.argument("name")


class Tools:
    """What the commands work with: one checked connection to the instance's database."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        self.url = settings.database_url
        self.master = MasterKeys(settings.master_keys)
        self.registry = Registry(connection)
        self.registry.register()
        self.lifecycle = Lifecycle(connection, self.registry, self.url)

    @contextmanager
    def healer(self) -> Iterator[Healer]:
        """For what is made anew in live tables."""
        with healing(self.url, self.registry, self.master) as healer:
            yield healer


@contextmanager
def _tools(data: Path, action: str = "", **arguments: object) -> Iterator[Tools]:
    """With an action: it is noted in the operators' log, and how it ended."""
    settings = load_settings(data, os.environ)
    with connected(settings) as connection:
        tools = Tools(connection, settings)
        if not action:
            yield tools
            return
        try:
            with noted(connection, action, arguments):
                yield tools
        finally:
            open_changes(settings).all_of_it()  # other rows are read now, and no event says so


@click.group("projections")
def projections_command() -> None:
    """Change the shape of read models while everything runs.

    \b
    The four steps of a migration:
      cairn projections rebuild NAME                fill the new version from the log, then verify it
      cairn projections shadow NAME --percent 10    let a share of the users read it, and compare
      cairn projections cutover NAME                read it; back again: rollback
      cairn projections gc NAME                     drop the old one

    Every command says with --json what it says otherwise, ends with exit code 1 when it could not do what was asked,
    and those that change anything leave a row in the table operator_actions.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are


@projections_command.command("list")
@json_option
@data_option
def list_command(*, as_json: bool, data: Path) -> None:
    """Print every build of every projection and where it is in its life."""
    with _tools(data) as tools:
        builds = tools.registry.builds()
    emit(builds, as_json, lambda: (build_line(build) for build in builds))


@projections_command.command("status")
@click.option("--watch", is_flag=True, help="Go on printing, once a second, until Ctrl-C.")
@json_option
@data_option
def status_command(*, watch: bool, as_json: bool, data: Path) -> None:
    """Print how far each build is, who fills it, and what stands in the way.

    Exit code 1 when a build that is read, be it on trial, is stopped, paused, without a worker or over 30 s
    behind.
    """
    with _tools(data) as tools:
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


@projections_command.command("plan")
@name_argument
@json_option
@data_option
def plan_command(*, name: str, as_json: bool, data: Path) -> None:
    """Say what a rebuild would do, without doing it: events, bytes, time, and what changes."""
    with _tools(data) as tools:
        made = plan(tools.connection, tools.registry, name)
    emit(made, as_json, lambda: plan_lines(made))


@projections_command.command("rebuild")
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
    with _tools(data, "rebuild", names=names, users=users, reason=reason) as tools:
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


@projections_command.command("verify")
@name_argument
@json_option
@data_option
def verify_command(*, name: str, as_json: bool, data: Path) -> None:
    """Compare the new build with the one that is read, both at one position: digests, then rows where they differ.

    Exit code 1 when they differ.
    """
    with _tools(data, "verify", name=name) as tools:
        build = tools.lifecycle.candidate(name)
        try:
            verdict = tools.lifecycle.verify(build)
        except NotEqual as fault:
            differing = fault.verdict
            emit(differing, as_json, lambda: verdict_lines(differing, str(build)))
            raise
    emit(verdict, as_json, lambda: verdict_lines(verdict, str(build)))


@projections_command.command("shadow")
@name_argument
@click.option("--percent", type=click.IntRange(0, 100), required=True, help="Of the users; 0 ends it.")
@reason_option
@json_option
@data_option
def shadow_command(*, name: str, percent: int, reason: str, as_json: bool, data: Path) -> None:
    """Let a share of the users read the new build, always the same ones, and compare what both answer.

    `cairn projections status` counts the reads that were compared and those that differed.
    """
    with _tools(data, "shadow", name=name, percent=percent, reason=reason) as tools:
        build = tools.lifecycle.shadow(name, percent)
    told = {"name": name, "percent": percent, "build": None if build is None else str(build)}
    text = f"{percent} % of the users read {build}" if build else f"all users read what {name} had"
    emit(told, as_json, lambda: iter([text]))


@projections_command.command("cutover")
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
    with _tools(data, "cutover", **arguments) as tools:
        exchanged = tools.lifecycle.cutover(name, although_it_differs=although_it_differs)
    emit(exchanged, as_json, lambda: exchanged_lines(exchanged))


@projections_command.command("rollback")
@name_argument
@reason_option
@json_option
@data_option
def rollback_command(*, name: str, reason: str, as_json: bool, data: Path) -> None:
    """Read again what was read before the last cutover."""
    with _tools(data, "rollback", name=name, reason=reason) as tools:
        exchanged = tools.lifecycle.rollback(name)
    emit(exchanged, as_json, lambda: exchanged_lines(exchanged))


@projections_command.command("pause")
@name_argument
@reason_option
@json_option
@data_option
def pause_command(*, name: str, reason: str, as_json: bool, data: Path) -> None:
    """Let workers fill no build of the projection any more: reads go on, and grow old."""
    _set_paused(name, reason, as_json, data, paused=True)


@projections_command.command("resume")
@name_argument
@reason_option
@json_option
@data_option
def resume_command(*, name: str, reason: str, as_json: bool, data: Path) -> None:
    """Let workers go on with a projection that was paused, or that stopped by itself."""
    _set_paused(name, reason, as_json, data, paused=False)


def _set_paused(name: str, reason: str, as_json: bool, data: Path, *, paused: bool) -> None:
    action = "pause" if paused else "resume"
    with _tools(data, action, name=name, reason=reason) as tools:
        shards = tools.lifecycle.pause(name, paused=paused)
    word = "paused" if paused else "going on"
    emit({"name": name, "shards": shards, "paused": paused}, as_json, lambda: iter([f"{name}: {shards} shards {word}"]))


@projections_command.group("quarantine")
def quarantine_group() -> None:
    """Keys whose fold failed, and streams that cannot be read: everything else goes on without them."""


@quarantine_group.command("list")
@click.argument("name", required=False)
@json_option
@data_option
def quarantine_list_command(*, name: str | None, as_json: bool, data: Path) -> None:
    """Print what is held back, since which event, and why; and the events that are left out."""
    with _tools(data) as tools, tools.healer() as healer:
        if name is not None:
            tools.registry.named(name)
        keys, streams, skipped = healer.quarantined(name), healer.parked(), healer.skipped(name)
    found = {"keys": keys, "streams": streams, "skipped": skipped}
    emit(found, as_json, lambda: quarantine_lines(keys, streams, skipped))


@quarantine_group.command("heal")
@click.argument("name", required=False)
@reason_option
@json_option
@data_option
def heal_command(*, name: str | None, reason: str, as_json: bool, data: Path) -> None:
    """After the fix: make what was quarantined anew from the log, and let it go on.

    Exit code 1 when something fails again, which stays in quarantine, or when rows stay as they are, since a stream
    that concerns their users still cannot be read.
    """
    with _tools(data, "heal", name=name, reason=reason) as tools, tools.healer() as healer:
        if name is not None:
            tools.registry.named(name)
        healed = healer.heal(name)
    emit(healed, as_json, lambda: healed_lines(healed))
    if any(one.still_quarantined or one.left_out for one in healed):
        sys.exit(1)


projections_command.add_command(heal_command, "heal")  # as it is spoken of


@projections_command.command("skip")
@name_argument
@click.argument("position")
@click.option("--undo", is_flag=True, help="Fold an event again that was to be left out.")
@required_reason_option("Why: kept in the operators' log.")
@json_option
@data_option
def skip_command(*, name: str, position: str, undo: bool, reason: str, as_json: bool, data: Path) -> None:
    """Leave out an event that a projection fails at, now and in every rebuild, and heal what it has quarantined.

    In sums the later events of its stream go with it, for they take back what was never added. POSITION is as
    `quarantine list` has it, such as p1-2a. The last resort: the events stay in the log.
    """
    try:
        at = from_token(position)
    except MalformedPosition:
        raise Fault(f"{position!r} is no position: give it as quarantine list has it, such as p1-2a.") from None
    arguments = {"name": name, "position": position, "undo": undo, "reason": reason}
    with _tools(data, "skip", **arguments) as tools, tools.healer() as healer:
        tools.registry.named(name)
        healed = healer.take_back(name, at) if undo else healer.skip(name, at, reason)
    emit(healed, as_json, lambda: healed_lines(healed))


@projections_command.command("audit")
@click.argument("name", required=False)
@click.option("--sample", default="1%", show_default=True, help="Of the keys, as a percentage.")
@json_option
@data_option
def audit_command(*, name: str | None, sample: str, as_json: bool, data: Path) -> None:
    """Fold a random share of the keys again from the log, and compare them with the live rows.

    Exit code 1 when a row differs. Workers do the same by themselves with a small share, once an hour.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", sample)
    if found is None or not 0 < float(found[1]) <= 100:
        raise Fault(f"--sample {sample!r}: give a percentage above 0 and up to 100, such as 1%.")
    with _tools(data) as tools:
        if name is not None:
            tools.registry.named(name)
        audited = audit(tools.url, tools.registry, tools.master, name, float(found[1]))
    emit(audited, as_json, lambda: audit_lines(audited))
    if any(one.differences for one in audited):
        sys.exit(1)


@projections_command.command("gc")
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
    with _tools(data, "gc", name=name, abandon=abandon, reason=reason) as tools:
        dropped = tools.lifecycle.abandon(name) if abandon and name else tools.lifecycle.collect(name)
    emit([str(build) for build in dropped], as_json, lambda: dropped_lines(dropped))
