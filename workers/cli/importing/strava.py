"""Strava's export: activities.csv, and the files beside it as they were once uploaded, most of them packed.

Its header is in the account's language, and names some columns twice; the first five have always been the same.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from workers.cli.importing.archives import Archive
from workers.cli.importing.entries import Item, Left, NotRead, Remark, Told, is_recording, told
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


def entries(archive: Archive, table: str, expect: Callable[[int], None]) -> Iterator[Item]:
    """The files that the table names, with what it says of each; then those that it does not name."""
    folder, named = table.removesuffix(TABLE), set()
    try:
        rows = rows_of(archive, table)
        columns = _columns(rows[0] if rows else [])
        if columns.file is None:
            yield Remark(f"{archive.shown(table)}: its header is not in English, so columns were taken by their places")
        expect(len(rows) - 1)
        for number, row in enumerate(rows[1:], 2):
            name = _file_of(row, columns)
            named.add(folder + name)
            yield _item(
                archive, folder + name if name else "", row, columns, f"{archive.shown(table)}, record {number}"
            )
    except NotRead as fault:
        yield Left(archive.shown(table), f"{fault}; files are brought without titles and notes")
    others = [name for name in archive.files if name.startswith(f"{folder}activities/") and name not in named]
    found = [name for name in others if is_recording(name)]
    expect(len(found))
    yield from (recording(archive, name, _UNKNOWN_FILE) for name in found)


def _item(archive: Archive, name: str, row: Sequence[str], columns: _Columns, record: str) -> Item:
    if not name:
        return Left(record, "manual entry: no recording in the export")
    if name not in archive.files:
        return Left(archive.shown(name), f"{TABLE} names it, and it is not in the export")
    if not is_recording(name):
        return Left(archive.shown(name), "it is no FIT, GPX or TCX file")
    sport, remarks = sport_of(_cell(row, columns.sport))
    return recording(archive, name, told(_cell(row, columns.title), sport, _cell(row, columns.notes), *remarks))


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
