"""A route small enough for lists: a simplified polyline, and the box around it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from pypolyline.cutil import encode_coordinates
from shapely import LineString, get_coordinates, get_num_coordinates, linestrings, simplify

from domain.recordings.recording import FloatColumn

_VERTICES: Final = 120
RESOLUTIONS: Final = (60, 250, 1_000)  # vertices: a list's thumbnail, a card, a screen
_FIRST_TOLERANCE_M: Final = 5.0
_FINEST_TOLERANCE_M: Final = 1.0  # of the encoding itself
_COARSER: Final = 1.6
_PIECE: Final = 256  # points
_TAME_VERTICES: Final = 3_000  # left at the finest tolerance: more than the finest preview shows
_TAME_POINTS: Final = 10_000
_COARSER_TIMES: Final = 5
_METRES_A_DEGREE: Final = 111_320.0  # of latitude, about
_GLOBE: Final = ((-180.0, -90.0), (180.0, 90.0))


class Route:
    """Where a run went, on a plane in metres around it. Simplified after Douglas and Peucker (1973)."""

    def __init__(self, lat: FloatColumn, lon: FloatColumn) -> None:
        placed = ~np.isnan(lat) & ~np.isnan(lon)
        self._line: LineString | None = None  # without two positions
        if np.count_nonzero(placed) >= 2:
            lat, lon = lat[placed], lon[placed]
            self._narrowing = max(0.01, float(np.cos(np.radians(lat.mean()))))
            metres = np.column_stack([lon * self._narrowing, lat]) * _METRES_A_DEGREE
            # the tiniest floats would make the simplification divide by zero
            self._line = LineString(_tamed(metres.round(2)))

    def preview(self) -> str | None:
        """Google's encoded polyline (precision 5) of at most 120 vertices; None without two positions.

        Simplified ever more coarsely until it is short enough.
        """
        if self._line is None:
            return None
        tolerance = _FIRST_TOLERANCE_M
        while True:
            line = simplify(self._line, tolerance, preserve_topology=False)
            if get_num_coordinates(line) <= _VERTICES:
                return self._encoded(line)
            tolerance *= _COARSER

    def previews(self) -> Sequence[str]:
        """The same at three resolutions: at most 60, 250 and 1,000 vertices; empty without two positions.

        Each is simplified from the finer one: what the steps leave out adds up to less than three times the last.
        """
        if self._line is None:
            return ()
        found, line, tolerance = [], self._line, _FINEST_TOLERANCE_M
        for vertices in reversed(RESOLUTIONS):
            line = simplify(line, tolerance, preserve_topology=False)
            while get_num_coordinates(line) > vertices:
                tolerance *= _COARSER
                line = simplify(line, tolerance, preserve_topology=False)
            found.append(self._encoded(line))
        return found[::-1]

    def _encoded(self, line: LineString) -> str:
        degrees = get_coordinates(line) / _METRES_A_DEGREE / (self._narrowing, 1.0)
        return encode_coordinates(np.clip(degrees, *_GLOBE).data, 5).decode()  # rounding may have led off it


def _tamed(metres: FloatColumn) -> FloatColumn:
    """The line, or a coarser one where simplifying it would take for ever.

    Douglas and Peucker's way takes as many looks at each point as vertices remain: of a zigzag, all. So a line is first
    simplified in short pieces, which takes time in proportion. Few vertices are left of any real run; what keeps
    many is not worth more looks, and loses points. Long lines are simplified to a metre so in any case.
    """
    if len(metres) <= _TAME_VERTICES:
        return metres
    tame, tolerance = metres, _FINEST_TOLERANCE_M
    for _ in range(_COARSER_TIMES):
        tame = _simplified_in_pieces(tame, tolerance)
        if len(tame) <= _TAME_VERTICES:
            return metres if tolerance == _FINEST_TOLERANCE_M and len(metres) <= _TAME_POINTS else tame
        tolerance *= 4
    return tame[np.rint(np.linspace(0, len(tame) - 1, _TAME_VERTICES)).astype(np.int64)]


def _simplified_in_pieces(metres: FloatColumn, tolerance: float) -> FloatColumn:
    begins = np.arange(0, len(metres) - 1, _PIECE)
    places = np.minimum(begins[:, None] + np.arange(_PIECE + 1), len(metres) - 1)  # each ends where the next begins
    pieces = linestrings(metres[places])
    coordinates = get_coordinates(simplify(pieces, tolerance, preserve_topology=False))
    again = (np.diff(coordinates, axis=0) == 0).all(axis=1)
    kept = coordinates[np.concatenate([[True], ~again])]
    return np.asarray(kept if len(kept) > 1 else metres[[0, -1]])


def bounding_box(lat: FloatColumn, lon: FloatColumn) -> tuple[float, float, float, float] | None:
    """South, west, north, east in degrees; west is greater than east where the route crosses the date line."""
    placed = ~np.isnan(lat) & ~np.isnan(lon)
    if not placed.any():
        return None
    lat, lon = lat[placed], lon[placed]
    west, east = float(lon.min()), float(lon.max())
    if east - west > 180:
        west, east = float(lon[lon > 0].min()), float(lon[lon < 0].max())
    return round(float(lat.min()), 5), round(west, 5), round(float(lat.max()), 5), round(east, 5)
