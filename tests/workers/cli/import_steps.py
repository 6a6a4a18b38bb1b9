"""What `cairn import` finds in files, and would do about each."""

from pathlib import Path

from tests.scenarios import ANNA
from workers.cli.importing.entries import Remark, Told
from workers.cli.importing.journal import Journal
from workers.cli.importing.running import Read, Step, steps
from workers.cli.importing.sources import items

Found = dict[str, Told | str | None]


def found(path: Path, body: bytes) -> Found:
    """Of a zip, by file: what is said of a recording that would be sent, or why it is not."""
    path.write_bytes(body)
    return found_in(path)


def found_in(path: Path, *more: Path) -> Found:
    """Of zips, files and folders, by file, whose names begin where the first one's end."""
    return {name.removeprefix(f"{path}/"): told for name, told in map(_shown, taken(path, *more))}


def taken(path: Path, *more: Path) -> list[Step]:
    """What would be done about each; `NoActivity` is noted in a journal beside the first path."""
    journal = Journal.open(path.with_name("journal"), ANNA)
    made = list(steps(items([path, *more], lambda _more: None), journal))
    journal.close()
    return made


def _shown(step: Step) -> tuple[str, Told | str | None]:
    match step:
        case Read(file=file, told=told):
            return file, told
        case Remark(text=text):
            return "", text
        case None:
            return "other", None
        case row:
            return row["file"], f"{row['verdict']}: {row['note']}"
