import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from domain.measures import Sport
from domain.recordings.cleaning import clean, step_lengths, too_fast
from tests.domain.recordings.tracks import NAN, made, seconds

LATITUDES, LONGITUDES = st.floats(-89, 89), st.floats(-180, 180)


@given(LATITUDES, LONGITUDES, st.floats(-0.002, 0.002), st.floats(-0.002, 0.002))
def test_a_short_step_is_the_geodesic_within_a_millimetre(lat: float, lon: float, north: float, east: float) -> None:
    ends = np.array([lat, lat + north]), np.array([lon, lon + east])
    geodesic = Geod(ellps="WGS84").inv(lon, lat, lon + east, lat + north)[2]
    assert step_lengths(*ends)[0] == pytest.approx(geodesic, abs=1e-3, rel=1e-6)


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_a_step_of_any_length_is_the_geodesic(lat: float, lon: float, to_lat: float, to_lon: float) -> None:
    geodesic = Geod(ellps="WGS84").inv(lon, lat, to_lon, to_lat)[2]
    step = step_lengths(np.array([lat, to_lat]), np.array([lon, to_lon]))[0]
    assert step == pytest.approx(geodesic, abs=0.5, rel=1e-4)


def test_a_step_over_the_date_line_is_short() -> None:
    assert step_lengths(np.zeros(2), np.array([179.9999, -179.9999]))[0] == pytest.approx(22.26, abs=0.01)


def test_time_never_runs_backwards_and_a_jump_of_days_counts_as_none() -> None:
    track = clean(made([0, 1, 2, 1, 2, 1_000_000, 1_000_001]))
    assert track.t.tolist() == [0, 1, 2, 2, 3, 3, 4]
    assert track.clock_jumps == 2


def test_missing_times_lie_evenly_between_their_neighbours() -> None:
    track = clean(made([0, NAN, NAN, 3, 4, 5]))
    assert track.t.tolist() == [0, 1, 2, 3, 4, 5]
    assert track.timed.tolist() == [True, False, False, True, True, True]


def test_a_time_that_over_ten_in_a_row_share_is_the_first_one_s_and_at_the_start_the_last_one_s() -> None:
    assert clean(made([*[0] * 10, *[1] * 10, 2])).timed.all()
    track = clean(made([*[0] * 11, *[1] * 11, 2, NAN]))
    assert track.timed.tolist() == [*[False] * 10, True, True, *[False] * 10, True, False]
    assert track.t.tolist() == [*[0] * 11, *[1] * 11, 2, 2]


def test_a_clock_that_stands_still_or_is_mostly_missing_is_none() -> None:
    assert not clean(made([5, 5, 5])).has_times
    assert not clean(made([0, NAN, NAN, NAN, 4])).has_times


def test_a_single_position_far_off_is_left_out() -> None:
    places = 3.0 * seconds(50)
    places[20] = 5_000
    track = clean(made(seconds(50), places_m=places))
    assert np.flatnonzero(np.isnan(track.lon)).tolist() == [20]
    assert track.outliers == 1


@pytest.mark.parametrize("end", [0, 49])
def test_a_first_or_last_position_far_off_is_left_out(end: int) -> None:
    places = 3.0 * seconds(50)
    places[end] = 1_000_000
    track = clean(made(seconds(50), places_m=places))
    assert np.flatnonzero(np.isnan(track.lon)).tolist() == [end]
    assert track.outliers == 1


@pytest.mark.parametrize("far_off", [1, 48])
def test_a_position_far_off_beside_the_first_or_last_takes_it_not_along(far_off: int) -> None:
    places = 3.0 * seconds(50)
    places[far_off] = 1_000_000
    assert np.flatnonzero(np.isnan(clean(made(seconds(50), places_m=places)).lon)).tolist() == [far_off]


@pytest.mark.parametrize("far_off", [[20, 21], [20, 21, 22], [0, 1], [0, 1, 2], [48, 49], [47, 48, 49]])
def test_neighbours_that_are_all_far_off_are_all_left_out(far_off: list[int]) -> None:
    places = 3.0 * seconds(50)
    places[far_off] = 1_000_000 * np.array([1, -1, 2])[: len(far_off)]
    track = clean(made(seconds(50), places_m=places))
    assert np.flatnonzero(np.isnan(track.lon)).tolist() == far_off
    assert track.outliers == len(far_off)


@pytest.mark.parametrize(("far_off", "outliers"), [([4, 14, 24, 34, 44], 5), ([4, 12, 20, 28, 36, 44], 0)])
def test_over_a_tenth_of_the_positions_are_no_outliers(far_off: list[int], outliers: int) -> None:
    places = 3.0 * seconds(50)
    places[far_off] = 1_000_000
    assert clean(made(seconds(50), places_m=places)).outliers == outliers


@pytest.mark.parametrize("sport", Sport)
def test_every_sport_has_its_highest_speed(sport: Sport) -> None:
    limits = {Sport.RUNNING: 12.5, Sport.WALKING: 12.5, Sport.HIKING: 12.5, Sport.SWIMMING: 5.0}
    metres = limits.get(sport, 40.0) + np.array([-0.01, 0.01])
    assert too_fast(np.ones(2), metres, sport).tolist() == [False, True]


def test_a_position_that_follows_others_without_times_is_no_first_one() -> None:
    t = np.where(seconds(50) < 10, NAN, seconds(50))
    places = np.where(seconds(50) <= 10, 1_000_000, 3 * seconds(50))
    assert clean(made(t, places_m=places)).outliers == 0


def test_a_track_that_is_fast_all_along_has_no_outliers() -> None:
    assert clean(made(seconds(50), places_m=30 * seconds(50))).outliers == 0
    assert clean(made(seconds(50), places_m=30 * seconds(50), sport=Sport.CYCLING)).outliers == 0


def test_heights_that_nobody_runs_at_are_missing() -> None:
    track = clean(made(seconds(4), altitude_m=[40, 12_607, -600, 41]))
    assert np.isnan(track.altitude).tolist() == [False, True, True, False]
