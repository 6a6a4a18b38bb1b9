from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.recordings.cleaning import clean
from domain.recordings.recording import FloatColumn
from domain.recordings.stretches import KILOMETRE_M, MILE_M, Sums, best_efforts, splits
from tests.domain.recordings.tracks import NAN, made, seconds

FASTEST = 12.5
STEADY = 4.0 * seconds(601)  # 2,400 m in ten minutes


def sums(t: FloatColumn, distance: FloatColumn, heart_rate: FloatColumn | None = None) -> Sums:
    return Sums(t, distance, moved=t, climbed=np.zeros(len(t)), heart_rate=heart_rate)


def test_a_run_is_cut_at_every_kilometre_and_the_rest_is_a_split() -> None:
    found = splits(sums(seconds(601), STEADY), KILOMETRE_M)
    assert [split.distance_m for split in found] == [1_000, 1_000, 400]
    assert [split.elapsed_s for split in found] == pytest.approx([250, 250, 100])


def test_splits_are_cut_between_points() -> None:
    found = splits(sums(np.array([0.0, 600.0]), np.array([0.0, 2_400.0])), KILOMETRE_M)
    assert [split.elapsed_s for split in found] == pytest.approx([250, 250, 100])


def test_miles_and_kilometres_add_up_alike() -> None:
    for length in (KILOMETRE_M, MILE_M):
        assert sum(split.distance_m for split in splits(sums(seconds(601), STEADY), length)) == pytest.approx(2_400)


@pytest.mark.parametrize(("total_m", "lengths"), [(2_050, [1_000, 1_000, 50]), (2_001, [1_000, 1_000, 1])])
def test_what_is_left_is_a_split_from_a_metre_on(total_m: float, lengths: list[float]) -> None:
    found = splits(sums(seconds(501), np.linspace(0, total_m, 501)), KILOMETRE_M)
    assert [split.distance_m for split in found] == lengths
    assert sum(split.elapsed_s for split in found) == pytest.approx(500, abs=0.002)


@pytest.mark.parametrize(("total_m", "last_m"), [(2_000.9, 1_000.9), (1_999.9, 999.9), (2_000, 1_000)])
def test_less_than_a_metre_that_is_left_is_in_the_split_before(total_m: float, last_m: float) -> None:
    found = splits(sums(seconds(501), np.linspace(0, total_m, 501)), KILOMETRE_M)
    assert [split.distance_m for split in found] == [1_000, last_m]
    assert sum(split.elapsed_s for split in found) == pytest.approx(500, abs=0.002)


def test_less_than_a_metre_has_no_split() -> None:
    assert splits(sums(seconds(501), np.linspace(0, 0.9, 501)), KILOMETRE_M) == []


@pytest.mark.parametrize("total_m", [2_400, 2_000, 2_000.4])
def test_who_stands_at_the_start_and_at_the_end_does_so_in_the_first_split_and_in_the_last(total_m: float) -> None:
    t = seconds(701)
    distance = np.interp(t, [0, 30, 630, 700], [0, 0, total_m, total_m])
    moved = np.minimum(t, 650)
    rate = np.where(t <= 630, 150.0, 90.0)
    found = splits(Sums(t, distance, moved, climbed=t, heart_rate=rate), KILOMETRE_M)
    assert found[0].elapsed_s == pytest.approx(30 + 600 * 1_000 / total_m)
    assert sum(split.elapsed_s for split in found) == pytest.approx(700)
    assert sum(split.moving_s for split in found) == pytest.approx(650)
    assert sum(split.elevation_gain_m for split in found) == pytest.approx(700, abs=0.2)
    assert 90 < (found[-1].avg_heart_rate_bpm or 0) < 150


def test_a_standing_minute_belongs_to_the_split_it_ends() -> None:
    distance = np.interp(seconds(661), [0, 250, 310, 660], [0, 1_000, 1_000, 2_400])
    assert [split.elapsed_s for split in splits(sums(seconds(661), distance), KILOMETRE_M)][:2] == [250, 310]


def test_a_rest_right_before_a_mark_is_in_the_split_that_it_is_made_in() -> None:
    distance = np.concatenate([np.arange(0, 999, 3.0), [999.4] * 61, np.arange(1_002.4, 2_500, 3.0)])
    found = splits(sums(seconds(len(distance)), distance), KILOMETRE_M)
    assert [split.elapsed_s for split in found] == pytest.approx([393.2, 333.333, 166.467], abs=0.001)


def test_a_rest_at_a_mark_is_at_it_whatever_sums_of_steps_are_out_by() -> None:
    distance = np.cumsum([0.0, *[0.1] * 10_000, *[0.0] * 60, *[0.1] * 10_000])  # of ten thousand tenths, a hair more
    for out_by in (0.0, -1e-7):
        found = splits(sums(seconds(len(distance)), distance + out_by * (distance > 0)), KILOMETRE_M)
        assert [split.elapsed_s for split in found] == pytest.approx([10_000, 10_060], abs=0.01)


def test_each_split_has_its_own_heart_rate_and_zeros_are_no_rate() -> None:
    rate = np.where(seconds(601) < 250, 120.0, 160.0)
    rate[300:320] = 0
    found = splits(sums(seconds(601), STEADY, rate), KILOMETRE_M)
    assert [split.avg_heart_rate_bpm for split in found] == pytest.approx([120, 160, 160], abs=0.5)


@pytest.mark.parametrize("distance", [np.zeros(601), 1e9 * seconds(601)])
def test_no_distance_or_an_impossible_one_has_no_splits(distance: FloatColumn) -> None:
    assert splits(sums(seconds(601), distance), KILOMETRE_M) == []


def test_the_fastest_stretch_is_found_wherever_it_is() -> None:
    pace = np.where((seconds(1_000) >= 400) & (seconds(1_000) < 500), 5.0, 3.0)
    distance = np.concatenate([[0.0], np.cumsum(pace)])
    session = made(seconds(1_001), distance_m=distance)
    found = {effort.name: effort for effort in best_efforts(clean(session), distance, FASTEST)}
    assert found["400 m"].elapsed_s == pytest.approx(80)
    assert 400 <= found["400 m"].start_s <= 420
    assert found["1 km"].elapsed_s == pytest.approx(100 + 500 / 3, abs=0.01)
    assert "5 km" not in found


def test_an_effort_of_exactly_the_whole_run_counts() -> None:
    distance = 4.0 * seconds(101)
    (effort,) = best_efforts(clean(made(seconds(101), distance_m=distance)), distance, FASTEST)
    assert (effort.name, effort.elapsed_s, effort.start_s) == ("400 m", 100, 0)


def test_a_pause_counts_in_an_effort() -> None:
    distance = np.interp(seconds(301), [0, 100, 200, 300], [0, 200, 200, 400])
    (effort,) = best_efforts(clean(made(seconds(301), distance_m=distance)), distance, FASTEST)
    assert effort.elapsed_s == 300


@pytest.mark.parametrize(("pace", "count"), [(5.0, 80), (3.2, 125)])  # 3.2 is no sum of powers of two
def test_the_rests_between_intervals_count_in_none(pace: float, count: int) -> None:
    rest, fast = [0.0] * 90, [pace] * count
    distance = np.cumsum([0.0, *[2.5] * 400, *(rest + fast) * 4])
    session = made(seconds(len(distance)), distance_m=distance)
    effort = best_efforts(clean(session), distance, FASTEST)[0]
    assert (effort.name, effort.elapsed_s) == ("400 m", count)


def test_each_standard_distance_has_its_length() -> None:
    t = seconds(14_335)
    found = best_efforts(clean(made(t, distance_m=3 * t)), 3 * t, FASTEST)
    assert [(effort.name, effort.distance_m, effort.elapsed_s) for effort in found] == [
        ("400 m", 400, 133.33),
        ("1/2 mile", 804.672, 268.22),
        ("1 km", 1_000, 333.33),
        ("1 mile", 1_609.344, 536.45),
        ("5 km", 5_000, 1_666.67),
        ("10 km", 10_000, 3_333.33),
        ("half marathon", 21_097.5, 7_032.5),
        ("marathon", 42_195, 14_065),
    ]


@given(
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 40)), min_size=10, max_size=25).filter(
        lambda steps: sum(pace * count for pace, count in steps) >= 400
    )
)
@settings(max_examples=60, deadline=None)
def test_no_stretch_is_faster_than_the_one_found(steps: list[tuple[int, int]]) -> None:
    paces = [pace for pace, count in steps for _ in range(count)]
    distance = np.cumsum([0, *paces]).astype(float)
    session = made(seconds(len(distance)), distance_m=distance)
    effort = best_efforts(clean(session), distance, FASTEST)[0]
    assert effort.elapsed_s == pytest.approx(min(_ways(distance.tolist(), 400)), abs=0.006)


def _ways(reached: list[float], length: float) -> Iterator[float]:
    """How long each stretch of so many metres took that begins, or ends, at a point; a point a second."""
    back = [reached[-1] - metres for metres in reversed(reached)]
    for way in (reached, back):
        for begin, metres in enumerate(way):
            end = next((at for at in range(begin, len(way)) if way[at] - metres >= length), None)
            if end is not None:
                yield end - (way[end] - metres - length) / (way[end] - way[end - 1]) - begin


def test_a_stretch_without_times_is_no_effort() -> None:
    t = np.where(seconds(400) < 150, NAN, seconds(400))
    distance = 4.0 * seconds(400)
    found = best_efforts(clean(made(t, distance_m=distance)), distance, FASTEST)
    assert found[0].elapsed_s == pytest.approx(100)
    assert found[-1].distance_m <= 4 * 250


def test_nothing_faster_than_anybody_is_an_effort() -> None:
    t = np.where(seconds(1_001) >= 900, 900, seconds(1_001))  # a clock that stands still while the runner goes on
    distance = 4.0 * seconds(1_001)
    found = best_efforts(clean(made(t, distance_m=distance)), distance, FASTEST)
    assert all(effort.elapsed_s >= effort.distance_m / FASTEST for effort in found)


def test_no_effort_goes_over_a_gap() -> None:
    t = np.concatenate([seconds(301), 2_700 + seconds(301)])
    distance = np.concatenate([3 * seconds(301), 900 + 4 * seconds(301)])
    track = clean(made(t, distance_m=distance))
    found = {effort.name: effort for effort in best_efforts(track, distance, FASTEST, gaps=(301,))}
    assert list(found) == ["400 m", "1/2 mile", "1 km"]
    assert (found["400 m"].elapsed_s, found["1 km"].elapsed_s, found["1 km"].start_s) == (100, 250, 2_700)
    assert "1 mile" in {effort.name for effort in best_efforts(track, distance, FASTEST)}
