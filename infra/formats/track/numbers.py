"""Values as whole numbers: in which unit a column was measured, where it has values, and what all steps share."""

from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from domain.recordings.recording import Column, FloatColumn
from infra.formats.track.blob import CorruptTrack, from_varint, to_varint
from infra.formats.track.codecs import Counted, Whole

Mask = NDArray[np.bool_]

_SEMICIRCLES: Final = 2**31 / 180  # to a degree: FIT's own unit of angles
_WHOLE_LIMIT: Final = 2.0**52
_CUT_OFF: Final = 1e-6  # of a step of the grid, far below a semicircle and far above the error of a float
_TRIED: Final = 64  # values before all


class Unit(Struct, frozen=True):
    """A value is number / per. With a `grid`: number / grid, as the nearest 1 / per or `cut` off to one."""

    per: float
    grid: float | None = None
    cut: bool = False

    def values(self, numbers: FloatColumn) -> FloatColumn:
        """In place: multiplied, rounded and divided as IEEE 754 says, to the same bits on every machine."""
        if self.grid is not None:
            numbers *= self.per / self.grid
            (np.trunc if self.cut else np.rint)(numbers, out=numbers)
        numbers /= self.per
        return numbers

    def may_fit(self, some: FloatColumn) -> bool:
        """Whether these values come back."""
        return bool((self.values(self._nearest(some)) == some).all())

    def numbers(self, values: FloatColumn) -> Whole | None:
        """The numbers of the values; None unless every value comes back to the bit."""
        found = self._nearest(values)
        if not np.abs(found).max(initial=0.0) < _WHOLE_LIMIT:
            return None
        numbers = found.astype(np.int64)
        found += 0.0  # -0 becomes 0, as it does among whole numbers
        return numbers if _same_bits(self.values(found), values) else None

    def _nearest(self, values: FloatColumn) -> FloatColumn:
        found = values * (self.per if self.grid is None else self.grid)
        return np.copysign(np.ceil(np.abs(found) - _CUT_OFF), found) if self.cut else np.rint(found, out=found)


class Bits(Struct, frozen=True):
    """The bits of a float as a number, for what no unit fits."""

    def values(self, numbers: Whole) -> FloatColumn:
        """See `Unit`."""
        return numbers.view(np.float64)


# By the number that blobs carry, for ever: add at the end.
_UNITS: Final[tuple[Unit | Bits, ...]] = (
    Bits(),
    *(Unit(per) for per in (1, 5, 10, 16, 100, 128, 1e3, 1e5, 1e6, 1e7, _SEMICIRCLES)),
    Unit(_SEMICIRCLES, 1e6),
    Unit(_SEMICIRCLES, 1e7),
    Unit(_SEMICIRCLES, 1e6, cut=True),
)
BITS, _ANGLES = 0, (8, 9, 10, 12, 14, 13, 11)
_TRIED_UNITS: Final = {
    Column.T: (1, 3, 7),
    Column.LAT: _ANGLES,
    Column.LON: _ANGLES,
    Column.ALTITUDE: (1, 2, 3, 5, 7),
    Column.DISTANCE: (1, 4, 5, 7),
    Column.SPEED: (1, 3, 5, 7),
}
_TRIED_UNITS_ELSE: Final = (1, 3, 6, 7)


class Measured(Struct):
    """A column as numbers: value = unit of (first + step * number). `present` None: every point has a value."""

    unit: int
    first: int
    step: int
    present: Mask | None
    numbers: Whole

    @property
    def is_counted(self) -> bool:
        """Whether there are numbers, and they are counted in a unit that fits."""
        return self.unit != BITS and len(self.numbers) > 0

    def values(self, points: int, numbers: Counted | FloatColumn) -> FloatColumn:
        """The column that these numbers are, NaN where there is no value."""
        unit = _UNITS[self.unit]
        found = unit.values(numbers.astype(np.int64)) if isinstance(unit, Bits) else self._in(unit, numbers)
        if self.present is None:
            return found
        column = np.full(points, np.nan)
        column[self.present] = found
        return column

    def _in(self, unit: Unit, numbers: Counted | FloatColumn) -> FloatColumn:
        """All below 2^53, and therefore exact."""
        found = numbers.astype(np.float64)
        if self.step != 1:
            found *= self.step
        found += self.first
        return unit.values(found)


def measured(name: Column, column: FloatColumn) -> Measured:
    """In the first unit that gives every value back to the bit, counted in the largest step that all share."""
    present = ~np.isnan(column)
    everywhere = bool(present.all())
    known = column if everywhere else column[present]
    unit, numbers = _in_unit(name, known)
    first, step = (int(numbers[0]), 1) if len(numbers) else (0, 1)
    if unit != BITS and len(numbers):
        numbers = numbers - first
        step = _shared_step(numbers)
        numbers = numbers // step if step > 1 else numbers
    else:
        first = 0
    return Measured(unit, first, step, None if everywhere else present, numbers)


@np.errstate(over="ignore")
def _in_unit(name: Column, known: FloatColumn) -> tuple[int, Whole]:
    some = known[:: max(1, len(known) // _TRIED)]
    for unit in _TRIED_UNITS.get(name, _TRIED_UNITS_ELSE):
        tried = _UNITS[unit]
        if isinstance(tried, Unit) and tried.may_fit(some) and (numbers := tried.numbers(known)) is not None:
            return unit, numbers
    return BITS, known.view(np.int64)


def _shared_step(numbers: Whole) -> int:
    if int(np.gcd.reduce(numbers[:_TRIED])) == 1:  # as in most columns; all would take longer than compressing them
        return 1
    return int(np.gcd.reduce(numbers)) or 1


def _same_bits(one: FloatColumn, other: FloatColumn) -> bool:
    return bool(np.array_equal(one.view(np.int64), other.view(np.int64)))


def describe(found: Measured) -> bytes:
    """All of it but the numbers."""
    first = found.first << 1 ^ found.first >> 63
    return bytes([found.unit]) + to_varint(first) + to_varint(found.step) + _where(found.present)


def described(raw: bytes, points: int) -> tuple[Measured, int, int]:
    """It again, without the numbers; how many they are, and where the description ends; `CorruptTrack`."""
    if not raw or raw[0] >= len(_UNITS):
        raise CorruptTrack("a column is measured in a unit that is not known")
    first, at = from_varint(raw, 1)
    step, at = from_varint(raw, at)
    present, at = _present(raw, at, points)
    if first >= 1 << 64 or step >= 1 << 63:
        raise CorruptTrack("a column begins beyond all numbers")
    count = points if present is None else int(np.count_nonzero(present))
    return Measured(raw[0], first >> 1 ^ -(first & 1), step, present, np.empty(0, np.int64)), count, at


_EVERYWHERE, _RUNS, _BITMAP = 0, 1, 2


def _where(present: Mask | None) -> bytes:
    """Nothing, or the lengths of runs that are missing and there by turns, or a bit for each point: the shortest."""
    if present is None:
        return bytes([_EVERYWHERE])
    turns = np.flatnonzero(np.diff(present, prepend=False))
    runs = to_varint(len(turns)) + np.diff(turns, prepend=0).astype(_run_type(len(present))).tobytes()
    bitmap = np.packbits(present).tobytes()
    return bytes([_RUNS]) + runs if len(runs) < len(bitmap) else bytes([_BITMAP]) + bitmap


def _present(raw: bytes, at: int, points: int) -> tuple[Mask | None, int]:
    form, at = raw[at] if at < len(raw) else None, at + 1
    if form == _EVERYWHERE:
        return None, at
    if form == _BITMAP:
        bitmap, end = _array(raw, at, np.dtype(np.uint8), (points + 7) // 8)
        return np.unpackbits(bitmap, count=points).astype(bool), end
    if form != _RUNS:
        raise CorruptTrack("where a column has values is said in no known way")
    count, at = from_varint(raw, at)
    runs, end = _array(raw, at, _run_type(points), count)
    left = points - int(runs.sum(dtype=np.int64))
    if left < 0:
        raise CorruptTrack("a column has values beyond the last point")
    return np.repeat(np.arange(count + 1) % 2 == 1, np.append(runs.astype(np.int64), left)), end


def _run_type(points: int) -> np.dtype[Any]:
    return np.dtype("<u2" if points < 1 << 16 else "<u4")


def _array(raw: bytes, at: int, kind: np.dtype[Any], count: int) -> tuple[NDArray[Any], int]:
    end = at + kind.itemsize * count
    if end > len(raw):
        raise CorruptTrack("a column's description is cut")
    return np.frombuffer(raw, kind, count, at), end
