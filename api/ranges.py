"""A part of a track by time. Pure: columns in, columns out."""

from collections.abc import Mapping, Sequence
from typing import Final

from domain.recordings.recording import Column

Columns = Mapping[str, list[float | None]]

_NO_TIMES: Final[Sequence[float | None]] = ()


def cut(columns: Columns, begin_s: float, end_s: float | None, max_points: int | None) -> Columns:
    """The rows from one time on and before another (None: to the end), then thinned out evenly, the first and the
    last kept. Rows without a time are in no range.
    """
    times = columns.get(Column.T, _NO_TIMES)
    inside = [row for row, t in enumerate(times) if t is not None and begin_s <= t and (end_s is None or t < end_s)]
    rows = [inside[place] for place in _evenly(len(inside), max_points)]
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def _evenly(count: int, most: int | None) -> Sequence[int]:
    if most is None or count <= most:
        return range(count)
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]
