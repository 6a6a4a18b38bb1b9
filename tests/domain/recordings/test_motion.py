import numpy as np
import pytest

from domain.measures import Sport
from domain.recordings.cleaning import CleanTrack, clean
from domain.recordings.distance import distance_of
from domain.recordings.motion import climb, max_speed, moving_time
from domain.recordings.recording import FloatColumn, Session
from tests.domain.recordings.tracks import made, seconds, totals


def moved(session: Session) -> float:
    track = clean(session)
    return float(moving_time(session, track, distance_of(session, track).column).sum())


def climbed(heights: FloatColumn) -> float:
    return float(climb(clean(made(seconds(len(heights)), altitude_m=heights)))[-1])


def run_with_a_stand() -> FloatColumn:
    """Three metres a second for 100 s, 60 s of standing, and 100 s more."""
    return np.interp(seconds(261), [0, 100, 160, 260], [0, 300, 300, 600])


def test_standing_is_not_moving() -> None:
    assert moved(made(seconds(261), distance_m=run_with_a_stand())) == pytest.approx(200, abs=8)


@pytest.mark.parametrize(
    ("sport", "mps", "expected_s"),
    [(Sport.CYCLING, 0.9, 600), (Sport.CYCLING, 1.1, 720), (Sport.RUNNING, 0.4, 600), (Sport.RUNNING, 0.6, 720)],
)
def test_what_is_standing_on_a_bicycle_is_moving_on_foot(sport: Sport, mps: float, expected_s: float) -> None:
    reached = np.interp(seconds(721), [0, 300, 420, 720], [0, 2_400, 2_400 + 120 * mps, 4_800 + 120 * mps])
    assert moved(made(seconds(721), distance_m=reached, sport=sport)) == pytest.approx(expected_s, abs=10)


def test_a_slow_walk_is_moving_from_its_first_second_to_its_last() -> None:
    assert moved(made(seconds(601), distance_m=0.8 * seconds(601), sport=Sport.WALKING)) == 600


def test_a_stop_of_the_timer_is_not_moving_however_short() -> None:
    t = np.concatenate([seconds(100), 107 + seconds(100)])
    distance = 3 * np.concatenate([seconds(100), 99 + 1 / 3 + seconds(100)])
    assert moved(made(t, distance_m=distance, breaks=(100,))) == 198


def test_standing_with_the_noise_of_gps_is_not_moving() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 261).cumsum() * 0.3
    assert moved(made(seconds(261), places_m=run_with_a_stand() + noise)) == pytest.approx(200, abs=20)


def test_a_stop_of_the_timer_is_not_moving() -> None:
    t = np.concatenate([seconds(100), 400 + seconds(100)])
    distance = 3 * np.concatenate([seconds(100), 99 + seconds(100)])
    assert moved(made(t, distance_m=distance, breaks=(100,))) == pytest.approx(198, abs=1)


def test_a_new_segment_after_which_the_runner_is_elsewhere_was_a_gap_in_reception() -> None:
    t = np.concatenate([seconds(100), 200 + seconds(100)])
    assert moved(made(t, places_m=3 * t, breaks=(100,))) == pytest.approx(299, abs=1)


def test_on_a_trainer_all_time_counts_but_the_stops() -> None:
    t = np.concatenate([seconds(100), 400 + seconds(100)])
    assert moved(made(t, power_w=np.full(200, 200.0), breaks=(100,), sport=Sport.CYCLING)) == 198


def test_a_slow_walk_of_smart_recording_is_moving() -> None:
    t = 30 * seconds(50)
    assert moved(made(t, distance_m=0.9 * t, sport=Sport.WALKING)) == t[-1]


@pytest.mark.parametrize("sport", [Sport.HIKING, Sport.SWIMMING, Sport.RUNNING, Sport.OTHER])
def test_a_slow_sport_is_moving_and_its_rests_are_not(sport: Sport) -> None:
    t = seconds(9_001)
    reached = np.interp(t, [0, 3_600, 5_400, 9_000], [0, 1_620, 1_620, 3_240])
    assert moved(made(t, places_m=reached, sport=sport)) == pytest.approx(7_200, abs=10)
    assert moved(made(t[::55], places_m=reached[::55], sport=sport)) == pytest.approx(7_200, abs=110)


def test_a_slow_sport_is_moving_however_far_it_went_before_the_first_time() -> None:
    t = seconds(3_601)
    way = np.concatenate([20 * seconds(1_001), 20_000 + 0.45 * t])
    assert moved(made(np.concatenate([np.full(1_001, np.nan), t]), places_m=way, sport=Sport.HIKING)) == 3_600


def test_a_climb_that_is_slow_for_a_part_is_moving_throughout() -> None:
    t = seconds(7_201)
    assert moved(made(t, places_m=np.interp(t, [0, 3_600, 7_200], [0, 1_620, 5_220]), sport=Sport.HIKING)) == 7_200


def test_a_long_stand_with_the_noise_of_gps_in_a_walk_is_not_moving() -> None:
    t = seconds(4_801)
    places = np.interp(t, [0, 1_800, 3_000, 4_800], [0, 2_500, 2_500, 5_000])
    drift = np.convolve(np.random.default_rng(1).normal(0, 1.0, len(t) + 29), np.ones(30) / 30, "valid")
    assert moved(made(t, places_m=places + drift, sport=Sport.WALKING)) == pytest.approx(3_600, rel=0.02)


@pytest.mark.parametrize(("timer_s", "expected_s"), [(None, 2_200), (2_200, 2_200), (1_400, 1_400), (9_999, 2_200)])
def test_a_swim_in_a_pool_takes_what_the_timer_says(timer_s: float | None, expected_s: float) -> None:
    lengths = seconds(41)
    swim = made(55 * lengths, distance_m=25 * lengths, sport=Sport.SWIMMING, device=totals(timer_s=timer_s))
    assert moved(swim) == pytest.approx(expected_s)


def test_what_is_slower_than_any_sport_is_moving_as_long_as_the_timer_ran() -> None:
    t = np.concatenate([seconds(1_000), 4_000 + seconds(1_000)])
    for timer_s, expected_s in ((None, 1_998), (1_500, 1_500)):
        crawl = made(t, distance_m=0.1 * t, breaks=(1_000,), device=totals(timer_s=timer_s))
        assert moved(crawl) == pytest.approx(expected_s)


def test_a_hill_counts_once_up() -> None:
    assert climbed(np.interp(seconds(601), [0, 300, 600], [0, 50, 0])) == pytest.approx(50, abs=1.5)


def test_over_a_gap_nobody_climbs() -> None:
    heights = np.concatenate([np.linspace(100, 130, 301), np.linspace(500, 520, 301)])
    track = clean(made(seconds(602) + 3_000 * (seconds(602) > 300), altitude_m=heights))
    found = climb(track, gaps=(301,))
    assert found[[300, 301, -1]] == pytest.approx([30, 30, 50], abs=1)
    assert climb(track)[-1] == pytest.approx(420, abs=1)


def test_noise_below_a_metre_is_no_climb() -> None:
    assert climbed(40 + 0.3 * np.sin(seconds(3_600) / 20)) == 0
    assert climbed(40 + np.random.default_rng(1).normal(0, 0.5, 3_600)) < 5


@pytest.mark.parametrize(("first_m", "then_m"), [(1.6, 0.7), (5.0, 0.9), (1.0, 0.9)])
@pytest.mark.parametrize("flat_s", [0, 40])
def test_what_is_climbed_after_a_flat_counts_too(first_m: float, then_m: float, flat_s: int) -> None:
    top = first_m + then_m
    ends = np.cumsum([0, 60, flat_s, 60, 40, 120, 40])
    hill = np.interp(seconds(int(ends[-1])), ends, [0, first_m, first_m, top, top, 0, 0])
    assert climbed(np.round(100 + np.tile(hill, 10), 2)) == pytest.approx(10 * top, rel=0.01)


def test_a_fall_of_less_than_a_metre_in_a_climb_is_noise() -> None:
    ends = [0, 300, 480, 780, 1_200, 1_500]
    for dip, metres in ((4.2, 9), (3.8, 10.2)):
        assert climbed(np.interp(seconds(1_501), ends, [0, 5, dip, 9, 0, 0])) == pytest.approx(metres, abs=0.15)


def test_a_way_down_alone_is_no_climb() -> None:
    assert climbed(np.interp(seconds(1_000), [0, 999], [500, 100])) == 0
    assert climbed(np.interp(seconds(600), [0, 200, 400, 600], [500, 400, 400.9, 300])) == 0


def test_a_hair_s_breadth_changes_no_climb() -> None:
    steps = np.repeat(np.random.default_rng(1).integers(100, 104, 200), 20).astype(np.float64)  # rises of a metre
    hairs = [np.random.default_rng(seed).uniform(-1e-6, 1e-6, len(steps)) for seed in range(5)]
    assert [climbed(steps + hair) for hair in hairs] == pytest.approx([climbed(steps)] * 5, abs=0.001)


def test_each_metre_is_climbed_where_it_is() -> None:
    heights = np.interp(seconds(901), [0, 300, 450, 600, 900], [0, 30, 30, 20, 50])
    found = climb(clean(made(seconds(901), altitude_m=heights)))
    assert found[[0, 150, 300, 450, 600, 750, 900]] == pytest.approx([0, 15, 30, 30, 30, 45, 60], abs=0.6)


def test_small_rises_add_up_to_a_climb() -> None:
    assert climbed(np.floor(seconds(601) / 20)) == pytest.approx(30, abs=1)


def test_a_climb_of_weeks_counts_too() -> None:
    days, heights = 86_400.0 * seconds(15), 100 * (seconds(15) % 2)
    assert climb(clean(made(days, altitude_m=heights)))[-1] == pytest.approx(700, abs=20)


def test_one_glitch_is_no_top_speed() -> None:
    speed = np.full(100, 3.0)
    speed[50] = 30
    assert max_speed(*_of(made(seconds(100), speed_mps=speed))) == 3
    speed[60:66] = 5
    assert max_speed(*_of(made(seconds(100), speed_mps=speed))) == 5


def test_without_a_speed_channel_the_distance_tells() -> None:
    assert max_speed(*_of(made(seconds(100), distance_m=3 * seconds(100)))) == pytest.approx(3)


@pytest.mark.parametrize("hertz", [0.2, 1, 2, 3, 10])
def test_however_often_there_are_points_the_distance_tells(hertz: float) -> None:
    t = np.round(seconds(1_000) / hertz, 3)
    assert max_speed(*_of(made(t, distance_m=3 * t))) == pytest.approx(3, rel=0.01)


def test_a_glitch_among_ten_points_a_second_is_no_top_speed() -> None:
    t = seconds(1_000) / 10
    assert max_speed(*_of(made(t, distance_m=3 * t + np.where(t > 50, 20, 0)))) == pytest.approx(3)


def test_without_times_there_is_no_speed() -> None:
    assert max_speed(*_of(made(places_m=3 * seconds(100)))) is None


def _of(session: Session) -> tuple[Session, CleanTrack, FloatColumn]:
    track = clean(session)
    return session, track, distance_of(session, track).column
