"""What is told of an import: a bar meanwhile; a table, counts and what to do at the end; all of it as JSON or CSV."""

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.faults import Fault
from workers.cli.tables import distance, duration

Row = dict[str, Any]

_MOST_ROWS: Final = 200  # that a table shows whole
_FINE: Final = ("imported", "already there")
_ADVICE: Final = {
    "not sent": "run the same command again, nothing is sent twice",
    "processing": "the server has them and works on them: run the same command again to see what came of them",
    "not opened": "there may be recordings in these, and none was brought; their notes say why",
    "failed": "no run could be read from these files, and their notes say why; if they open elsewhere, keep them",
    "skipped": "their notes say why",
}
_COLUMNS: Final = ("file", "verdict", "note", "activity_id", "sport", "started_at", "distance_m")


class Report(Struct):
    """What came of everything. `others` counts files of exports that are no activities."""

    rows: list[Row] = []
    remarks: list[str] = []
    others: int = 0

    @property
    def counts(self) -> Mapping[str, int]:
        """How many rows have each verdict."""
        return Counter(row["verdict"] for row in self.rows)


class Progressing(Protocol):
    """What is told while it goes on."""

    def expect(self, more: int) -> None:
        """So many more entries are to come."""
        ...

    def done(self, row: Row | None) -> None:
        """One of them is done; None when it is not worth a word."""
        ...


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("importing", total=0)
        self._total = 0

    def expect(self, more: int) -> None:
        self._total += more
        self._progress.update(self._task, total=self._total)

    def done(self, row: Row | None) -> None:  # noqa: ARG002 - a bar has no words
        self._progress.advance(self._task)


class _Lines:
    def expect(self, more: int) -> None:
        """A log has no end that could be told."""

    def done(self, row: Row | None) -> None:
        if row is not None:
            click.echo(f"{row['verdict']}: {row['file']}", err=True)


@contextmanager
def progress() -> Iterator[Progressing]:
    """On standard error, so that `--json` can be piped: a bar, or lines in a log."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        yield _Bar(shown)


def named(path: Path) -> str:
    """The path as text that can be printed and written as JSON, whatever bytes it is made of."""
    return printable(os.fsencode(path).decode("utf-8", "replace"))


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def write_json(report: Report) -> None:
    """All of it, on standard output."""
    found = {"files": report.rows, "counts": report.counts, "others": report.others, "remarks": report.remarks}
    click.echo(json.dumps(found, indent=2))


def opened(path: Path) -> IO[str]:
    """The file for a report, as it was until one is written: an import takes hours, and first of all its report must
    have a place. `Fault`.
    """
    try:
        return path.open("a", newline="", encoding="utf-8", errors="replace")
    except OSError as error:
        raise Fault(f"the report {path} cannot be written: {error.strerror}") from None


def write_csv(report: Report, file: IO[str]) -> None:
    """A row for each activity, and for each file that has none, in the place of what the file had; `Fault`."""
    try:
        with file:
            if file.seekable():
                file.truncate(0)
            writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
            writer.writeheader()
            for row in report.rows:
                writer.writerows({**seen, **row} for seen in row.get("activities") or [{}])
    except OSError as error:
        raise Fault(f"the report {file.name} cannot be written: {error.strerror}") from None


def write_table(report: Report) -> None:
    """For people: of a long list only what asks for a look."""
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "140"))
    console = Console(width=width, markup=False, emoji=False, highlight=False)  # file names are nobody's markup
    shown = report.rows
    if len(shown) > _MOST_ROWS:
        shown = [row for row in shown if row["verdict"] not in _FINE or row.get("note")][:_MOST_ROWS]
    if shown:
        console.print(_table(shown))
    if len(shown) < len(report.rows):
        console.print(f"{len(report.rows) - len(shown):,} more files are not shown: --report FILE has them all.")
    for remark in report.remarks:
        console.print(remark)
    if report.others:
        console.print(f"{report.others:,} files of the export are no activities (monitoring, sleep, settings).")
    counts = report.counts
    for verdict, advice in _ADVICE.items():
        if counts.get(verdict):
            console.print(f"{verdict}: {advice}.", soft_wrap=True)
    console.print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "no files")


def _table(rows: Sequence[Row]) -> Table:
    table = Table("file", "verdict", "sport", "distance", "time", "note", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        activities = row.get("activities") or [{}]
        for index, seen in enumerate(activities):
            notes = [row.get("note", "")] if index == 0 else []
            notes += [f"session {index + 1} of {len(activities)}"] if len(activities) > 1 else []
            notes += [warning.partition(":")[0] for warning in seen.get("warnings", ())]
            table.add_row(
                Path(row["file"]).name if index == 0 else "",
                row["verdict"] if index == 0 else "",
                seen.get("sport", ""),
                distance(seen["distance_m"]) if "distance_m" in seen else "",
                duration(seen["elapsed_s"]) if "elapsed_s" in seen else "",
                ", ".join(filter(None, notes)),
            )
    return table
