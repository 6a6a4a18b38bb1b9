"""Pictures as a renderer reads them: their XML, taken apart."""

import re
from datetime import UTC, datetime
from itertools import product

import numpy as np
import polyline
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from api.drawing.frame import Frame, ThemeName, Units
from api.drawing.profile import draw_elevation, draw_pace
from api.drawing.route_map import draw_route
from api.drawing.svg import line, number
from api.drawing.ticks import clock, decimal_step, plain, seconds_step, ticks
from domain.measures import Sport
from domain.recordings.preview import Route
from domain.recordings.profiles import Curve, elevation_curve, speed_curve
from domain.recordings.recording import Column, FloatColumn, Session
from tests.recordings import session

FRAME = Frame(600, 300, ThemeName.LIGHT, Units.METRIC)
FRAMES = [Frame(*size, *rest) for size in ((100, 100), (600, 300), (2000, 120)) for rest in product(ThemeName, Units)]
ALLOWED = {"svg", "title", "rect", "path", "circle", "text", "tspan"}


def read(svg: bytes) -> etree._Element:
    """The root, after all that holds for every picture."""
    root = etree.fromstring(svg)
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for element in root.iter():
        assert etree.QName(element).localname in ALLOWED
        for name, value in element.attrib.items():
            assert "url" not in value
            assert "nan" not in value.lower()
            assert not str(name).startswith(("on", "{"))
    assert re.search(r"\binf", svg.decode()) is None
    for x, y in drawn(root):
        assert -width <= x <= 2 * width
        assert -height <= y <= 2 * height
    assert len(svg) < 12_000
    return root


def drawn(root: etree._Element) -> list[tuple[float, float]]:
    return [point for path in paths(root) for point in path]


def paths(root: etree._Element) -> list[list[tuple[float, float]]]:
    """The points of every path."""
    found = []
    for element in root.iter("{*}path"):
        numbers = [float(value) for value in re.findall(r"-?\d+(?:\.\d+)?", element.get("d", ""))]
        found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def words(root: etree._Element) -> list[str]:
    return ["".join(str(part) for part in element.itertext()) for element in root.iter("{*}text")]


def route(root: etree._Element) -> list[tuple[float, float]]:
    return paths(root)[-1]


def encoded(*positions: tuple[float, float]) -> str:
    return str(polyline.encode(list(positions), 5))


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_a_route_fills_the_picture_and_stays_inside(frame: Frame) -> None:
    run = session(1, kilometres=8)
    svg = draw_route(Route(run.columns[Column.LAT], run.columns[Column.LON]).preview(), 8_000, frame)
    xs, ys = zip(*route(read(svg)), strict=True)
    assert min(xs) > 5
    assert max(xs) < frame.width - 5
    assert min(ys) > 5
    assert max(ys) < frame.height - 5
    assert max((max(xs) - min(xs)) / frame.width, (max(ys) - min(ys)) / frame.height) > 0.6
    assert svg == draw_route(Route(run.columns[Column.LAT], run.columns[Column.LON]).preview(), 8_000, frame)


def test_a_square_on_the_ground_is_a_square_in_the_picture() -> None:
    side = 0.01
    wide = side / np.cos(np.radians(60 + side / 2))
    root = read(draw_route(encoded((60, 10), (60, 10 + wide), (60 + side, 10 + wide), (60 + side, 10)), 0, FRAME))
    xs, ys = zip(*route(root), strict=True)
    assert max(xs) - min(xs) == pytest.approx(max(ys) - min(ys), abs=0.5)
    assert route(root)[0] == (min(xs), max(ys))  # south and west is below and left


def test_a_route_over_the_date_line_is_drawn_the_short_way() -> None:
    there = read(draw_route(encoded((-17, 179.99), (-17.005, -179.995), (-17, -179.99)), 3_000, FRAME))
    here = read(draw_route(encoded((-17, 9.99), (-17.005, 10.005), (-17, 10.01)), 3_000, FRAME))
    assert route(there) == route(here)


@pytest.mark.parametrize("at", [(0.0, 0.0), (89.9, 10.0), (-90.0, 180.0)])
def test_somebody_who_went_nowhere_is_a_dot_in_the_middle(at: tuple[float, float]) -> None:
    for positions in ((at,), (at, at)):
        root = read(draw_route(encoded(*positions), 0, FRAME))
        assert (300, 150) in route(root)


@pytest.mark.parametrize("polyline_", [None, ""])
def test_without_positions_the_picture_says_so(polyline_: str | None) -> None:
    assert words(read(draw_route(polyline_, 5_000, FRAME))) == ["No map for this activity"]


@pytest.mark.parametrize(("units", "dots", "bar"), [(Units.METRIC, 4, "km|m"), (Units.IMPERIAL, 3, "mi|ft")])
def test_each_kilometre_or_mile_within_the_way_has_a_dot(units: Units, dots: int, bar: str) -> None:
    straight = encoded((50, 10), (50, 10.0697))
    root = read(draw_route(straight, 5_000, Frame(600, 300, ThemeName.DARK, units)))
    assert len(list(root.iter("{*}circle"))) == dots + 3
    assert re.fullmatch(rf"[\d.]+ ({bar})", words(root)[0])


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    root = read(draw_route(encoded((0, 10), (0, 10.05)), 0, FRAME))
    bar = next(path for path in reversed(paths(root)[:-2]) if len(path) == 2)
    metres_a_pixel = 0.05 * 111_320 / (route(root)[1][0] - route(root)[0][0])
    value, unit = words(root)[0].split()
    assert (bar[1][0] - bar[0][0]) * metres_a_pixel == pytest.approx(
        float(value) * {"m": 1, "km": 1000}[unit], rel=0.01
    )


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=6),
    st.floats(0, 1e6),
    st.sampled_from(FRAMES),
)
def test_any_route_makes_a_picture(positions: list[tuple[float, float]], distance_m: float, frame: Frame) -> None:
    read(draw_route(encoded(*positions), distance_m, frame))


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_profiles_of_a_run(frame: Frame) -> None:
    run = session(2, kilometres=10)
    heights, pace = elevation_curve(run, 10_000), speed_curve(run, 10_000)
    elevation = read(draw_elevation(heights, frame))
    assert heights is not None
    assert pace is not None
    unit = 0.3048 if frame.units is Units.IMPERIAL else 1.0
    assert f"{heights.values.max() / unit:.0f} {'ft' if unit < 1 else 'm'}" in words(elevation)
    assert f"{heights.values.min() / unit:.0f} {'ft' if unit < 1 else 'm'}" in words(elevation)
    told = words(read(draw_pace(pace, 1000 / 330, Sport.RUNNING, frame)))
    average = "average 8:51" if frame.units is Units.IMPERIAL else "average 5:30"
    assert (average in told) == (frame.width >= 200)
    assert told[0] == ("Pacemin/mi" if frame.units is Units.IMPERIAL else "Pacemin/km")


def curve(*values: float, metres: float = 5_000) -> Curve:
    return Curve(np.linspace(0, metres, len(values)), np.array(values))


@pytest.mark.parametrize(
    ("sport", "heading"), [(Sport.RUNNING, "Pace"), (Sport.SWIMMING, "Pace"), (Sport.CYCLING, "Speed")]
)
def test_faster_is_up(sport: Sport, heading: str) -> None:
    root = read(draw_pace(curve(2.0, 3.0), None, sport, FRAME))
    (_, slow), (_, fast) = paths(root)[-1]
    assert fast < slow
    assert words(root)[0].startswith(heading)
    assert not any("average" in word for word in words(root))


def test_all_the_same_height_is_a_level_line_in_the_middle_of_an_axis() -> None:
    root = read(draw_elevation(curve(12.0, 12.0, 12.0), FRAME))
    ((_, first), *_, (_, last)) = paths(root)[-1]
    assert first == last
    assert 60 < first < 250
    assert {"12 m"} <= set(words(root))


@pytest.mark.parametrize("size", [(110, 100), (380, 180), (600, 300)])
def test_the_highest_place_is_named_below_the_heading(size: tuple[int, int]) -> None:
    root = read(draw_elevation(curve(140.0, 40.0, 90.0), Frame(*size, ThemeName.LIGHT, Units.METRIC)))
    heading, name = (next(it for it in root.iter("{*}text") if it.text == told) for told in ("Elevation", "140 m"))
    assert float(name.get("y", "")) - 11 > float(heading.get("y", "")) + 3  # its letters' tops, the heading's tails


def test_below_the_sea_and_above_the_clouds() -> None:
    assert {"-430 m", "8849 m"} <= set(words(read(draw_elevation(curve(-430.0, 8849.0), FRAME))))


def test_where_there_is_nothing_to_draw_the_picture_says_what_is_missing() -> None:
    assert words(read(draw_elevation(None, FRAME))) == ["No elevation for this activity"]
    assert words(read(draw_pace(None, 3.0, Sport.RUNNING, FRAME))) == ["No pace for this activity"]
    assert words(read(draw_pace(None, 3.0, Sport.CYCLING, FRAME))) == ["No speed for this activity"]


@settings(max_examples=60)
@given(
    st.lists(st.floats(-500, 9_000), min_size=2, max_size=20),
    st.floats(0.5, 1e6),
    st.sampled_from(FRAMES),
    st.sampled_from(Sport),
)
def test_any_curve_makes_a_picture(values: list[float], metres: float, frame: Frame, sport: Sport) -> None:
    read(draw_elevation(curve(*values, metres=metres), frame))
    speeds = [0.05 + abs(value) / 100 for value in values]
    read(draw_pace(curve(*speeds, metres=metres), speeds[0], sport, frame))


def columns(**named: list[float]) -> dict[Column, FloatColumn]:
    return {Column(name): np.array(values) for name, values in named.items()}


STARTED = datetime(2026, 5, 1, tzinfo=UTC)


def test_a_pause_is_no_infinite_pace() -> None:
    t = [*np.arange(0.0, 600.0), *np.arange(1200.0, 1800.0)]
    metres = [*np.arange(600.0) * 3, *(1797 + np.arange(600.0) * 3)]
    found = speed_curve(Session(Sport.RUNNING, STARTED, columns(t=t, distance_m=metres)), metres[-1])
    assert found is not None
    assert found.values == pytest.approx(3.0, abs=0.15)


def test_a_curve_goes_as_far_as_the_activity_went() -> None:
    run = session(3, kilometres=5)
    thinned = Session(run.sport, run.started_at, {name: values[::40] for name, values in run.columns.items()})
    for made in (elevation_curve(thinned, 5_123), speed_curve(thinned, 5_123)):
        assert made is not None
        assert (made.metres[0], made.metres[-1]) == (0, pytest.approx(5_123))


def test_curves_need_a_way_and_heights_or_times() -> None:
    def of(**named: list[float]) -> Session:
        return Session(Sport.RUNNING, STARTED, columns(**named))

    nan = float("nan")
    way = {"lat": [50.0, 50.01, 50.02], "lon": [10.0, 10.0, 10.0]}
    assert elevation_curve(of(**way, altitude_m=[1.0, 2.0, 3.0]), 2_000) is not None
    assert elevation_curve(of(**way, altitude_m=[nan, 2.0, nan]), 2_000) is None
    assert elevation_curve(of(altitude_m=[1.0, 2.0, 3.0]), 2_000) is None
    assert speed_curve(of(**way), 2_000) is None
    assert speed_curve(of(t=[0.0, 1.0, 2.0]), 2_000) is None
    assert elevation_curve(of(**way, altitude_m=[1.0, 2.0, 3.0]), 5e-324) is None
    assert elevation_curve(of(distance_m=[0.0, 0.0, 5e-324], altitude_m=[1.0, 2.0, 3.0]), 2_000) is None
    for nothing in (elevation_curve, speed_curve):
        assert nothing(of(), 0.0) is None


_ROWS = 10
_numbers = st.floats(-1e4, 1e9) | st.just(float("nan"))


@settings(max_examples=80)
@given(
    st.dictionaries(
        st.sampled_from([Column.DISTANCE, Column.ALTITUDE, Column.SPEED]),
        st.lists(_numbers, min_size=_ROWS, max_size=_ROWS),
    ),
    st.none() | st.lists(st.floats(-1e7, 1e7) | st.just(float("nan")), min_size=_ROWS, max_size=_ROWS),
    st.none() | st.lists(st.floats(-90, 90) | st.just(float("nan")), min_size=_ROWS, max_size=_ROWS),
    st.floats(0, 1e9),
)
def test_any_track_has_curves_that_can_be_drawn_or_none(
    given: dict[Column, list[float]], t: list[float] | None, lat: list[float] | None, total_m: float
) -> None:
    named = {**given, **({Column.T: t} if t else {}), **({Column.LAT: lat, Column.LON: lat} if lat else {})}
    wild = Session(Sport.RUNNING, STARTED, {name: np.array(values) for name, values in named.items()})
    read(draw_elevation(elevation_curve(wild, total_m), FRAME))
    read(draw_pace(speed_curve(wild, total_m), None, Sport.RUNNING, FRAME))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (decimal_step(10, 5), 2),
        (decimal_step(11, 5), 5),
        (decimal_step(0.3, 3), 0.1),
        (decimal_step(99_999, 1), 100_000),
        (seconds_step(100, 4), 30),
        (seconds_step(100_000, 2), 50_000),
    ],
)
def test_steps_are_sensible(step: float, expected: float) -> None:
    assert step == pytest.approx(expected)


def test_ticks_and_their_labels() -> None:
    assert list(ticks(-3, 4, 2)) == [-2, 0, 2, 4]
    assert [plain(value) for value in ticks(0, 0.3, 0.1)] == ["0", "0.1", "0.2", "0.3"]
    assert [clock(seconds) for seconds in (299.6, 59, 3661)] == ["5:00", "0:59", "1:01:01"]


def test_numbers_are_short_and_finite() -> None:
    assert [number(value) for value in (1.0, 0.25, -0.01, 12.34)] == ["1", "0.2", "0", "12.3"]
    assert line([(1, 1), (1.01, 1), (2, 2)]) == "M1 1L2 2"
    with pytest.raises(ValueError, match="no place"):
        number(float("nan"))
