"""Profiles over the way: height as an area, pace or speed as a line, faster always up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from api.drawing.absence import draw_absence
from api.drawing.frame import FOOT_M, KILOMETRE_M, MILE_M, YARD_M, Frame, Units
from api.drawing.svg import Point, Svg, line
from api.drawing.ticks import clock, decimal_step, plain, seconds_step, ticks
from domain.measures import ON_FOOT, Sport
from domain.recordings.profiles import Curve
from domain.recordings.recording import FloatColumn

_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 16.0, 30.0, 24.0  # pixels round the plot
_ROOM_FOR_NAME: Final = 12.0  # pixels above the highest place, else its name meets the heading
_ROW: Final = 28.0  # pixels between lines of the grid, at least
_COLUMN: Final = 56.0
_ROOM_FOR_AVERAGE: Final = 200  # pixels of width, else its words meet the heading's
_LEAST_CLIMB_M: Final = 30.0  # a flat run shall look flat
_LEAST_SPREAD: Final = 0.25  # of the pace or speed: an even run shall look even


@dataclass(frozen=True)
class _Scale:
    """How values stand in the picture."""

    low: float
    high: float
    step: float
    label: Callable[[float], str]
    falling: bool = False  # low values above: a pace


@dataclass(frozen=True)
class _Plot:
    """Where the way and the values are, in pixels."""

    frame: Frame
    way: float  # in kilometres or miles
    scale: _Scale

    def x(self, way: float) -> float:
        return _LEFT + way / self.way * (self.frame.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.scale.low) / (self.scale.high - self.scale.low)
        return _TOP + (share if self.scale.falling else 1 - share) * (self.frame.height - _TOP - _BOTTOM)


def draw_elevation(curve: Curve | None, frame: Frame) -> bytes:
    """The heights as a filled area, the highest and the lowest place named."""
    if curve is None:
        return draw_absence("No elevation for this activity", frame)
    metres, unit = (FOOT_M, "ft") if frame.units is Units.IMPERIAL else (1.0, "m")
    heights = curve.values / metres
    low, high = _widened(float(heights.min()), float(heights.max()), _LEAST_CLIMB_M / metres)
    low -= 0.1 * (high - low)  # room for the lowest place's name
    step = decimal_step(high - low, _rows(frame))
    low = step * np.floor(low / step)
    below = frame.height - _TOP - _BOTTOM - _ROOM_FOR_NAME
    high = max(high, heights.max() + (heights.max() - low) * _ROOM_FOR_NAME / below)
    plot = _Plot(frame, _way(curve, frame), _Scale(low, high, step, plain))
    svg = _begun("Elevation", unit, plot)
    points = _points(curve, heights, plot)
    floor = frame.height - _BOTTOM
    colour = frame.colours.elevation
    svg.path(line([(_LEFT, floor), *points, (points[-1][0], floor)], closed=True), fill=colour, fill_opacity="0.3")
    svg.path(line(points), fill="none", stroke=colour, stroke_width=2, stroke_linejoin="round")
    _name(svg, points[int(heights.argmax())], f"{heights.max():.0f} {unit}", plot, above=True)
    _name(svg, points[int(heights.argmin())], f"{heights.min():.0f} {unit}", plot, above=False)
    return svg.encode()


def draw_pace(curve: Curve | None, average_mps: float | None, sport: Sport, frame: Frame) -> bytes:
    """Pace on foot (swimming: for 100 m or yards), speed in other sports; the average as a dashed line."""
    on_foot_or_swimming = sport in ON_FOOT or sport is Sport.SWIMMING
    if curve is None:
        return draw_absence(f"No {'pace' if on_foot_or_swimming else 'speed'} for this activity", frame)
    of, unit = _measure(sport, frame.units)
    shown, average = of(curve.values), None if average_mps is None else float(of(np.array([average_mps]))[0])
    low, high = _widened(float(shown.min()), float(shown.max()), _LEAST_SPREAD * float(np.median(shown)))
    if on_foot_or_swimming:
        scale = _Scale(low, high, seconds_step(high - low, _rows(frame)), clock, falling=True)
    else:
        scale = _Scale(low, high, decimal_step(high - low, _rows(frame)), plain)
    plot = _Plot(frame, _way(curve, frame), scale)
    svg = _begun("Pace" if on_foot_or_swimming else "Speed", unit, plot)
    if average is not None and low < average < high:
        _draw_average(svg, average, plot)
    points, floor, colour = _points(curve, shown, plot), frame.height - _BOTTOM, frame.colours.pace
    svg.path(line([(_LEFT, floor), *points, (points[-1][0], floor)], closed=True), fill=colour, fill_opacity="0.14")
    svg.path(line(points), fill="none", stroke=colour, stroke_width=2, stroke_linejoin="round")
    return svg.encode()


def _measure(sport: Sport, units: Units) -> tuple[Callable[[FloatColumn], FloatColumn], str]:
    """From metres a second to what the sport is told in."""
    imperial = units is Units.IMPERIAL
    if sport in ON_FOOT:
        metres, unit = (MILE_M, "min/mi") if imperial else (KILOMETRE_M, "min/km")
        return lambda mps: metres / mps, unit
    if sport is Sport.SWIMMING:
        metres, unit = (100 * YARD_M, "min/100 yd") if imperial else (100.0, "min/100 m")
        return lambda mps: metres / mps, unit
    metres, unit = (MILE_M, "mph") if imperial else (KILOMETRE_M, "km/h")
    return lambda mps: mps * 3600 / metres, unit


def _widened(low: float, high: float, least: float) -> tuple[float, float]:
    """The range with some air round it, and wide enough that noise does not fill it."""
    air = max(0.08 * (high - low), (least - (high - low)) / 2)
    return low - air, high + air


def _rows(frame: Frame) -> int:
    return max(1, int((frame.height - _TOP - _BOTTOM) / _ROW))


def _way(curve: Curve, frame: Frame) -> float:
    return float(curve.metres[-1]) / (MILE_M if frame.units is Units.IMPERIAL else KILOMETRE_M)


def _points(curve: Curve, values: FloatColumn, plot: _Plot) -> Sequence[Point]:
    way = curve.metres / curve.metres[-1] * plot.way
    return [(plot.x(at), plot.y(value)) for at, value in zip(way.tolist(), values.tolist(), strict=True)]


def _begun(heading: str, unit: str, plot: _Plot) -> Svg:
    """Heading, grid and both axes' labels."""
    frame, colours, scale = plot.frame, plot.frame.colours, plot.scale
    svg = Svg(frame.width, frame.height, f"{heading} over distance", colours.background)
    svg.text((12, 19), heading, unit, fill=colours.strong, font_size=12, font_weight="600", then_fill=colours.muted)
    for value in ticks(scale.low, scale.high, scale.step):
        y = plot.y(value)
        svg.path(line([(_LEFT, y), (frame.width - _RIGHT, y)]), stroke=colours.grid)
        svg.text((_LEFT - 7, y + 4), scale.label(value), text_anchor="end", fill=colours.muted)
    marks = ticks(0, plot.way, decimal_step(plot.way, max(1, int((frame.width - _LEFT - _RIGHT) / _COLUMN))))
    told = "mi" if frame.units is Units.IMPERIAL else "km"
    for mark in marks:
        label = f"{plain(mark)} {told}" if mark == marks[-1] else plain(mark)
        at_edge = frame.width - plot.x(mark) < 24
        x = frame.width - 6.0 if at_edge else plot.x(mark)
        svg.text((x, frame.height - 8), label, text_anchor="end" if at_edge else "middle", fill=colours.muted)
    return svg


def _draw_average(svg: Svg, average: float, plot: _Plot) -> None:
    frame, y = plot.frame, plot.y(average)
    svg.path(line([(_LEFT, y), (frame.width - _RIGHT, y)]), stroke=frame.colours.muted, stroke_dasharray="3 4")
    if frame.width < _ROOM_FOR_AVERAGE:
        return
    told = clock(average) if plot.scale.falling else f"{average:.1f}"
    svg.text((frame.width - _RIGHT, 19), f"average {told}", text_anchor="end", fill=frame.colours.muted)


def _name(svg: Svg, at: Point, words: str, plot: _Plot, *, above: bool) -> None:
    """A dot on the curve and its value beside it, inside of the picture."""
    colours, width = plot.frame.colours, plot.frame.width
    reach = 4.0 * len(words)
    x = min(max(at[0], _LEFT + reach), width - _RIGHT - reach)
    y = at[1] - 8 if above else min(at[1] + 17, plot.frame.height - _BOTTOM - 4)
    svg.circle(at, 3, fill=colours.elevation, stroke=colours.background, stroke_width=1.5)
    svg.text((x, y), words, text_anchor="middle", fill=colours.strong)
