"""What exports with a table have in common: the table, and the files that it names."""

import csv
from io import StringIO
from typing import Final

from workers.cli.importing.archives import Archive
from workers.cli.importing.entries import MAX_BYTES, Entry, NotRead, Told, recording_in

MAX_TABLE: Final = 64 * 1024 * 1024  # bytes: twenty years of somebody who does it twice a day have a tenth of it


def rows_of(archive: Archive, name: str) -> list[list[str]]:
    """The table's rows, the header first; cells may have lines of their own. `NotRead`."""
    text = archive.read(name, MAX_TABLE).decode("utf-8-sig", "replace")
    reader = csv.reader(StringIO(text, newline=""))
    try:
        return [row for row in reader if row]
    except csv.Error as error:
        raise NotRead(f"line {reader.line_num} is no CSV: {error}") from None


def recording(archive: Archive, name: str, words: Told) -> Entry:
    """A file of the export, with what the table says of it."""
    return Entry(
        archive.shown(name),
        archive.key(name),
        lambda: recording_in(archive.read(name, MAX_BYTES)),
        lambda _body: words,
    )
