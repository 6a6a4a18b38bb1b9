"""`cairn events`: the log for operators, to follow, to look a stream up, to count, and to check."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import click
import msgspec
from psycopg import Connection
from rich.console import Console
from rich.progress import Progress

from domain.events.activity import ActivityRecorded
from domain.events.packing import unpack_json
from domain.streams import MalformedPosition
from infra.event_store.inspection import Figures, Finding, HeldBack, Inspection, Seen, Verification
from infra.event_store.reader import LogReader
from infra.event_store.rows import Row
from infra.faults import Fault
from infra.keys import MasterKeys
from infra.positions import from_token, to_token
from infra.settings import load_settings
from workers.cli.connecting import connected
from workers.cli.options import data_option

_POLL_SECONDS: Final = 0.2
_PAGE: Final = 500
_BEGIN: Final = 10  # events that `tail` begins with
_SUMMARY_CHARACTERS: Final = 100  # of a payload, in a line of `tail`
_PRINTED: Final = 100  # findings of `verify`; all are counted
_WITHOUT_CHECKSUMS: Final = (
    "cairn: Postgres keeps no checksums of its pages (data_checksums = off): what a disk changed in a figure that is "
    "not sealed, such as a distance, nothing finds. Stop it, and run pg_checksums --enable."
)

F = TypeVar("F", bound=Callable[..., None])

private_option = click.option(
    "--private", is_flag=True, help="Show private fields too (names, titles, routes). Left out: they are redacted."
)


def json_option(what: str) -> Callable[[F], F]:
    """`--json`, and what it prints."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what}.")


@click.group("events")
def events_command() -> None:
    """Look at the event log: follow it, read a stream, count, check.

    \b
    Examples:
      cairn events tail                   what happens now
      cairn events show STREAM            everything that happened to one activity
      cairn events stats                  sizes, keys, parked streams, writers
      cairn events verify                 read and check every event

    Nothing here changes the log.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are


def _position(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else from_token(value)
    except MalformedPosition:
        raise Fault(f"--after {value!r} is no position: give it as Cairn-Position has it, such as p1-2a.") from None


@events_command.command("tail")
@click.option("--after", metavar="POSITION", callback=_position, help="Begin behind this position, such as p1-2a.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Go on with what is decided from now on.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    help=f"Begin with this many of the last events [default: {_BEGIN}]; with --after: end after this many.",
)
@json_option("one JSON object a line")
@private_option
@data_option
def tail_command(
    *, after: int | None, follow: bool, limit: int | None, as_json: bool, private: bool, data: Path
) -> None:
    """Print events as they are decided, oldest first, until Ctrl-C.

    A line has the position, the time, the topic, the stream, its version, the owner, and what the event says.

    \b
    Examples:
      cairn events tail --limit 100
      cairn events tail --after p1-2a --no-follow --json | jq .topic
    """  # noqa: D301 - as above
    with _connected(data) as (connection, master), contextlib.suppress(KeyboardInterrupt):
        reader, inspection = LogReader(connection, master), Inspection(connection, master)
        count = None
        if after is None:
            after = inspection.before_last(_BEGIN if limit is None else limit, reader.decided())
        else:
            count = limit
        rows = _rows(reader, inspection, after, follow=follow)
        for seen in islice(chain.from_iterable(map(inspection.seen, rows)), count):
            click.echo(_as_json(seen, private=private) if as_json else _as_line(seen, private=private))


def _rows(reader: LogReader, inspection: Inspection, after: int, *, follow: bool) -> Iterator[Sequence[Row]]:
    """Pages behind the fence. Not by `LogReader.page`: that parks streams, and leaves out those that are parked."""
    upto = reader.decided()
    while True:
        while rows := inspection.after(after, upto, _PAGE):
            yield rows
            after = rows[-1].position
        if not follow:
            if inspection.last_position() > upto:
                click.echo(
                    "cairn: later events wait for a transaction that still writes: see cairn events stats", err=True
                )
            return
        time.sleep(_POLL_SECONDS)
        upto = reader.decided()


@events_command.command("show")
@click.argument("stream", type=click.UUID)
@json_option("one JSON object a line")
@private_option
@data_option
def show_command(*, stream: UUID, as_json: bool, private: bool, data: Path) -> None:
    """Print every event of one stream, by version. An event that does not decode is shown with the reason.

    The stream of an activity is its id.

    \b
    Example:
      cairn events show 5f0c7e4e-3f0e-4a55-9a43-0c9d8f5a2b11 --private
    """  # noqa: D301 - as above
    with _connected(data) as (connection, master):
        inspection = Inspection(connection, master)
        rows = inspection.stream(stream)
        found = False
        while page := list(islice(rows, _PAGE)):
            found = True
            for seen in inspection.seen(page):
                click.echo(_as_json(seen, private=private) if as_json else _as_line(seen, private=private, whole=True))
        if not found:
            raise Fault(f"there is no stream {stream} in this log.")


@events_command.command("stats")
@json_option("the figures as JSON")
@data_option
def stats_command(*, as_json: bool, data: Path) -> None:
    """Print how much is stored, which writers hold followers up, and which streams are parked.

    Reads the whole log once: on large ones it takes a while.

    \b
    Example:
      cairn events stats --json | jq .parked
    """  # noqa: D301 - as above
    with _connected(data) as (connection, master):
        inspection = Inspection(connection, master)
        figures, topics, parked = inspection.figures(), inspection.topics(), inspection.parked()
    if as_json:
        click.echo(json.dumps(_stats(figures, topics, parked), indent=2))
    else:
        _print_stats(figures, topics, parked)


def _stats(figures: Figures, topics: Mapping[str, int], parked: Sequence[HeldBack]) -> dict[str, Any]:
    told = msgspec.to_builtins([figures, parked])
    for place in (*told[1], told[0]):
        name = "position" if "position" in place else "last_position"
        place[name] = to_token(place[name])
    return {**told[0], "topics": dict(topics), "parked": told[1]}


def _print_stats(figures: Figures, topics: Mapping[str, int], parked: Sequence[HeldBack]) -> None:
    writing = f"{figures.writing}"
    if figures.writing:
        writing += f" (the oldest for {figures.oldest_writing_seconds:.1f} s: followers wait for it)"
    lines = {
        "events": f"{figures.events:,}",
        "streams": f"{figures.streams:,}",
        "owners": f"{figures.owners:,}",
        "table": _size(figures.table_bytes),
        "indexes": _size(figures.index_bytes),
        "last position": to_token(figures.last_position),
        "writing now": writing,
        "keys": f"{figures.keys_live:,} live, {figures.keys_destroyed:,} destroyed",
        "kept replies": f"{figures.kept_replies:,}",
        "snapshots": f"{figures.snapshots:,}",
        "parked streams": f"{len(parked):,}",
    }
    for name, value in lines.items():
        click.echo(f"{name:<15} {value}")
    for held in parked:
        click.echo(f"  {held.stream_id} from version {held.version} on: {_plain(held.reason)}")
    click.echo("by topic")
    for topic, count in topics.items():
        click.echo(f"  {_plain(topic):<24} {count:>12,}")


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


@events_command.command("verify")
@json_option("findings and totals as JSON")
@data_option
def verify_command(*, as_json: bool, data: Path) -> None:
    """Read every event and check it: exit code 0 when all is well, 1 when anything is found.

    Versions of a stream count from 1 without a gap, positions grow, every event decodes and is what its topic has, what
    is sealed opens unless its key is destroyed, the ids in an event are those of its row, a stream is of one kind and
    has one owner, an owner one partition, and every snapshot has its event. What is past the sequence is read too. And
    kept replies open. Safe beside running parts. Needs about 250 bytes of memory for each stream.

    \b
    Example:
      cairn events verify && echo fine
    """  # noqa: D301 - as above
    began = time.monotonic()
    with _connected(data) as (connection, master):
        inspection = Inspection(connection, master)
        verification = Verification(inspection)
        found = _Findings()
        for rows, tell in _scanned(LogReader(connection, master), inspection):
            found.add(verification.check(rows))
            tell(verification.events, found.count)
        found.add(inspection.misplaced())
        found.add(inspection.unopened_replies())
        if not inspection.has_checksums():
            click.echo(_WITHOUT_CHECKSUMS, err=True)
    seconds = time.monotonic() - began
    totals = {
        "events": verification.events,
        "streams": verification.streams,
        "seconds": round(seconds, 3),
        "events_per_second": round(verification.events / seconds),
    }
    found.tell(totals, as_json=as_json)
    sys.exit(1 if found.count else 0)


class _Findings:
    """Counts all, and keeps the first of them to be printed."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[Finding] = []

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.count += 1
            if len(self._first) < _PRINTED:
                self._first.append(finding)

    def tell(self, totals: Mapping[str, object], *, as_json: bool) -> None:
        if as_json:
            told = {**totals, "findings": self.count, "first_findings": msgspec.to_builtins(self._first)}
            click.echo(json.dumps(told, indent=2))
            return
        for finding in self._first:
            place = f"stream {finding.stream_id} version {finding.version}: " if finding.stream_id else ""
            click.echo(f"{place}{_plain(finding.problem)}")
        if self.count > len(self._first):
            click.echo(f"... and {self.count - len(self._first):,} more")
        click.echo(
            f"{totals['events']:,} events of {totals['streams']:,} streams read in {totals['seconds']:.1f} s: "
            + (f"{self.count:,} findings" if self.count else "all is well")
        )


def _scanned(reader: LogReader, inspection: Inspection) -> Iterator[tuple[Sequence[Row], Callable[[int, int], None]]]:
    """The pages of the log, each with a function that shows how far the check is (events, findings). What is past the
    sequence comes at the end: nobody else reads that.
    """
    last = reader.decided(of_all=True)
    end = inspection.past_sequence()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task, position = progress.add_task("reading", total=last), 0
        for rows in chain(reader.scan(upto=last), _after(inspection, last, end)):
            position = rows[-1].position if rows else position  # a gap wider than a page has none

            def tell(events: int, findings: int, position: int = position) -> None:
                progress.update(task, completed=position, description=f"{events:,} events, {findings:,} findings")

            yield rows, tell


def _after(inspection: Inspection, position: int, end: int) -> Iterator[Sequence[Row]]:
    while rows := inspection.after(position, end, _PAGE):
        yield rows
        position = rows[-1].position


@contextmanager
def _connected(data: Path) -> Iterator[tuple[Connection, MasterKeys]]:
    settings = load_settings(data, os.environ)
    with connected(settings) as connection:
        yield connection, MasterKeys(settings.master_keys)


def _said(seen: Seen, *, private: bool) -> dict[str, Any]:
    """What the event says; without its private fields unless they are asked for."""
    if seen.event is None:
        return {}
    hidden = frozenset() if private else seen.event.PRIVATE
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(seen.event))
    if isinstance(seen.event, ActivityRecorded) and "measured" in fields:
        with contextlib.suppress(ValueError, msgspec.DecodeError):  # what does not unpack is shown as it is
            fields["measured"] = msgspec.json.decode(unpack_json(seen.event.measured))
    return {name: value for name, value in fields.items() if name not in hidden}


def _as_json(seen: Seen, *, private: bool) -> str:
    row = seen.row
    told: dict[str, Any] = {
        "position": to_token(row.position),
        "stream_id": str(row.stream_id),
        "version": row.version,
        "topic": row.topic,
        "owner_id": str(row.owner_id),
        "event": _said(seen, private=private) if seen.event is not None else None,
    }
    if seen.problem:
        told["problem"] = seen.problem
    if seen.erased:
        told["erased"] = True
    return json.dumps(told)


def _as_line(seen: Seen, *, private: bool, whole: bool = False) -> str:
    row, said = seen.row, _said(seen, private=private)
    place = f"{to_token(row.position):<8} {said.pop('at', '-'):<20.19} {_plain(row.topic):<22}"
    names = f"v{row.version}" if whole else f"{row.stream_id} v{row.version} of {row.owner_id}"
    says = f"! {seen.problem}" if seen.problem else " ".join(f"{name}={_value(said[name])}" for name in said)
    if seen.erased:
        says += " (its private fields are erased)"
    says = _plain(says)
    if not whole and len(says) > _SUMMARY_CHARACTERS and not seen.problem:
        says = says[: _SUMMARY_CHARACTERS - 1] + "…"
    return f"{place} {names} {says}"


def _value(value: object) -> str:
    return value if isinstance(value, str) and " " not in value else json.dumps(value, ensure_ascii=False)


def _plain(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
