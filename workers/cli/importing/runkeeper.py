"""Runkeeper's export: cardioActivities.csv, and a GPX file for what was recorded, which does not say its sport."""

from collections.abc import Callable, Iterator
from typing import Final

from workers.cli.importing.entries import Item, Left, NotRead, Told, is_recording, told
from workers.cli.importing.files import Files, Taken, tables
from workers.cli.importing.sports import sport_of
from workers.cli.importing.tables import recording, rows_of

TABLE: Final = "cardioActivities.csv"
_UNKNOWN_FILE: Final = Told(remarks=(f"{TABLE} does not name it: its sport is not known, and no notes",))


def entries(files: Files, taken: Taken, expect: Callable[[int], None]) -> Iterator[Item]:
    """The files that each table names, with what it says of each; then those beside it that it does not name."""
    for table in tables(files, TABLE):
        yield from _export(files, table, taken, expect)


def _export(files: Files, table: str, taken: Taken, expect: Callable[[int], None]) -> Iterator[Item]:
    folder = table.removesuffix(TABLE)
    taken.homes.append(folder)
    taken.names.add(table)
    try:
        header, *rows = rows_of(files, table) or [[]]
        expect(len(rows))
        for number, cells in enumerate(rows, 2):
            row = dict(zip(header, cells, strict=False))
            name = row.get("GPX File", "").strip()
            taken.names.add(folder + name)
            yield _item(files, folder + name if name else "", row, f"{files.shown(table)}, record {number}")
    except NotRead as fault:
        expect(1)
        yield Left(files.shown(table), f"{fault}; files are brought without sports and notes")
    beside = [name for name in files.files if name.startswith(folder) and "/" not in name.removeprefix(folder)]
    others = [name for name in beside if is_recording(name) and name not in taken.names]
    taken.names.update(others)
    expect(len(others))
    yield from (recording(files, name, _UNKNOWN_FILE) for name in others)


def _item(files: Files, name: str, row: dict[str, str], record: str) -> Item:
    if not name:
        return Left(f"{record} ({row.get('Date', '')})", "manual entry: no recording in the export")
    if name not in files.files:
        return Left(files.shown(name), f"{TABLE} names it, and it is not in the export")
    sport, remarks = sport_of(row.get("Type", ""))
    words = told(row.get("Route Name", ""), sport, row.get("Notes", ""), *remarks)
    return recording(files, name, words, is_named=True)
