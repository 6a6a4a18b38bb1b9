"""All entries: read one after the other and sent some at a time, so that few are in memory at once."""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from api.client import Client
from domain.measures import Visibility
from workers.cli.importing.entries import Entry, Item, Left, NoActivity, NotRead, Remark, Skipped, Told
from workers.cli.importing.journal import Journal
from workers.cli.importing.report import Progressing, Report, Row
from workers.cli.importing.sending import bring

_DONE: Final = frozenset(
    {"imported", "already there", "duplicate", "failed"}
)  # a verdict of the server's on these bytes
_OTHER: Final = "no activity"


class Read(Struct, frozen=True):
    """A recording that is to be sent."""

    file: str
    key: str
    body: bytes
    sha256: str
    told: Told


Step = Read | Row | Remark | None  # None: it is of no interest


def steps(items: Iterable[Item], journal: Journal) -> Iterator[Step]:
    """What is to be done about each: send it, or only tell of it. What the journal knows is not read."""
    first: dict[str, str] = {}  # by the hash of the bytes: the file that brought them
    for item in items:
        match item:
            case Remark():
                yield item
            case Left(file=file, note=note, verdict=verdict):
                yield {"file": file, "verdict": verdict, "note": note}
            case Entry(file=file, key=key):
                row = journal.row(key)
                yield _read(item, journal, first) if row is None else _known(file, row)


def _known(file: str, row: Row) -> Row | None:
    if row["verdict"] == _OTHER:
        return None
    verdict = "already there" if row["verdict"] == "imported" else row["verdict"]
    return {"file": file, **row, "verdict": verdict, "note": row.get("note", "")}


def _read(entry: Entry, journal: Journal, first: dict[str, str]) -> Step:
    try:
        body = entry.read()
        told = entry.told(body)
    except NoActivity:
        journal.add(entry.key, {"verdict": _OTHER})
        return None
    except Skipped as what:
        return {"file": entry.file, "verdict": "skipped", "note": str(what)}
    except NotRead as fault:
        return {"file": entry.file, "verdict": "failed", "note": str(fault)}
    sha256 = hashlib.sha256(body).hexdigest()
    if sha256 in first:
        return {"file": entry.file, "verdict": "duplicate", "note": f"the same bytes as {first[sha256]}"}
    first[sha256] = entry.file
    return Read(entry.file, entry.key, body, sha256, told)


async def import_all(
    client: Client, found: Iterator[Step], journal: Journal, told: Progressing, jobs: int, visibility: Visibility | None
) -> Report:
    """Bring all of it; `jobs` recordings are in memory and on their way at once."""
    report, turn, end = Report(), asyncio.Lock(), object()

    async def work() -> None:
        while True:
            async with turn:
                step = await asyncio.to_thread(next, found, end)
                if not isinstance(step, Read | dict | Remark | None):
                    return
                place = _placed(report, step)
            row = report.rows[place] if place is not None else None
            if row is not None and isinstance(step, Read):
                row |= await bring(client, step.body, step.sha256, step.told, visibility)
                if row["verdict"] in _DONE:
                    journal.add(step.key, row)
            if not isinstance(step, Remark):
                told.done(row)

    await asyncio.gather(*(work() for _ in range(jobs)))
    _name_the_same(report)
    return report


def _name_the_same(report: Report) -> None:
    """In the notes on duplicates, by their files, where those were brought too."""
    files = {seen["activity_id"]: row["file"] for row in report.rows for seen in row.get("activities", ())}
    for row in report.rows:
        if (of := row.get("duplicate_of")) in files:
            row["note"] = row["note"].replace(of, files[of])


def _placed(report: Report, step: Step) -> int | None:
    """Where in the report its row is: in the order in which the entries came, not in which they are done."""
    match step:
        case Remark(text=text):
            report.remarks.append(text)
        case None:
            report.others += 1
        case Read(file=file):
            report.rows.append({"file": file})
            return len(report.rows) - 1
        case row:
            report.rows.append(row)
            return len(report.rows) - 1
    return None
