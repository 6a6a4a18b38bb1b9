"""The picture of a route for feeds: its shape on quiet ground, start, finish, a dot for each kilometre, a scale."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pypolyline.cutil import decode_polyline

from api.drawing.absence import draw_absence
from api.drawing.frame import FOOT_M, KILOMETRE_M, MILE_M, Frame, Units
from api.drawing.svg import Point, Svg, line
from api.drawing.ticks import decimal_step, plain, ticks

_METRES_A_DEGREE: Final = 111_320.0  # of latitude, about
_LEAST_EXTENT_M: Final = 80.0  # what stays within is not blown up to fill the picture
_DOTS_EVERY: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # kilometres or miles
_DOT_GAP: Final = 20.0  # pixels along the route
_MOST_DOTS: Final = 40
_CORNER: Final = 14.0  # pixels from the scale bar to the edges

Path = NDArray[np.float64]  # rows of x, y in pixels


def draw_route(encoded: str | None, distance_m: float, frame: Frame) -> bytes:
    """The route of a polyline (Google's encoding, precision 5); None: a picture that says that there is no map."""
    positions = np.array(decode_polyline(encoded, 5) if encoded else [], np.float64).reshape(-1, 2)[:, ::-1]
    if len(positions) == 0:
        return draw_absence("No map for this activity", frame)
    svg = Svg(frame.width, frame.height, "Map of the route", frame.colours.background)
    path, metres_a_pixel = _projected(positions, frame)
    _draw_ground(svg, metres_a_pixel, frame)
    data = line(map(tuple, path.tolist()))
    stroke = 2.5 + 1.5 * min(1.0, min(frame.width, frame.height) / 300)
    joins: dict[str, str] = {"fill": "none", "stroke_linecap": "round", "stroke_linejoin": "round"}
    svg.path(data, stroke=frame.colours.casing, stroke_width=stroke + 3, **joins)
    svg.path(data, stroke=frame.colours.route, stroke_width=stroke, **joins)
    for at in _dots(path, distance_m, frame.units):
        svg.circle(at, stroke * 0.6, fill="#fff", stroke=frame.colours.route, stroke_width=1.2)
    _draw_ends(svg, path, stroke, frame)
    return svg.encode()


def _projected(positions: NDArray[np.float64], frame: Frame) -> tuple[Path, float]:
    """Equirectangular about the route's middle, its aspect kept; and how many metres a pixel is."""
    lat, lon = positions[:, 0], np.unwrap(positions[:, 1], period=360)  # over the date line, the short way
    middle = (lat.min() + lat.max()) / 2
    narrowing = max(0.01, float(np.cos(np.radians(middle))))
    metres = np.column_stack([lon * narrowing, -lat]) * _METRES_A_DEGREE
    low, high = metres.min(axis=0), metres.max(axis=0)
    padding = 0.1 * min(frame.width, frame.height) + 6
    room = np.array([frame.width, frame.height]) - 2 * padding
    metres_a_pixel = float((np.maximum(high - low, _LEAST_EXTENT_M) / room).max())
    centre = np.array([frame.width, frame.height]) / 2
    path: Path = (metres - (low + high) / 2) / metres_a_pixel + centre
    return path, metres_a_pixel


def _draw_ground(svg: Svg, metres_a_pixel: float, frame: Frame) -> None:
    """A grid whose squares are as wide as the scale bar says."""
    square_m, told = _square(frame.width * metres_a_pixel, max(3, frame.width // 50), frame.units)
    gap, right, bottom = square_m / metres_a_pixel, frame.width - _CORNER, frame.height - _CORNER
    for x in ticks(0, frame.width, gap):
        svg.path(line([(x + right % gap, 0), (x + right % gap, frame.height)]), stroke=frame.colours.grid)
    for y in ticks(0, frame.height, gap):
        svg.path(line([(0, y + bottom % gap), (frame.width, y + bottom % gap)]), stroke=frame.colours.grid)
    svg.path(line([(right - gap, bottom), (right, bottom)]), stroke=frame.colours.muted, stroke_width=1.5)
    svg.text((right, bottom - 5), told, text_anchor="end", fill=frame.colours.muted)


def _square(width_m: float, most: int, units: Units) -> tuple[float, str]:
    """How wide a square is, of which at most so many lie side by side, and what the scale bar says of it."""
    unit_m, small_m, small = (MILE_M, FOOT_M, "ft") if units is Units.IMPERIAL else (KILOMETRE_M, 1.0, "m")
    step = decimal_step(width_m / unit_m, most)
    if step >= 1:
        return step * unit_m, f"{plain(step)} {'mi' if units is Units.IMPERIAL else 'km'}"
    step = decimal_step(width_m / small_m, most)
    return step * small_m, f"{plain(step)} {small}"


def _dots(path: Path, distance_m: float, units: Units) -> list[Point]:
    """Where each kilometre (mile) ends, or every so many where they would be too close. The drawn line is shorter
    than the way: its length stands for the distance.
    """
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    total = distance_m / (MILE_M if units is Units.IMPERIAL else KILOMETRE_M)
    most = min(_MOST_DOTS, along[-1] / _DOT_GAP)
    every = next((every for every in _DOTS_EVERY if total / every <= most), None)
    if every is None:
        return []
    places = np.arange(every, total, every) * along[-1] / total
    return list(zip(np.interp(places, along, path[:, 0]), np.interp(places, along, path[:, 1]), strict=True))


def _draw_ends(svg: Svg, path: Path, stroke: float, frame: Frame) -> None:
    """The finish below the start, a ring round it where a loop closes."""
    colours, radius = frame.colours, stroke + 1.2
    start, finish = (path[0, 0], path[0, 1]), (path[-1, 0], path[-1, 1])
    svg.circle(finish, radius + 2.2, fill=colours.finish, stroke=colours.casing, stroke_width=1.5)
    svg.circle(finish, radius * 0.45, fill=colours.casing)
    svg.circle(start, radius, fill=colours.start, stroke=colours.casing, stroke_width=1.5)
