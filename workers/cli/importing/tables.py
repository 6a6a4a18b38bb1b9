"""What exports with a table have in common: the table, and the files that it names."""

import csv
from io import StringIO
from typing import Final

from workers.cli.importing.entries import MAX_BYTES, Entry, NoActivity, NotRead, Skipped, Told, recording_in
from workers.cli.importing.files import Files

MAX_TABLE: Final = 64 * 1024 * 1024  # bytes: twenty years of somebody who does it twice a day have a tenth of it


def rows_of(files: Files, name: str) -> list[list[str]]:
    """The table's rows, the header first; cells may have lines of their own. `NotRead`."""
    text = files.read(name, MAX_TABLE).decode("utf-8-sig", "replace")
    reader = csv.reader(StringIO(text, newline=""))
    try:
        return [row for row in reader if row]
    except csv.Error as error:
        raise NotRead(f"line {reader.line_num} is no CSV: {error}") from None


def recording(files: Files, name: str, words: Told, *, is_named: bool = False, listed: bool = True) -> Entry:
    """A file, with what a table says of it, and whether one names it. When it turns out to be no recording, it is
    listed as such, or counted.
    """

    def read() -> bytes:
        try:
            return recording_in(files.read(name, MAX_BYTES), name, is_named=is_named)
        except Skipped:
            if listed:
                raise
            raise NoActivity from None

    return Entry(files.shown(name), files.key(name), read, lambda _body: words)
