"""The track blob: columns of whole numbers, each compressed by itself, in one self-describing container.

`blob` is the container of version 2 and its sealing; a block of it is a column (`column`). Version 1 (`version_1`) is
read for ever, and not written any more.
"""

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain.recordings.recording import Column, FloatColumn
from infra.formats.track import blob as container
from infra.formats.track import column, version_1
from infra.formats.track.blob import CorruptTrack, Key, check, seal

__all__ = ["CorruptTrack", "Key", "check", "decode", "encode", "is_cold", "is_sealed", "seal"]

# In the blob's order: what is most often read alone first, and what others are told from before them.
_NUMBERS: Final = {
    Column.LAT: 1,
    Column.LON: 2,
    Column.T: 3,
    Column.SPEED: 4,
    Column.DISTANCE: 5,
    Column.ALTITUDE: 6,
    Column.HEART_RATE: 7,
    Column.CADENCE: 8,
    Column.POWER: 9,
    Column.TEMPERATURE: 10,
}


def encode(columns: Mapping[Column, FloatColumn], *, best: bool = False) -> bytes:
    """Columns of one length as a blob, not sealed. Every value comes back to the bit, and NaN as NaN.

    `best` takes ten times as long and more, for a few bytes in a hundred.
    """
    points = len(next(iter(columns.values()), ()))
    ordered = [name for name in _NUMBERS if name in columns]
    blocks = {_NUMBERS[name]: column.packed(name, columns, best=best) for name in ordered}
    return container.write(points, blocks, cold=best)


def decode(
    blob: bytes,
    columns: Collection[Column] | None = None,
    max_points: int | None = None,
    key: Key | None = None,
) -> dict[Column, FloatColumn]:
    """The columns asked for that the blob has (None: all), thinned out evenly, the first and the last point kept.

    `CorruptTrack`, also for a sealed blob without its key. Of a sealed one no other columns are opened, but those that
    a distance is told from.
    """
    if blob[4:5] == b"\x01":
        points, found = version_1.decode(blob, columns)
    else:
        points, found = _decode(blob, columns, key)
    return found if max_points is None or points <= max_points else _thinned(found, points, max_points)


def is_sealed(blob: bytes) -> bool:
    """Whether a key is needed; `CorruptTrack`."""
    return blob[4:5] == b"\x02" and container.read(blob).stem is not None


def is_cold(blob: bytes) -> bool:
    """Whether it was packed with `best`; `CorruptTrack`."""
    return blob[4:5] == b"\x02" and container.read(blob).cold


@np.errstate(all="ignore")  # damage may say anything, and what it comes to does not matter
def _decode(blob: bytes, columns: Collection[Column] | None, key: Key | None) -> tuple[int, dict[Column, FloatColumn]]:
    parts = container.read(blob)
    if columns is None or parts.stem is None:  # what is read alone of a sealed blob has a tag of its own
        check(blob)
    found: dict[Column, FloatColumn] = {}

    def read(name: Column) -> None:
        raw = parts.block(_NUMBERS[name], key)
        for source in column.sources(name, raw):
            if source not in found and _NUMBERS[source] in parts.blocks:
                read(source)
        found[name] = column.unpacked(raw, parts.points, found)

    wanted = [name for name in _NUMBERS if _NUMBERS[name] in parts.blocks and (columns is None or name in columns)]
    for name in wanted:
        if name not in found:
            read(name)
    return parts.points, {name: found[name] for name in wanted}


def _thinned(found: dict[Column, FloatColumn], points: int, max_points: int) -> dict[Column, FloatColumn]:
    kept: NDArray[np.int64] = np.rint(np.linspace(0, points - 1, max_points)).astype(np.int64)
    return {name: values[kept] for name, values in found.items()}
