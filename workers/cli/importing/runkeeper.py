"""Runkeeper's export: cardioActivities.csv, and a GPX file for what was recorded, which does not say its sport."""

from collections.abc import Callable, Iterator
from typing import Final

from workers.cli.importing.archives import Archive
from workers.cli.importing.entries import Item, Left, NotRead, Told, is_recording, told
from workers.cli.importing.sports import sport_of
from workers.cli.importing.tables import recording, rows_of

TABLE: Final = "cardioActivities.csv"
_UNKNOWN_FILE: Final = Told(remarks=(f"{TABLE} does not name it: its sport is not known, and no notes",))


def entries(archive: Archive, table: str, expect: Callable[[int], None]) -> Iterator[Item]:
    """The files that the table names, with what it says of each; then those that it does not name."""
    folder, named = table.removesuffix(TABLE), set()
    try:
        header, *rows = rows_of(archive, table) or [[]]
        expect(len(rows))
        for number, cells in enumerate(rows, 2):
            row = dict(zip(header, cells, strict=False))
            name = row.get("GPX File", "").strip()
            named.add(folder + name)
            yield _item(archive, folder + name if name else "", row, f"{archive.shown(table)}, record {number}")
    except NotRead as fault:
        yield Left(archive.shown(table), f"{fault}; files are brought without sports and notes")
    found = [name for name in archive.files if is_recording(name) and name not in named]
    expect(len(found))
    yield from (recording(archive, name, _UNKNOWN_FILE) for name in found)


def _item(archive: Archive, name: str, row: dict[str, str], record: str) -> Item:
    if not name:
        return Left(f"{record} ({row.get('Date', '')})", "manual entry: no recording in the export")
    if name not in archive.files:
        return Left(archive.shown(name), f"{TABLE} names it, and it is not in the export")
    sport, remarks = sport_of(row.get("Type", ""))
    return recording(archive, name, told(row.get("Route Name", ""), sport, row.get("Notes", ""), *remarks))
