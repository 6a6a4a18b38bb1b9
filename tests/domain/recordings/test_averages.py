import numpy as np
import pytest

from domain.recordings.analysis import analyse
from domain.recordings.averages import held, mean
from domain.recordings.stretches import Sums, splits
from tests.domain.recordings.tracks import NAN, made, seconds

# The rate rises at 1,795 s, halfway between two points.
SMART = np.concatenate([10 * seconds(180), 1_800 + seconds(601)])  # half an hour of a point in ten seconds, then each
RATE = np.where(SMART < 1_800, 130.0, 180.0)


def test_what_is_recorded_more_often_weighs_no_more() -> None:
    found = analyse(made(SMART, distance_m=3 * SMART, heart_rate_bpm=RATE, cadence_spm=RATE))
    assert (found.measured.avg_heart_rate_bpm, found.measured.avg_cadence_spm) == (142.6, 142.6)


def test_a_split_s_heart_rate_is_that_of_its_time() -> None:
    found = analyse(made(SMART, distance_m=3 * SMART, heart_rate_bpm=RATE)).details.splits_km
    means = [split.avg_heart_rate_bpm for split in found]
    assert means == pytest.approx([130, 130, 130, 130, 130, 160.75, 180, 180], abs=0.06)


def test_a_split_without_a_heart_rate_has_no_mean_of_it() -> None:
    found = analyse(made(SMART, distance_m=3 * SMART, heart_rate_bpm=np.where(SMART < 1_000, RATE, 0)))
    assert [split.avg_heart_rate_bpm for split in found.details.splits_km] == [130, 130, 130, *[None] * 5]


def test_a_value_holds_halfway_to_those_beside_it_and_no_longer_than_five_seconds_to_either() -> None:
    t, rate = np.array([0.0, 1, 2, 4, 5, 60, 61]), np.array([120.0, NAN, 0, 130, 140, NAN, 150])
    before, after = held(rate, t)
    np.testing.assert_allclose(before, [0.0005, 0, 0, 1, 0.5, 0, 5])
    np.testing.assert_allclose(after, [1, 0, 0, 0.5, 5, 0, 0.0005])


def test_before_the_first_value_and_after_the_last_none_holds() -> None:
    before, after = held(np.array([NAN, NAN, 120.0, 130, NAN]), np.array([0.0, 1, 4, 6, 60]))
    np.testing.assert_allclose(before, [0, 0, 0.0005, 1, 0])
    np.testing.assert_allclose(after, [0, 0, 1, 0.0005, 0])


def test_the_last_value_before_legs_rest_has_no_more_of_the_pause_than_the_first_one_after() -> None:
    t = np.concatenate([seconds(60), 70 + seconds(60)])
    cadence = np.where(np.isin(t, [59, 129]), 40.0, 80.0)  # who slows down to a halt steps less
    assert mean(cadence, t) == pytest.approx((5.5 * 40 + 0.5 * 40 + 122 * 80) / 128, abs=0.05)


def test_a_split_s_heart_rate_is_cut_within_a_step() -> None:
    t = np.array([0.0, 8, 9, 10, 11, 12])
    rate = np.array([100.0, 100, 100, 180, 180, 180])
    distance = np.array([0.0, 800, 900, 1_000, 1_100, 1_200])
    found = splits(Sums(t, distance, t, t, rate), 1_000.0)
    assert [split.avg_heart_rate_bpm for split in found] == [104, 180]


def test_where_no_time_tells_how_long_it_held_each_value_weighs_the_same() -> None:
    assert mean(np.array([100.0, 130, 100, 0]), np.zeros(4)) == 110


def test_of_a_point_a_minute_those_at_the_ends_weigh_half() -> None:
    assert mean(np.array([100.0, 130, 130, 160]), np.array([0.0, 60, 120, 180])) == 130
    assert mean(np.array([100.0, 100, 130]), np.array([0.0, 60, 120])) == 107.5


def test_no_value_has_no_mean() -> None:
    for column in (np.empty(0), np.array([NAN, 0.0])):
        assert mean(column, seconds(2)) is None
