"""Strava's export: activities.csv, and the files beside it as they were once uploaded, most of them packed.

Its header is in the account's language, and names some columns twice; the first five have always been the same.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from workers.cli.importing.entries import Item, Left, NotRead, Remark, Told, is_recording, told
from workers.cli.importing.files import Files, Taken, tables
from workers.cli.importing.sports import sport_of
from workers.cli.importing.tables import recording, rows_of

TABLE: Final = "activities.csv"
# title, sport, notes and file, in English, today and until 2019
_NAMES: Final = (
    ("activity name", "name"),
    ("activity type", "type"),
    ("activity description", "description"),
    ("filename",),
)
_UNKNOWN_FILE: Final = Told(remarks=(f"{TABLE} does not name it: no title, no notes",))


class _Columns(Struct, frozen=True):
    """Where they are."""

    title: int | None
    sport: int | None
    notes: int | None
    file: int | None


_BY_PLACE: Final = _Columns(2, 3, 4, None)  # in any language; the file is then in the cell that looks like one


def entries(files: Files, taken: Taken, expect: Callable[[int], None]) -> Iterator[Item]:
    """The files that each table names, with what it says of each; then those beside it that it does not name."""
    for table in tables(files, TABLE):
        yield from _export(files, table, taken, expect)


def _export(files: Files, table: str, taken: Taken, expect: Callable[[int], None]) -> Iterator[Item]:
    folder = table.removesuffix(TABLE)
    beside = [name for name in files.files if name.startswith(f"{folder}activities/") and is_recording(name)]
    rows, columns = list[list[str]](), _BY_PLACE
    try:
        rows = rows_of(files, table)
        columns = _columns(rows[0] if rows else [])
    except NotRead as fault:
        if not beside:
            return
        expect(1)
        yield Left(files.shown(table), f"{fault}; files are brought without titles and notes")
    if columns.file is None and not beside:
        return  # anybody may call a table so
    taken.homes.append(folder)
    taken.names.add(table)
    if rows and columns.file is None:
        yield Remark(f"{files.shown(table)}: its header is not in English, so columns were taken by their places")
    expect(len(rows[1:]))
    for number, row in enumerate(rows[1:], 2):
        name = _present(files, folder, _file_of(row, columns))
        taken.names.add(name)
        yield _item(files, name, row, columns, f"{files.shown(table)}, record {number}")
    others = [name for name in beside if name not in taken.names]
    taken.names.update(others)
    expect(len(others))
    yield from (recording(files, name, _UNKNOWN_FILE) for name in others)


def _present(files: Files, folder: str, name: str) -> str:
    """The file of a row, which some programs unpack along with the zip; nothing for none."""
    path = folder + name if name else ""
    unpacked = path.removesuffix(".gz")
    return unpacked if path not in files.files and unpacked in files.files else path


def _item(files: Files, name: str, row: Sequence[str], columns: _Columns, record: str) -> Item:
    if not name:
        return Left(record, "manual entry: no recording in the export")
    if name not in files.files:
        return Left(files.shown(name), f"{TABLE} names it, and it is not in the export")
    if not is_recording(name):
        return Left(files.shown(name), "it is no FIT, GPX or TCX file")
    sport, remarks = sport_of(_cell(row, columns.sport))
    words = told(_cell(row, columns.title), sport, _cell(row, columns.notes), *remarks)
    return recording(files, name, words, is_named=True)


def _columns(header: Sequence[str]) -> _Columns:
    names = [name.strip().casefold() for name in header]
    found = [next((names.index(one) for one in known if one in names), None) for known in _NAMES]
    return _BY_PLACE if found[-1] is None else _Columns(*found)


def _file_of(row: Sequence[str], columns: _Columns) -> str:
    if columns.file is not None:
        return _cell(row, columns.file)
    return next((cell.strip() for cell in row[5:] if cell.startswith("activities/")), "")


def _cell(row: Sequence[str], place: int | None) -> str:
    return row[place].strip() if place is not None and place < len(row) else ""
