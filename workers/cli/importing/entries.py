"""What there is to bring in: entries that are read one by one, and what the export says of each."""

import gzip
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import PurePosixPath
from typing import Final

from msgspec import Struct

from domain.measures import Sport
from infra.formats.fit_head import other_kind
from infra.formats.json_points import is_points
from infra.formats.times import is_timeless

MAX_BYTES: Final = 48 * 1024 * 1024  # of a recording, inflated: as much as the server takes
NOT_OPENED: Final = "not opened"  # the verdict on what may hold recordings that nobody could look at
SUFFIXES: Final = (".fit", ".gpx", ".tcx")

_GZIP: Final = b"\x1f\x8b"
_LONGEST_TITLE: Final = 200  # both as the server takes them
_LONGEST_NOTES: Final = 5_000


class NotRead(Exception):
    """The entry cannot be read; the message says why."""


class Skipped(Exception):
    """The entry is no recording; the message says what it is."""


class NoActivity(Exception):
    """The entry is of another kind, of which exports have thousands: it is counted, not listed."""


class Told(Struct, frozen=True, kw_only=True):
    """What an export says of a recording. `remarks` are for the report: what was not kept, and why."""

    title: str | None = None
    sport: Sport | None = None  # None: the recording says it
    notes: str = ""
    remarks: tuple[str, ...] = ()


class Entry(Struct, frozen=True):
    """A file that may be brought in. `key` names its content without reading it: the journal knows it by that."""

    file: str
    key: str
    read: Callable[[], bytes]  # inflated; `NotRead`, `Skipped`, `NoActivity`
    told: Callable[[bytes], Told] = lambda _body: Told()


class Left(Struct, frozen=True):
    """What is not brought in, and why."""

    file: str
    note: str
    verdict: str = "skipped"


class Remark(Struct, frozen=True):
    """What is to be known of an export as a whole."""

    text: str


Item = Entry | Left | Remark


def is_recording(name: str) -> bool:
    """By its name, packed or not."""
    return name.lower().removesuffix(".gz").endswith(SUFFIXES)


def may_be_points(name: str) -> bool:
    """By its name, which many other things have as well, packed or not."""
    return name.lower().removesuffix(".gz").endswith(".json")


def is_zip(name: str) -> bool:
    """By its name."""
    return name.lower().endswith(".zip")


def is_of_macos(name: str) -> bool:
    """Whether it is what macOS puts beside a file, in zips and on disks of others: it has the file's own suffix."""
    path = PurePosixPath(name)
    return path.name.startswith("._") or "__MACOSX" in path.parts


def recording_in(body: bytes, name: str, *, is_named: bool = False) -> bytes:
    """The recording, unpacked; `NotRead`, and `Skipped` for a watch's other files, other JSON, and plans. What an
    export names as an activity is no plan.
    """
    found = unpacked(body)
    if (kind := other_kind(found)) is not None:
        raise Skipped(f"no activity: {kind}")
    if may_be_points(name) and not is_points(found):
        raise Skipped("no recording: JSON of another kind")
    if not is_named and is_timeless(found):
        raise Skipped("no times: a planned route, nobody ran it")
    return found


def unpacked(body: bytes) -> bytes:
    """The bytes without gzip, whatever the file is called; `NotRead`."""
    if not body.startswith(_GZIP):
        return body
    try:
        found = gzip.GzipFile(fileobj=BytesIO(body)).read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise NotRead(f"the file cannot be read: {error}") from None
    return within(found, MAX_BYTES)


def within(body: bytes, limit: int) -> bytes:
    """The bytes, unless they are too many."""
    if len(body) > limit:
        raise NotRead(f"it is larger than {limit >> 20} MiB")
    return body


def told(title: str, sport: Sport | None, notes: str, *remarks: str) -> Told:
    """As the server takes it: without NULs, and cut to its limits."""
    notes = notes.replace("\0", "").strip()
    if len(notes) > _LONGEST_NOTES:
        remarks = (*remarks, f"notes cut to {_LONGEST_NOTES:,} characters")
    shown = " ".join(title.replace("\0", "").split())[:_LONGEST_TITLE]
    return Told(title=shown or None, sport=sport, notes=notes[:_LONGEST_NOTES], remarks=remarks)
