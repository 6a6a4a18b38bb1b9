"""All entries: read one after the other and sent some at a time, so that few are in memory at once."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec import Struct

from api.client import Client, Refused, Unreachable
from workers.cli.importing.entries import NOT_OPENED, Entry, Item, Left, NoActivity, NotRead, Remark, Skipped, Told
from workers.cli.importing.journal import Journal
from workers.cli.importing.report import Progressing, Report, Row
from workers.cli.importing.sending import Wanted, bring

_DONE: Final = frozenset(
    {"imported", "already there", "duplicate", "failed"}
)  # a verdict of the server's on these bytes
_OTHER: Final = "no activity"
_SILENT: Final = "the server does not answer any more"
_TAKES_NONE: Final = "the server answers, and takes no recordings any more"
_ASKED_SECONDS: Final = 20.0  # for an easy question: each of a few jobs may have a pause of 5 s before
_MOST_IN_VAIN: Final = 10  # recordings in a row that do not get through; each costs the client's patience


class Read(Struct, frozen=True):
    """A recording that is to be sent."""

    file: str
    key: str
    body: bytes
    sha256: str
    told: Told


Step = Read | Row | Remark | None  # None: it is of no interest


def steps(items: Iterable[Item], journal: Journal, why_not: Callable[[], str] = str) -> Iterator[Step]:
    """What is to be done about each: send it, or only tell of it. What the journal knows is not read, nor anything once
    there is a reason for sending nothing more.
    """
    first: dict[str, str] = {}  # by the hash of the bytes: the file that brought them
    for item in items:
        match item:
            case Remark():
                yield item
            case Left(file=file, note=note, verdict=verdict):
                yield {"file": file, "verdict": verdict, "note": note}
            case Entry(file=file, key=key):
                if (row := journal.row(key)) is not None:
                    yield _known(file, row)
                elif note := why_not():
                    yield {"file": file, "verdict": "not sent", "note": note}
                else:
                    yield _read(item, journal, first)


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
        return {"file": entry.file, "verdict": NOT_OPENED, "note": str(fault)}
    sha256 = hashlib.sha256(body).hexdigest()
    if sha256 in first:
        return {"file": entry.file, "verdict": "duplicate", "note": f"the same bytes as {first[sha256]}"}
    first[sha256] = entry.file
    return Read(entry.file, entry.key, body, sha256, told)


async def import_all(
    client: Client, items: Iterable[Item], journal: Journal, told: Progressing, jobs: int, wanted: Wanted
) -> Report:
    """Bring all of it; `jobs` recordings are in memory and on their way at once.

    A server that answers nothing while one of them has patience, nor an easy question then, is away: the rest is not
    sent. One that answers may be kept from a single recording, by a proxy, say; from many in a row, it takes none.
    """
    report, turn, end = Report(), asyncio.Lock(), object()
    found, answered, in_vain, why_not = steps(items, journal, lambda: why_not), 0, 0, ""

    async def brought(one: Read) -> Row:
        nonlocal answered, in_vain, why_not
        if why_not:
            return {"verdict": "not sent", "note": why_not}
        before = answered
        try:
            row = await bring(client, one.body, one.sha256, one.told, wanted)
        except Unreachable as silence:
            if answered == before:
                in_vain += 1
                if not await _answers(client):
                    why_not = _SILENT
                elif in_vain >= _MOST_IN_VAIN:
                    why_not = _TAKES_NONE
            return {"verdict": "not sent", "note": str(silence)}
        answered, in_vain = answered + 1, 0
        return row

    async def work() -> None:
        while True:
            async with turn:
                step = await asyncio.to_thread(next, found, end)
                if not isinstance(step, Read | dict | Remark | None):
                    return
                place = _placed(report, step)
            row = report.rows[place] if place is not None else None
            if row is not None and isinstance(step, Read):
                row |= await brought(step)
                if row["verdict"] in _DONE:
                    journal.add(step.key, row)
            if not isinstance(step, Remark):
                told.done(row)

    await asyncio.gather(*(work() for _ in range(jobs)))
    _name_the_same(report)
    return report


async def _answers(client: Client) -> bool:
    """Whether the server answers anything, if no more than a refusal."""
    try:
        async with asyncio.timeout(_ASKED_SECONDS):
            await client.me()
    except Refused as refusal:
        return bool(refusal.code)
    except (Unreachable, TimeoutError):
        return False
    return True


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
