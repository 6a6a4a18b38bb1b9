"""A column as a block: what `numbers.describe` writes, for a distance its weights, and a payload of `codecs`.

A block begins with the number of its unit, and 128 more where the numbers are what is left of a distance that is told.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from domain.recordings.recording import Column, FloatColumn
from infra.formats.track import codecs, distance
from infra.formats.track.blob import CorruptTrack
from infra.formats.track.codecs import Whole
from infra.formats.track.numbers import BITS, Measured, describe, described, measured

_TOLD: Final = 128


def packed(name: Column, columns: Mapping[Column, FloatColumn], *, best: bool) -> bytes:
    """The block of a column; the others are there to tell a distance from."""
    found = measured(name, columns[name])
    pack = codecs.encode_best if best else codecs.encode
    if name is not Column.DISTANCE or not found.is_counted:
        return describe(found) + pack(found.numbers)
    return _distance(found, columns, pack, best=best)


def sources(name: Column, raw: bytes) -> Sequence[Column]:
    """Columns that must be known before, as far as the track has them; `CorruptTrack`."""
    if not raw or raw[0] < _TOLD:
        return ()
    if name is not Column.DISTANCE or raw[0] == _TOLD + BITS:
        raise CorruptTrack("a column is told that is no distance, or not counted in any unit")
    return distance.SOURCES


def unpacked(raw: bytes, points: int, known: Mapping[Column, FloatColumn]) -> FloatColumn:
    """The column again; `CorruptTrack`."""
    is_told = bool(raw) and raw[0] >= _TOLD
    found, count, at = described(bytes([raw[0] - _TOLD]) + raw[1:] if is_told else raw, points)
    if not is_told:
        return found.values(points, codecs.decode(raw[at:], count))
    steps, at = distance.told(raw, at, known)
    return found.values(points, codecs.decode(raw[at:], count) + _present(steps, found))


def _distance(
    found: Measured, columns: Mapping[Column, FloatColumn], pack: Callable[[Whole], bytes], *, best: bool
) -> bytes:
    counted, description = _everywhere(found).astype(np.float64), describe(found)
    known = {name: columns[name] for name in distance.SOURCES if name in columns}
    fitted = distance.fit(counted, known, best=best)
    if fitted is None:
        return description + pack(found.numbers)
    weights, steps = fitted
    rest = found.numbers - _present(steps, found).astype(np.int64)

    def block(*, told: bool) -> bytes:
        if not told:
            return description + pack(found.numbers)
        return bytes([description[0] + _TOLD]) + description[1:] + weights + pack(rest)

    if best:
        return min(block(told=True), block(told=False), key=len)
    saved = min(codecs.bits(found.numbers)) - min(codecs.bits(rest))
    return block(told=saved * len(rest) > 8 * len(weights))


def _everywhere(found: Measured) -> Whole:
    """A number at every point: where it is missing, the last one before."""
    if found.present is None:
        return found.numbers
    last = np.maximum(np.cumsum(found.present) - 1, 0)
    everywhere: Whole = found.numbers[last]
    return everywhere


def _present(steps: FloatColumn, found: Measured) -> FloatColumn:
    return steps if found.present is None else steps[found.present]
