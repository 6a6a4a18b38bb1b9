"""What `cairn projections` prints: JSON, lines, and a bar."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars

from infra.event_store.reader import Parked
from infra.positions import to_token
from infra.projecting.auditing import Audited
from infra.projecting.builds import Build
from infra.projecting.healing import Healed, Skipped
from infra.projecting.lag import Lag
from infra.projecting.lifecycle import Exchanged
from infra.projecting.planning import Plan
from infra.projecting.quarantine import Quarantined
from infra.projecting.rebuild import Progress
from infra.projecting.status import Standing
from infra.projecting.verify import Verdict


def emit(told: object, as_json: bool, lines: Callable[[], Iterator[str]]) -> None:
    """Print it as JSON or in lines."""
    if as_json:
        click.echo(json.dumps(_plain(told), indent=2))
    else:
        for line in lines():
            click.echo(line)


def _plain(told: object) -> Any:  # noqa: ANN401 - JSON
    """For JSON: positions as tokens."""
    return _with_tokens(msgspec.to_builtins(told, enc_hook=str))


def _with_tokens(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {
            name: to_token(found)
            if name in {"position", "built_to", "verified_at"} and isinstance(found, int)
            else _with_tokens(found)
            for name, found in value.items()
            if name != "fingerprint"
        }
    return [_with_tokens(one) for one in value] if isinstance(value, list | tuple) else value


def build_line(build: Build) -> str:
    """Of `list`."""
    why = f"  ({build.reason})" if build.reason else ""
    return f"{build!s:<28} {build.state:<12}{why}"


def status_lines(found: Sequence[Standing], parked: int) -> Iterator[str]:
    """A table, and how many streams all of them leave out."""
    yield f"{'projection':<28} {'state':<12} {'position':<12} {'behind':>18}  {'workers':>7} {'quarantined':>11}"
    for standing in found:
        lag = standing.lag
        behind = "" if lag is None else _behind(lag)
        at = "" if lag is None else to_token(lag.position)
        workers = "" if lag is None else f"{lag.holders}"
        line = (
            f"{standing.build:<28} {standing.state:<12} {at:<12} {behind:>18}  {workers:>7} {standing.quarantined:>11}"
        )
        notes = [standing.trouble, standing.reason, standing.shadowing]
        yield "  ".join([line, *(note for note in notes if note)])
    if parked:
        yield f"{parked:,} streams cannot be read and are left out: cairn projections quarantine list names them"


def _behind(lag: Lag) -> str:
    return "0" if lag.events == 0 else f"{lag.events:,} ({lag.seconds:.1f} s)"


def plan_lines(made: Plan) -> Iterator[str]:
    """What would be done."""
    yield f"{made.build}: {made.how}"
    yield f"  reads    {made.events:,} events, {made.log_bytes / 1e6:,.0f} MB"
    yield f"  writes   about {made.table_bytes / 1e6:,.0f} MB" if made.table_bytes else "  writes   not known yet"
    yield f"  takes    about {made.seconds:,.0f} s, {made.seconds_from}"
    for change in made.changes:
        yield f"  changes  {change}"


def rebuild_lines(result: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What became of each build, and what comes next."""
    for one in result:
        verdict: Verdict | None = one["verdict"]
        yield f"{one['build']}: filled in {one['fill_seconds']:.1f} s"
        yield from verdict_lines(verdict, one["build"])
        if "cutover" in one:
            yield from exchanged_lines(one["cutover"])
        elif "refused" in one:
            yield f"  not cut over: {one['refused']}"
        elif verdict is not None and not one["verified"]:
            yield f"  next: {verdict.advice}"
        elif verdict is not None and verdict.parked:
            yield "  next: cairn projections quarantine list names streams that cannot be read: mend them, then heal"
        elif one["verified"]:
            name = str(one["build"]).split(" ", 1)[0]
            yield f"  next: cairn projections shadow {name} --percent 10, or cairn projections cutover {name}"


def verdict_lines(verdict: Verdict | None, build: str) -> Iterator[str]:
    """Each table, and the rows behind a difference."""
    if verdict is None:
        yield f"  {build}: nothing to compare it with, since no other build is read"
        return
    for table in verdict.compared:
        word = "equal" if table.buckets == 0 else f"DIFFERS in {table.buckets} of 256 buckets"
        yield f"  {table.name:<12} {table.rows:>12,} rows  {word} at {to_token(verdict.position)}"
        for difference in table.differences:
            yield f"    key {json.dumps(_plain(difference.key))} of user {difference.owner}"
            yield f"      {verdict.old}: {json.dumps(_plain(difference.old)) if difference.old else 'no row'}"
            yield f"      {verdict.new}: {json.dumps(_plain(difference.new)) if difference.new else 'no row'}"
    if verdict.left_out:
        yield (
            f"  not compared: {verdict.left_out} users, who are being erased, of whom a key is quarantined, or whom a "
            f"stream concerns that cannot be read ({verdict.parked} streams): cairn projections quarantine list"
        )
    if verdict.unread:
        yield f"  not compared: {', '.join(verdict.unread)}, whose rows hang on streams that cannot be read"


def exchanged_lines(exchanged: Exchanged) -> Iterator[str]:
    """What is read now."""
    kept = f"; {exchanged.before} is on standby" if exchanged.before else ""
    yield f"  {exchanged.now} is read from now on, as of {to_token(exchanged.position)}{kept}"


def healed_lines(healed: Sequence[Healed]) -> Iterator[str]:
    """What was made anew."""
    if not healed:
        yield "nothing to do"
    for one in healed:
        still = f", {one.still_quarantined} keys stay quarantined" if one.still_quarantined else ""
        yield f"{one.build}: {one.rows:,} rows of {one.owners:,} users made anew{still}"
        if one.left_out:
            yield f"  as they were: those of {one.left_out} users, whom a stream concerns that still cannot be read"


def quarantine_lines(
    keys: Sequence[Quarantined], streams: Sequence[Parked], skipped: Sequence[Skipped]
) -> Iterator[str]:
    """What is held back, and what is left out."""
    if not keys and not streams:
        yield "nothing is held back"
    for key in keys:
        yield (
            f"{key.schema_name} {key.table_name} {json.dumps(_plain(key.key))}: {key.topic} of stream {key.stream_id} "
            f"version {key.version} at {to_token(key.position)}: {key.reason}; {key.held:,} later events are held back"
        )
    for stream in streams:
        yield (
            f"stream {stream.stream_id} from version {stream.version} on, at {to_token(stream.position)}: "
            f"{stream.reason}"
        )
    for left_out in skipped:
        yield f"{left_out.name} leaves out {to_token(left_out.position)} since {left_out.skipped_at}: {left_out.reason}"


def audit_lines(audited: Sequence[Audited]) -> Iterator[str]:
    """What differs, and what mends it."""
    for one in audited:
        word = f"{one.differing:,} DIFFER" if one.differing else "all as the log has them"
        yield f"{one.build}: {one.rows:,} rows of {one.partitions} partitions at {to_token(one.position)}: {word}"
        for difference in one.differences:
            key = json.dumps(_plain(difference.key))
            yield f"  {difference.table} {key} of user {difference.owner}: {difference.what}"
        if one.differing > len(one.differences):
            yield f"  ... and {one.differing - len(one.differences):,} more"
        if one.differences:
            name, owners = one.build.partition(" ")[0], dict.fromkeys(str(drift.owner) for drift in one.differences)
            yield f"  mends these: cairn projections rebuild {name} --users {','.join(owners)}"
        if one.left_out:
            yield f"  not compared: {one.left_out} users, of whom a stream cannot be read (projections quarantine list)"
        if one.unread:
            yield f"  not compared: {', '.join(one.unread)}, whose rows hang on streams that cannot be read"


def dropped_lines(dropped: Sequence[Build]) -> Iterator[str]:
    """What is gone."""
    yield from [f"dropped {build}" for build in dropped] or ["nothing to drop"]


@contextmanager
def bar(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Shows how far a rebuild is, on the terminal or in a line for each phase."""
    if quiet:
        yield lambda _progress: None
        return
    console = Console(stderr=True)
    with Bars(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), console=console, transient=True
    ) as bars:
        task, said = bars.add_task("starting", total=1.0), [""]

        def told(progress: Progress) -> None:
            text = progress.phase
            if progress.events:
                text += f"  {progress.events:,} events, {progress.events_per_second:,.0f}/s"
            if progress.seconds_left is not None:
                text += f", {progress.seconds_left:,.0f} s left"
            if progress.throttled:
                text += "  resting: live projections are behind"
            bars.update(task, description=text, completed=progress.fraction or 0.0)
            if not console.is_terminal and progress.phase != said[0]:
                said[0] = progress.phase
                console.print(progress.phase)

        yield told
