import numpy as np
import polyline
import pytest

from domain.recordings.cleaning import step_lengths
from domain.recordings.preview import RESOLUTIONS, Route, bounding_box
from tests.domain.recordings.tracks import NAN, seconds


def circle(points: int, radius: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    angle = np.linspace(0, 2 * np.pi, points)
    return 52.5 + radius * np.sin(angle), 13.4 + radius * np.cos(angle)


def test_a_preview_is_short_and_close_to_the_way() -> None:
    lat, lon = circle(5_000)
    text = Route(lat, lon).preview()
    assert text is not None
    decoded = np.array(polyline.decode(text))
    assert len(decoded) <= 120
    assert len(text) < 600
    length = step_lengths(decoded[:, 0], decoded[:, 1]).sum()
    assert length == pytest.approx(step_lengths(lat, lon).sum(), rel=0.01)


def test_a_wild_track_is_short_too() -> None:
    random = np.random.default_rng(1)
    text = Route(52 + random.normal(0, 0.1, 20_000), 13 + random.normal(0, 0.1, 20_000)).preview()
    assert text is not None
    assert len(polyline.decode(text)) <= 120


def test_missing_positions_are_stepped_over_and_none_give_none() -> None:
    lat, lon = np.array([52.5, NAN, 52.6]), np.array([13.4, NAN, 13.5])
    assert polyline.decode(Route(lat, lon).preview() or "") == [(52.5, 13.4), (52.6, 13.5)]
    assert Route(np.full(3, NAN), np.full(3, NAN)).preview() is None
    assert bounding_box(np.full(3, NAN), np.full(3, NAN)) is None


def test_standing_still_is_a_preview_too() -> None:
    assert Route(np.full(100, 52.5), np.full(100, 13.4)).preview() is not None


def test_the_tiniest_differences_are_no_way() -> None:
    assert Route(np.array([0.0, 0.0, 2.5e-206]), np.zeros(3)).preview() == polyline.encode([(0, 0), (0, 0)], 5)


@pytest.mark.parametrize("lon", [180.0, -180.0])
@pytest.mark.parametrize("lat", [90.0, -90.0, 51.3])
def test_the_ends_of_the_earth_are_no_way_off_it(lat: float, lon: float) -> None:
    way = Route(np.linspace(lat * 0.999, lat, 50), np.linspace(lon * 0.999, lon, 50))
    for text in (way.preview(), *way.previews()):
        assert polyline.decode(text or "")[-1] == (lat, lon)


def test_the_box_is_south_west_north_east() -> None:
    assert bounding_box(np.array([1.0, 3.0]), np.array([7.0, 5.0])) == (1, 5, 3, 7)


def test_the_box_over_the_date_line_goes_the_short_way() -> None:
    assert bounding_box(np.array([0.0, 1.0]), np.array([179.5, -179.5])) == (0, 179.5, 1, -179.5)


@pytest.mark.parametrize("width", [1e-5, 0.01, 1.0])
def test_a_zigzag_of_a_hundred_thousand_points_is_a_preview_too(width: float) -> None:
    """Simplified all at once it would take minutes: the test's time runs out."""
    lat, lon = 52 + seconds(100_000) % 2 * width, 13 + seconds(100_000) / 1e6
    found = Route(lat, lon).preview()
    assert found is not None
    assert len(Route(lat, lon).previews()) == 3
    assert 2 <= len(polyline.decode(found)) <= 120


def test_a_hundred_thousand_times_the_same_place_is_a_preview_too() -> None:
    assert Route(np.full(100_000, 52.5), np.full(100_000, 13.4)).preview() is not None


def test_a_long_way_keeps_its_bends() -> None:
    turns = seconds(40_000)
    lat, lon = 52 + 0.1 * np.sin(turns / 4_000), 13 + turns / 1e5
    at = polyline.decode(Route(lat, lon).preview() or "")
    near = np.interp([east for _, east in at], lon, lat)
    assert [north for north, _ in at] == pytest.approx(near, abs=1e-4)
    assert max(north for north, _ in at) == pytest.approx(52.1, abs=0.002)


def test_previews_are_ever_finer_and_close_to_the_way() -> None:
    random = np.random.default_rng(1)
    lat, lon = 52 + np.cumsum(random.normal(0, 2e-5, 9_000)), 13 + np.cumsum(random.normal(0, 3e-5, 9_000))
    lines = [polyline.decode(text) for text in Route(lat, lon).previews()]
    assert [len(line) <= most for line, most in zip(lines, RESOLUTIONS, strict=True)] == [True] * 3
    assert len(lines[0]) > 20 < len(lines[1]) // 2 < len(lines[2]) // 4
    away = [
        max(np.hypot(*(np.array([lat, lon]) - np.array(line).T[:, [at]])).min() for at in range(len(line)))
        for line in lines
    ]
    assert max(away) < 1e-4  # every vertex is a point of the way
    assert {line[0] for line in lines} == {(round(lat[0], 5), round(lon[0], 5))}
    assert Route(lat[:1], lon[:1]).previews() == ()
