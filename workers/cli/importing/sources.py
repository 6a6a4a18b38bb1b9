"""From the paths of the command line to what there is to bring in: files, folders, zips and exports."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from workers.cli.importing import garmin, runkeeper, strava
from workers.cli.importing.archives import Archive, open_archive
from workers.cli.importing.entries import (
    MAX_BYTES,
    NOT_OPENED,
    Entry,
    Item,
    Left,
    NotRead,
    Told,
    is_of_macos,
    is_recording,
    recording_in,
)
from workers.cli.importing.report import named
from workers.cli.importing.tables import recording

_NO_RECORDING: Final = "no .fit, .gpx, .tcx or .json file"
_ZIP: Final = ".zip"


def items(paths: Iterable[Path], expect: Callable[[int], None]) -> Iterator[Item]:
    """All of them, one after the other. `expect` is told how many more are to come, as soon as that is known."""
    found = [child for path in paths for child in _files(path)]
    expect(sum(child.suffix.lower() != _ZIP for child in found))
    for path in found:
        if path.suffix.lower() == _ZIP:
            yield from _zip_items(path, expect)
        elif is_recording(path.name) or _is_points(path.name):
            yield _file(path)
        else:
            yield Left(named(path), _NO_RECORDING)


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    return sorted(child for child in path.rglob("*") if child.is_file() and not is_of_macos(child.as_posix()))


def _file(path: Path) -> Item:
    try:
        status = path.stat()
    except OSError as error:
        return Left(named(path), f"the file cannot be read: {error.strerror}")
    key = f"{status.st_size}/{status.st_mtime_ns}/{named(path.absolute())}"
    return Entry(named(path), key, lambda: _read(path))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotRead(f"the file cannot be read: {error.strerror}") from None
    if len(body) > MAX_BYTES:
        raise NotRead(f"it is larger than {MAX_BYTES >> 20} MiB")
    return recording_in(body)


def _zip_items(path: Path, expect: Callable[[int], None]) -> Iterator[Item]:
    try:
        with open_archive(path, named(path)) as archive:
            expect(len(archive.left))
            yield from archive.left
            yield from _of_archive(archive, expect)
    except NotRead as fault:
        expect(1)
        yield Left(named(path), str(fault), NOT_OPENED)


def _of_archive(archive: Archive, expect: Callable[[int], None]) -> Iterator[Item]:
    """By what is in it: a table or folder that only one service's export has; else the files that it holds."""
    if (table := archive.find(strava.TABLE)) is not None:
        return strava.entries(archive, table, expect)
    if (table := archive.find(runkeeper.TABLE)) is not None:
        return runkeeper.entries(archive, table, expect)
    if garmin.is_export(archive):
        return garmin.entries(archive, expect)
    return _plain(archive, expect)


def _plain(archive: Archive, expect: Callable[[int], None]) -> Iterator[Item]:
    expect(len(archive.files))
    for name in archive.files:
        if is_recording(name) or _is_points(name):
            yield recording(archive, name, Told())
        elif name.lower().endswith(_ZIP):
            yield Left(
                archive.shown(name),
                "a zip in a zip, and no export of Garmin's: unpack it, and import it by itself",
                NOT_OPENED,
            )
        else:
            yield Left(archive.shown(name), _NO_RECORDING)


def _is_points(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(".json")
