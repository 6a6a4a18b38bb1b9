import numpy as np
import pytest

from domain.recordings.analysis import analyse
from domain.recordings.averages import held, mean
from domain.recordings.recording import FloatColumn
from tests.domain.recordings.tracks import NAN, made, seconds

SMART = np.concatenate([10 * seconds(180), 1_800 + seconds(601)])  # half an hour of a point in ten seconds, then each
RATE = np.where(SMART < 1_800, 130.0, 180.0)


def test_what_is_recorded_more_often_weighs_no_more() -> None:
    found = analyse(made(SMART, distance_m=3 * SMART, heart_rate_bpm=RATE, cadence_spm=RATE))
    assert (found.measured.avg_heart_rate_bpm, found.measured.avg_cadence_spm) == (142.5, 142.5)


def test_a_split_s_heart_rate_is_that_of_its_time() -> None:
    found = analyse(made(SMART, distance_m=3 * SMART, heart_rate_bpm=RATE)).details.splits_km
    assert [split.avg_heart_rate_bpm for split in found] == [130, 130, 130, 130, 130, 160, 180, 180]


def test_a_split_without_a_heart_rate_has_no_mean_of_it() -> None:
    found = analyse(made(SMART, distance_m=3 * SMART, heart_rate_bpm=np.where(SMART < 1_000, RATE, 0)))
    assert [split.avg_heart_rate_bpm for split in found.details.splits_km] == [130, 130, 130, *[None] * 5]


def test_a_value_holds_until_the_sensor_speaks_again_and_no_longer_than_ten_seconds() -> None:
    t, rate = np.array([0.0, 1, 2, 4, 5, 60, 61]), np.array([120.0, NAN, 0, 130, 140, NAN, 150])
    np.testing.assert_allclose(held(rate, t), [2, 0, 0, 1, 10, 0, 0.001])


@pytest.mark.parametrize("t", [np.zeros(4), np.array([0.0, 60, 120, 180])], ids=["no times", "a point a minute"])
def test_where_no_time_tells_how_long_it_held_each_value_weighs_the_same(t: FloatColumn) -> None:
    assert mean(np.array([100.0, 130, 100, 0]), t) == 110


def test_no_value_has_no_mean() -> None:
    for column in (np.empty(0), np.array([NAN, 0.0])):
        assert mean(column, seconds(2)) is None
