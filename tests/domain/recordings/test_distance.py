from dataclasses import replace

import numpy as np
import pytest

from domain.measures import Sport
from domain.recordings.cleaning import clean
from domain.recordings.distance import Distance, DistanceSource, distance_of, way_of
from domain.recordings.recording import Session
from tests.domain.recordings.tracks import NAN, made, seconds, totals

T = seconds(1_001)


def measured(session: Session) -> Distance:
    return distance_of(session, clean(session))


def test_the_recorded_channel_comes_first() -> None:
    found = measured(made(T, places_m=3 * T, distance_m=3.1 * T, device=totals(9_999)))
    assert found.source is DistanceSource.RECORDED
    assert found.total_m == pytest.approx(3_100)


def test_without_a_channel_the_positions_count() -> None:
    found = measured(made(T, places_m=3 * T, device=totals(9_999)))
    assert found.source is DistanceSource.POSITIONS
    assert found.total_m == pytest.approx(3_000)


def test_the_device_s_total_counts_only_when_there_is_neither() -> None:
    found = measured(made(T, heart_rate_bpm=T, device=totals(5_000)))
    assert found.source is DistanceSource.DEVICE
    assert found.total_m == 0


@pytest.mark.parametrize("channel", [np.zeros(1_001), 0.01 * T, 300 * T, np.where(T % 100 < 99, 3 * T, 0)])
def test_a_channel_that_cannot_be_is_passed_over(channel: np.ndarray) -> None:
    found = measured(made(T, places_m=3 * T, distance_m=channel))
    assert found.source is DistanceSource.POSITIONS
    assert found.total_m == pytest.approx(3_000)


@pytest.mark.parametrize(
    ("fall_m", "source", "total_m"), [(55, DistanceSource.RECORDED, 2_945), (65, DistanceSource.POSITIONS, 3_000)]
)
def test_a_channel_that_falls_by_over_a_fiftieth_of_its_way_counts_something_else(
    fall_m: float, source: DistanceSource, total_m: float
) -> None:
    found = measured(made(T, places_m=3 * T, distance_m=np.where(T > 500, 3 * T - fall_m, 3 * T)))
    assert found.source is source
    assert found.total_m == pytest.approx(total_m)


def test_the_distance_never_falls_and_ends_at_the_highest() -> None:
    channel = 3 * T
    channel[-2:] -= 8
    found = measured(made(T, distance_m=channel))
    assert (np.diff(found.column) >= 0).all()
    assert found.total_m == 2_994


@pytest.mark.parametrize(
    ("first_m", "last_m", "expected_m"),
    [(99, 900, 900), (101, 900, 799), (500, 1_500, 1_000), (290, 3_000, 3_000), (310, 3_000, 2_690)],
)
def test_a_channel_that_begins_beyond_100_m_and_a_tenth_of_its_end_counts_on(
    first_m: float, last_m: float, expected_m: float
) -> None:
    assert measured(made(T, distance_m=np.linspace(first_m, last_m, len(T)))).total_m == pytest.approx(expected_m)


def test_a_channel_that_counts_on_and_misses_its_first_points_is_passed_over() -> None:
    found = measured(made(T, places_m=3 * T, distance_m=np.where(T < 100, NAN, 40_000 + 3 * T)))
    assert found.source is DistanceSource.POSITIONS
    assert found.total_m == pytest.approx(3_000)


def test_a_channel_that_counts_on_from_an_earlier_session_starts_at_nothing() -> None:
    assert measured(made(T, distance_m=40_000 + 3 * T)).total_m == pytest.approx(3_000)


@pytest.mark.parametrize(("told_m", "expected_m"), [(40_010, 40_000), (41_700, 41_750), (None, 41_750)])
def test_whether_a_channel_counts_on_by_less_the_device_s_total_tells(told_m: float | None, expected_m: float) -> None:
    t = seconds(4_001)
    leg = made(t, distance_m=1_750 + 10 * t, device=totals(told_m), sport=Sport.CYCLING)
    assert measured(leg).total_m == pytest.approx(expected_m)


def test_what_the_channel_missed_lies_evenly_between_its_neighbours() -> None:
    channel = 3 * T
    channel[100:200] = NAN
    assert measured(made(T, distance_m=channel)).column[150] == pytest.approx(450)


def test_a_treadmill_s_wandering_positions_do_not_refute_its_channel() -> None:
    found = measured(made(T, places_m=0.05 * T, distance_m=3 * T))
    assert found.source is DistanceSource.RECORDED
    assert found.total_m == pytest.approx(3_000)


@pytest.mark.parametrize("time", [0.0, NAN])
def test_where_nobody_measured_the_time_no_step_is_a_leap(time: float) -> None:
    reached = np.where(T < 100, 200 * T, 19_800 + 3 * (T - 99))
    times = np.where(T < 100, time, T - 99)
    for found in (measured(made(times, distance_m=reached)), measured(made(times, places_m=reached))):
        assert found.total_m == pytest.approx(reached[-1])
        assert found.leaps == 0


@pytest.mark.parametrize("column", ["distance_m", "places_m"])
@pytest.mark.parametrize("many", [10, 11, 12, 50])
def test_a_leap_among_many_points_of_the_last_or_the_first_time_adds_nothing(column: str, many: int) -> None:
    times = np.minimum(T, T[-many])
    leapt = 3 * times + np.where(T[-3] <= T, 100_000, 0)
    for t, reached in ((times, leapt), (times[-1] - times[::-1], leapt[-1] - leapt[::-1])):
        found = measured(made(t, **{column: reached}))
        assert found.total_m == pytest.approx(3 * times[-1])
        assert found.leaps == 1


def test_the_way_from_a_track_without_times_to_the_next_one_counts() -> None:
    reached = np.where(T < 300, 3 * T, 3 * T + 12_700)
    for times in (np.where(T < 300, NAN, T), np.maximum(T, 300)):
        assert measured(made(times, places_m=reached)).total_m == pytest.approx(15_700)


@pytest.mark.parametrize("column", ["distance_m", "places_m"])
def test_a_leap_adds_nothing_and_is_counted(column: str) -> None:
    leapt = np.where(T > 500, 3 * T + 1_000_000, 3 * T)
    found = measured(made(T, **{column: leapt}))  # type: ignore[arg-type]  # a column or the places
    assert found.total_m == pytest.approx(3_000, abs=5)
    assert found.leaps == 1


def test_a_leap_between_points_without_times_is_none_that_the_times_around_forbid() -> None:
    t = np.where((T > 400) & (T < 600), NAN, T)
    leapt = np.where((T > 450) & (T < 550), 3 * T + 1_000_000, 3 * T)
    found = measured(made(t, places_m=leapt))
    assert found.total_m == pytest.approx(3_000, abs=10)
    assert found.leaps == 2


def with_a_gap(seconds_away: float, metres_away: float) -> dict[str, np.ndarray]:
    """A run of 3 km of which the second half is later, and elsewhere."""
    return {"t": T + np.where(T > 500, seconds_away, 0), "places_m": 3 * T + np.where(T > 500, metres_away, 0)}


@pytest.mark.parametrize("mps", [6, 20, 33, 250])
@pytest.mark.parametrize("sport", [Sport.RUNNING, Sport.CYCLING])
def test_the_way_between_segments_that_are_long_and_far_apart_is_no_run(mps: float, sport: Sport) -> None:
    gap = with_a_gap(2_400, 2_400 * mps)
    session = made(gap["t"], places_m=gap["places_m"], breaks=(501,), sport=sport)
    found = measured(session)
    assert (found.gaps, found.leaps) == ((501,), 0)
    assert found.total_m == pytest.approx(2_997)
    kept = replace(session, breaks=())
    again = way_of(kept, clean(kept), found.total_m)
    assert (again.gaps, again.leaps, again.total_m) == ((501,), 0, found.total_m)


def test_the_way_within_a_segment_is_its_runner_s() -> None:
    gap = with_a_gap(2_400, 15_000)
    within_one = measured(made(gap["t"], places_m=gap["places_m"]))
    assert within_one.gaps == ()
    assert within_one.total_m == pytest.approx(18_000)


@pytest.mark.parametrize(("seconds_away", "metres_away"), [(290, 900), (3_600, 400), (0, 0)])
def test_a_pause_or_a_loss_of_reception_between_segments_keeps_its_way(seconds_away: float, metres_away: float) -> None:
    gap = with_a_gap(seconds_away, metres_away)
    found = measured(made(gap["t"], places_m=gap["places_m"], breaks=(501,)))
    assert found.gaps == ()
    assert found.total_m == pytest.approx(3_000 + metres_away)


def test_points_without_a_place_around_a_gap_change_nothing() -> None:
    gap = with_a_gap(2_400, 15_000)
    gap["places_m"][495:505] = NAN
    found = measured(made(gap["t"], places_m=gap["places_m"], breaks=(501,)))
    assert found.gaps == (501,)
    assert found.total_m == pytest.approx(3_000 - 33)


@pytest.mark.parametrize(("total_m", "expected_m"), [(2_997, 2_997), (18_000, 18_000), (0, 18_000), (17_800, 18_000)])
def test_a_gap_is_found_again_where_the_breaks_are_not_kept(total_m: float, expected_m: float) -> None:
    gap = with_a_gap(2_400, 15_000)
    session = made(gap["t"], places_m=gap["places_m"])
    assert way_of(session, clean(session), total_m).total_m == pytest.approx(expected_m)


def test_a_channel_says_itself_what_of_a_gap_counts() -> None:
    gap = with_a_gap(2_400, 15_000)
    found = measured(made(gap["t"], places_m=gap["places_m"], distance_m=3 * T, breaks=(501,)))
    assert (found.source, found.total_m, found.gaps) == (DistanceSource.RECORDED, 3_000, (501,))


@pytest.mark.parametrize(("share", "gaps"), [(0, (501,)), (0.09, (501,)), (0.11, ()), (1, ())])
def test_a_way_of_which_a_channel_has_a_tenth_is_no_gap(share: float, gaps: tuple[int, ...]) -> None:
    gap = with_a_gap(2_400, 2_400)
    gap["places_m"][495:501] = NAN  # over these the channel goes on
    channel = 3 * T + np.where(T > 500, share * 2_421 - 21, 0)
    found = measured(made(gap["t"], places_m=gap["places_m"], distance_m=np.maximum.accumulate(channel), breaks=(501,)))
    assert (found.source, found.gaps) == (DistanceSource.RECORDED, gaps)


def test_what_a_channel_adds_at_once_after_a_tunnel_is_no_leap() -> None:
    channel = np.where(T > 500, 3 * T + 60, 3 * T)
    assert measured(made(T, distance_m=channel)).total_m == pytest.approx(3_060)


@pytest.mark.parametrize(("added_m", "leaps", "total_m"), [(121, 0, 3_121), (123, 1, 2_997)])
def test_a_channel_adds_at_once_what_can_be_run_in_ten_seconds(added_m: float, leaps: int, total_m: float) -> None:
    found = measured(made(T, distance_m=np.where(T > 500, 3 * T + added_m, 3 * T)))
    assert found.leaps == leaps
    assert found.total_m == pytest.approx(total_m)


@pytest.mark.parametrize(("every", "leaps", "total_m"), [(11, 90, 2_730), (9, 0, 4_221)])
def test_when_over_a_tenth_of_the_steps_are_too_fast_the_way_was_made(every: int, leaps: int, total_m: float) -> None:
    places = np.cumsum(np.where(T == 0, 0, np.where(T % every == 0, 14, 3)))
    found = measured(made(T, places_m=places))
    assert (found.leaps, found.fast) == (leaps, leaps == 0)
    assert found.total_m == pytest.approx(total_m)


def test_a_descent_on_skis_has_no_leaps() -> None:
    found = measured(made(T, places_m=25 * T, sport=Sport.SKIING))
    assert (found.leaps, found.fast) == (0, False)
    assert found.total_m == pytest.approx(25_000)


def test_a_ride_called_a_run_keeps_its_way_and_is_too_fast() -> None:
    found = measured(made(T, places_m=14 * T))
    assert found.total_m == pytest.approx(14_000)
    assert (found.leaps, found.fast) == (0, True)
    assert not measured(made(T, places_m=14 * T, sport=Sport.CYCLING)).fast


def test_two_points_a_thousand_kilometres_apart_in_a_second_are_no_run() -> None:
    found = measured(made([0, 1], places_m=[0, 1_000_000], device=totals(1_000_000)))
    assert (found.total_m, found.leaps) == (0, 1)
