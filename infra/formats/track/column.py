"""A column as a block: what `numbers.describe` writes, for a distance its weights, and a payload of `codecs`.

A block begins with the number of its unit, and 128 more where the numbers are what is left of a distance that is told.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from domain.recordings.recording import Column, FloatColumn
from infra.formats.track import codecs, distance
from infra.formats.track.codecs import Whole
from infra.formats.track.numbers import Measured, describe, described, measured

_TOLD: Final = 128


def packed(name: Column, columns: Mapping[Column, FloatColumn], *, best: bool) -> bytes:
    """The block of a column; the others are there to tell a distance from."""
    found = measured(name, columns[name])
    pack = codecs.encode_best if best else codecs.encode
    if name is not Column.DISTANCE:
        return describe(found) + pack(found.numbers)
    return _distance(found, columns, pack, best=best)


def sources(raw: bytes) -> Sequence[Column]:
    """Columns that must be known before, as far as the track has them."""
    return distance.SOURCES if raw and raw[0] >= _TOLD else ()


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
    counted, description = _everywhere(found), describe(found)
    known = {name: columns[name] for name in distance.SOURCES if name in columns}
    weights = distance.fit(counted, known) if len(found.numbers) else None
    if weights is None:
        return description + pack(found.numbers)
    rest = found.numbers - _present(distance.told(weights, 0, known)[0], found)

    def block(*, told: bool) -> bytes:
        if not told:
            return description + pack(found.numbers)
        return bytes([description[0] + _TOLD]) + description[1:] + weights + pack(rest)

    if best:
        return min(block(told=True), block(told=False), key=len)
    saved = _bits(found.numbers) - _bits(rest)
    return block(told=saved > 8 * len(weights))


def _bits(numbers: Whole) -> float:
    return len(numbers) * min(map(partial(codecs.bits, numbers), codecs.ORDERS))


def _everywhere(found: Measured) -> Whole:
    """A number at every point: where it is missing, the last one before."""
    if found.present is None:
        return found.numbers
    last = np.cumsum(found.present) - 1
    return found.numbers[np.maximum(last, 0)]


def _present(steps: Whole, found: Measured) -> Whole:
    return steps if found.present is None else steps[found.present]
