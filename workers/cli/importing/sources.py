"""From the paths of the command line to what there is to bring in: files, folders, zips and exports."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from workers.cli.importing import garmin, runkeeper, strava
from workers.cli.importing.entries import (
    NOT_OPENED,
    Item,
    Left,
    NotRead,
    Told,
    is_recording,
    is_zip,
    may_be_points,
)
from workers.cli.importing.files import Files, Taken
from workers.cli.importing.folders import Folders
from workers.cli.importing.tables import recording

_NO_RECORDING: Final = "no .fit, .gpx, .tcx or .json file"
_ZIP_IN_ZIP: Final = "a zip in a zip, and no export of Garmin's: unpack it, and import it by itself"


def items(paths: Iterable[Path], expect: Callable[[int], None]) -> Iterator[Item]:
    """All of them, one after the other. `expect` is told how many more are to come, as soon as that is known."""
    yield from _of(Folders(paths), expect, in_zip=False)


def _of(files: Files, expect: Callable[[int], None], *, in_zip: bool) -> Iterator[Item]:
    """What exports have, known by a table or folder that only one service's has; then what is in none of them."""
    expect(len(files.left))
    yield from files.left
    taken = Taken()
    for export in (strava, runkeeper, garmin):
        yield from export.entries(files, taken, expect)
    others = [name for name in files.files if name not in taken.names]
    of_exports = {name for name in others if name.startswith(tuple(taken.homes))}
    wanted = [name for name in others if name not in of_exports or _may_hold_some(name)]
    expect(sum(in_zip or not is_zip(name) for name in wanted))
    for name in wanted:
        if is_zip(name) and in_zip:
            yield Left(files.shown(name), _ZIP_IN_ZIP, NOT_OPENED)
        elif is_zip(name):
            yield from _zip_items(files, name, expect)
        elif _may_hold_some(name):
            yield recording(files, name, Told(), listed=is_recording(name) or name not in of_exports)
        else:
            yield Left(files.shown(name), _NO_RECORDING)


def _may_hold_some(name: str) -> bool:
    return is_recording(name) or may_be_points(name) or is_zip(name)


def _zip_items(files: Files, name: str, expect: Callable[[int], None]) -> Iterator[Item]:
    try:
        with files.inner(name) as archive:
            yield from _of(archive, expect, in_zip=True)
    except NotRead as fault:
        expect(1)
        yield Left(files.shown(name), str(fault), NOT_OPENED)
