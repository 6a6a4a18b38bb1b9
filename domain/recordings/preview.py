"""A route small enough for lists: a simplified polyline, and the box around it."""

from typing import Final

import numpy as np
import polyline
from shapely import LineString, simplify

from domain.recordings.recording import FloatColumn

_VERTICES: Final = 120
_FIRST_TOLERANCE_M: Final = 5.0
_METRES_A_DEGREE: Final = 111_320.0  # of latitude, about


def preview(lat: FloatColumn, lon: FloatColumn) -> str | None:
    """Google's encoded polyline (precision 5) of at most 120 vertices; None without two positions.

    Simplified after Douglas and Peucker (1973) on a plane in metres, ever more coarsely until it is short enough.
    """
    placed = ~np.isnan(lat) & ~np.isnan(lon)
    if np.count_nonzero(placed) < 2:
        return None
    lat, lon = lat[placed], lon[placed]
    narrowing = max(0.01, float(np.cos(np.radians(lat.mean()))))
    metres = np.column_stack([lon * narrowing, lat]) * _METRES_A_DEGREE
    line = LineString(metres.round(2))  # the tiniest floats would make the simplification divide by zero
    tolerance = _FIRST_TOLERANCE_M
    while True:
        coordinates = np.asarray(simplify(line, tolerance, preserve_topology=False).coords) / _METRES_A_DEGREE
        if len(coordinates) <= _VERTICES:
            break
        tolerance *= 1.6
    encoded: str = polyline.encode([(float(y), float(x) / narrowing) for x, y in coordinates], 5)
    return encoded


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
