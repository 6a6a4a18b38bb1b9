from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events.measured import DeviceTotals
from domain.measures import Metres, Sport
from domain.recordings.analysis import Analysis, analyse
from domain.recordings.recording import Column, FloatColumn, Session
from domain.recordings.recording import DeviceTotals as SaidByDevice
from tests.domain.recordings.tracks import NAN, STARTED, made, seconds, totals

T = seconds(1_001)


def codes(found: Analysis) -> list[str]:
    return [warning.partition(":")[0] for warning in found.measured.warnings]


def test_a_plain_run_is_summed_up() -> None:
    found = analyse(made(T, places_m=3 * T, distance_m=3 * T, heart_rate_bpm=np.where(T < 10, 0, 150), cadence_spm=T))
    assert found.distance_m == 3_000
    assert (found.elapsed_s, found.moving_s) == (1_000, 1_000)
    assert (found.measured.avg_speed_mps, found.measured.avg_heart_rate_bpm) == (3, 150)
    assert [effort.name for effort in found.measured.best_efforts] == ["400 m", "1/2 mile", "1 km", "1 mile"]
    assert len(found.details.splits_km) == 3
    assert len(found.details.previews) == 3
    assert found.measured.warnings == ()


def test_elapsed_is_the_session_s_own_when_it_can_be() -> None:
    assert analyse(made(T, device=totals(elapsed_s=1_200, timer_s=1_000))).elapsed_s == 1_200


@pytest.mark.parametrize("elapsed_s", [10, 499, 300 * 86_400])
def test_a_device_whose_time_its_own_points_refute_is_not_believed(elapsed_s: float) -> None:
    found = analyse(made(T, distance_m=3 * T, device=totals(9_000, elapsed_s)))
    assert (found.elapsed_s, found.moving_s, found.measured.avg_speed_mps) == (1_000, 1_000, 3)
    assert codes(found) == ["device-totals", "no-positions"]
    assert found.measured.device == DeviceTotals()


@pytest.mark.parametrize("elapsed_s", [995, 86_400])
def test_a_device_whose_time_may_be_is_believed(elapsed_s: float) -> None:
    found = analyse(made(T, distance_m=3 * T, device=totals(9_000, elapsed_s)))
    assert (found.elapsed_s, codes(found)) == (elapsed_s, ["no-positions"])


@pytest.mark.parametrize("elapsed_s", [500, 994])
@pytest.mark.parametrize("column", ["distance_m", "heart_rate_bpm"])
def test_a_session_is_no_shorter_than_its_points(column: str, elapsed_s: float) -> None:
    found = analyse(made(T, device=totals(3_000, elapsed_s, elapsed_s), **{column: 3 * T}))  # type: ignore[arg-type]  # a column
    assert (found.distance_m, found.elapsed_s, found.moving_s) == (3_000, 1_000, 1_000)
    assert codes(found) == ["device-totals", "no-positions"]
    assert found.measured.device == DeviceTotals(distance_m=3_000)


def test_a_timer_that_is_told_as_the_elapsed_time_stays_the_timer() -> None:
    t = np.concatenate([seconds(500), 899 + seconds(501)])
    found = analyse(made(t, distance_m=3 * seconds(1_001), breaks=(500,), device=totals(3_000, 1_000, 1_000)))
    assert (found.elapsed_s, found.measured.device.elapsed_s, found.measured.device.timer_s) == (1_399, None, 1_000)


def test_a_last_point_that_tells_nothing_makes_no_session_longer() -> None:
    t, distance = np.append(T, 1_168), np.append(3 * T, NAN)
    found = analyse(made(t, distance_m=distance, breaks=(1_001,), device=totals(3_000, 1_001, 1_001)))
    assert (found.elapsed_s, codes(found)) == (1_001, ["no-positions"])


@pytest.mark.parametrize("empty_s", [[1_168], [1_001, 4_600, 4_601]])
def test_a_last_point_that_tells_nothing_makes_no_split_longer(empty_s: list[float]) -> None:
    t, distance = np.append(T, empty_s), np.append(3 * T, [NAN] * len(empty_s))
    heart_rate = np.append(150 + 0 * T, [NAN] * len(empty_s))
    found = analyse(made(t, distance_m=distance, heart_rate_bpm=heart_rate, device=totals(3_000, 1_001, 1_001)))
    ended_s = max(second for second in (1_000, *empty_s) if second <= found.elapsed_s)
    for parts in (found.details.splits_km, found.details.splits_mi):
        assert sum(split.distance_m for split in parts) == 3_000
        assert sum(split.elapsed_s for split in parts) == pytest.approx(ended_s, abs=0.002)
        assert {split.avg_heart_rate_bpm for split in parts} == {150}


@pytest.mark.parametrize("elapsed_s", [996, 1_500])
def test_last_points_that_tell_anything_are_in_the_last_split(elapsed_s: float) -> None:
    found = analyse(made(T, distance_m=np.minimum(3 * T, 2_400), device=totals(2_400, elapsed_s)))
    assert sum(split.elapsed_s for split in found.details.splits_km) == pytest.approx(1_000, abs=0.002)


@pytest.mark.parametrize("elapsed_s", [600, 1_200])
def test_where_no_point_tells_anything_their_times_count(elapsed_s: float) -> None:
    found = analyse(made(T, distance_m=NAN * T, device=totals(elapsed_s=elapsed_s)))
    assert (found.elapsed_s, found.details.splits_km) == (max(elapsed_s, 1_000), [])


def test_a_clock_that_went_back_makes_no_session_longer() -> None:
    t = np.concatenate([seconds(501), 300 + seconds(501)])
    found = analyse(made(t, distance_m=3 * seconds(1_002), device=totals(3_003, 801, 801)))
    assert (found.elapsed_s, codes(found)) == (801, ["no-positions", "clock-jump"])


def test_elapsed_shorter_than_the_timer_is_passed_over() -> None:
    assert analyse(made(T, device=totals(elapsed_s=500, timer_s=900))).elapsed_s == 1_000


def test_a_session_of_totals_alone_counts_by_them() -> None:
    found = analyse(Session(Sport.SWIMMING, STARTED, {}, device=totals(1_500, 2_000, 1_800)))
    assert (found.distance_m, found.elapsed_s, found.moving_s) == (1_500, 2_000, 1_800)
    assert found.measured.distance_source == "device"
    assert "no-points" in codes(found)


@pytest.mark.parametrize(("timer_s", "moving_s"), [(3_500, 3_500), (None, 3_600)])
def test_what_has_no_points_moved_as_long_as_the_timer_ran(timer_s: float | None, moving_s: float) -> None:
    found = analyse(Session(Sport.FITNESS, STARTED, {}, device=totals(0, 3_600, timer_s)))
    assert (found.distance_m, found.elapsed_s, found.moving_s) == (0, 3_600, moving_s)
    assert found.measured.avg_speed_mps is None


def test_where_no_point_has_a_heart_rate_or_a_height_the_device_s_count() -> None:
    device = SaidByDevice(Metres(1_500), ascent_m=Metres(70), avg_heart_rate_bpm=140, max_heart_rate_bpm=171)
    for session in (
        made(device=device),
        made(T, distance_m=3 * T, device=device),
        made(heart_rate_bpm=0 * T, device=device),
    ):
        found = analyse(session)
        assert (found.measured.avg_heart_rate_bpm, found.measured.max_heart_rate_bpm) == (140, 171)
        assert found.elevation_gain_m == 70
    own = analyse(made(T, device=device, heart_rate_bpm=120 + 0 * T, altitude_m=40 + 0 * T))
    assert (own.measured.avg_heart_rate_bpm, own.measured.max_heart_rate_bpm, own.elevation_gain_m) == (120, 120, 0)


def test_no_heart_beats_as_some_devices_say() -> None:
    found = analyse(made(T, device=SaidByDevice(avg_heart_rate_bpm=0, max_heart_rate_bpm=254))).measured
    assert (found.avg_heart_rate_bpm, found.max_heart_rate_bpm) == (None, None)


def test_no_device_total_leaks_into_ours() -> None:
    device = totals(distance_m=9_000)
    assert analyse(made(T, distance_m=3 * T, device=device)).distance_m == 3_000
    assert analyse(made(T, distance_m=3 * T, device=device)).measured.device.distance_m == 9_000.0


def test_the_splits_of_a_swim_in_a_pool_move_as_long_as_the_whole_does() -> None:
    lengths = seconds(101)
    swim = made(55 * lengths, distance_m=25 * lengths, sport=Sport.SWIMMING, device=totals(2_500, 5_500, 3_500))
    found = analyse(swim)
    assert (found.elapsed_s, found.moving_s) == (5_500, 3_500)
    assert [split.moving_s for split in found.details.splits_km] == [1_400, 1_400, 700]


def test_without_times_there_is_a_way_and_no_duration() -> None:
    found = analyse(made(places_m=3 * T, started_at=None))
    assert found.distance_m == pytest.approx(3_000)
    assert (found.elapsed_s, found.moving_s, found.measured.avg_speed_mps) == (0, 0, None)
    assert codes(found) == ["no-times"]


@pytest.mark.parametrize(
    ("t", "splits_s"),
    [
        (np.where(T < 400, NAN, T), [1_000 / 3, 800 / 3]),
        (np.where(T > 500, NAN, T), [1_000 / 3, 500 / 3]),
        (np.maximum(T, 400), [1_000 / 3, 800 / 3]),
    ],
    ids=["start", "end", "as our FIT tells the start"],
)
def test_a_way_that_has_no_times_has_no_speed_and_is_in_no_split(t: FloatColumn, splits_s: list[float]) -> None:
    found = analyse(made(t, places_m=3 * T, heart_rate_bpm=np.where(np.isnan(t), 200, 150)))
    assert found.distance_m == pytest.approx(3_000)
    assert found.measured.avg_speed_mps == pytest.approx(3)
    assert found.moving_s == pytest.approx(sum(splits_s), abs=0.01)
    assert [split.elapsed_s for split in found.details.splits_km] == pytest.approx(splits_s, abs=0.01)
    assert [split.avg_heart_rate_bpm for split in found.details.splits_km] == [150, 150]
    assert codes(found) == ["no-times"]


def test_a_point_or_two_without_times_at_an_end_go_unsaid() -> None:
    found = analyse(made(np.where((T < 3) | (T > 995), NAN, T), places_m=3 * T))
    assert (found.measured.avg_speed_mps, found.measured.warnings) == (3, ())
    assert sum(split.distance_m for split in found.details.splits_km) == pytest.approx(2_976)


@pytest.mark.parametrize(("untimed", "warned"), [(9, []), (11, ["no-times"])])
@pytest.mark.parametrize("end", [slice(None, None), slice(None, None, -1)], ids=["start", "end"])
def test_over_a_hundredth_of_the_way_without_times_is_told(end: slice, untimed: int, warned: list[str]) -> None:
    found = analyse(made(np.where(T[end] < untimed, NAN, T), places_m=3 * T))
    assert codes(found) == warned


def test_a_channel_that_begins_further_on_has_what_it_had_in_the_first_split() -> None:
    found = analyse(made(T, places_m=3 * T, distance_m=50 + 3 * T))
    assert found.distance_m == 3_050
    assert [split.distance_m for split in found.details.splits_km] == [1_000, 1_000, 1_000, 50]
    assert [split.elapsed_s for split in found.details.splits_km] == pytest.approx(
        [950 / 3, 1_000 / 3, 1_000 / 3, 50 / 3], abs=0.001
    )


def test_best_efforts_are_for_those_who_did_not_teleport_and_no_faster_than_a_runner_can_be() -> None:
    leapt = np.where(T > 500, 3 * T + 100_000, 3 * T)
    assert analyse(made(T, places_m=leapt)).measured.best_efforts == ()
    assert "teleport" in codes(analyse(made(T, places_m=leapt)))
    assert analyse(made(T, distance_m=leapt)).measured.best_efforts == ()
    for speed_mps, efforts in ((3, 4), (15, 0)):  # a ride may turn out to be a run, as its runner says later
        found = analyse(made(T, distance_m=speed_mps * T, sport=Sport.CYCLING))
        assert len(found.measured.best_efforts) == efforts


@pytest.mark.parametrize("places_m", [25 * T, np.where(T < 250, 8 * T, 14 * T - 1_500)], ids=["all", "most of it"])
def test_a_car_called_a_run_has_no_best_efforts(places_m: FloatColumn) -> None:
    found = analyse(made(T, places_m=places_m))
    assert (codes(found), found.measured.best_efforts) == (["too-fast"], ())


@pytest.mark.parametrize("counted_m", [None, 0, 200])
def test_a_lift_taken_while_the_timer_stood_is_no_run_whoever_tells_the_distance(counted_m: float | None) -> None:
    later = T > 500
    t, places, heights = T + 1_200 * later, 3 * T + 2_200 * later, 400 + 800.0 * later
    counted = {} if counted_m is None else {"distance_m": 3 * T + counted_m * later}
    found = analyse(made(t, places_m=places, altitude_m=heights, breaks=(501,), **counted))  # type: ignore[arg-type]  # a column
    assert (found.elevation_gain_m, found.moving_s) == (0, 999)
    assert found.distance_m == pytest.approx(3_000 + (counted_m or 0), abs=3)
    assert [effort.name for effort in found.measured.best_efforts] == ["400 m", "1/2 mile", "1 km"]
    assert [split.elevation_gain_m for split in found.details.splits_km] == [0] * len(found.details.splits_km)
    assert codes(found) == ["gap"]


@pytest.mark.parametrize("counted_m", [600, 1_400])
def test_a_way_that_the_device_counts_in_part_is_in_the_time_as_in_the_distance(counted_m: float) -> None:
    later = T > 500
    found = analyse(
        made(T + 600 * later, places_m=3 * T + 3_000 * later, distance_m=3 * T + counted_m * later, breaks=(501,))
    )
    assert (found.distance_m, found.moving_s, codes(found)) == (3_000 + counted_m, 1_600, [])
    assert sum(split.moving_s for split in found.details.splits_km) == pytest.approx(1_600, abs=0.005)


def test_a_clock_that_was_never_set_is_told() -> None:
    unset = datetime(1990, 1, 1, tzinfo=UTC)
    assert "clock-unset" in codes(analyse(made(T, places_m=3 * T, started_at=unset)))


def test_a_clock_that_jumped_is_told() -> None:
    assert "clock-jump" in codes(analyse(made([0, 1, 2, 500_000, 500_001, 500_002], distance_m=[0, 3, 6, 9, 12, 15])))


def test_the_file_s_own_warnings_come_first() -> None:
    assert analyse(made(places_m=T), ["truncated: early"]).measured.warnings[0] == "truncated: early"


@pytest.mark.parametrize(
    "session",
    [
        made(),
        made([0]),
        made([0], places_m=[0]),
        made([NAN, NAN], places_m=[NAN, NAN]),
        made([5.0] * 1_000, places_m=[7.0] * 1_000),
        made(seconds(1_000), places_m=np.full(1_000, 7.0)),
        made([0, 1], distance_m=[NAN, NAN], heart_rate_bpm=[NAN, 0]),
    ],
)
def test_next_to_nothing_sums_up_to_nothing(session: Session) -> None:
    found = analyse(session)
    assert found.distance_m == 0
    assert found.measured.avg_speed_mps is None
    assert found.measured.avg_heart_rate_bpm is None


VALUES = st.floats(-1e9, 1e9) | st.just(NAN) | st.floats(0, 100)
TRACKS = st.integers(0, 12).flatmap(
    lambda length: st.fixed_dictionaries(
        {},
        optional={
            name: st.lists(
                st.floats(-90, 90) | st.just(NAN) if name is Column.LAT or name is Column.LON else VALUES,
                min_size=length,
                max_size=length,
            ).map(np.array)
            for name in Column
        },
    )
)


@pytest.mark.parametrize(
    ("session", "elapsed_s"),
    [
        (made(T, distance_m=3 * T, device=totals(3_000, 996)), 996),
        (Session(Sport.SWIMMING, STARTED, {}, device=totals(1_500, 2_000, 2_000.9)), 2_000),
    ],
    ids=["points", "totals"],
)
def test_nobody_moves_for_longer_than_it_took(session: Session, elapsed_s: float) -> None:
    found = analyse(session)
    assert (found.elapsed_s, found.moving_s) == (elapsed_s, elapsed_s)


DEVICES = st.builds(totals, *[st.none() | st.floats(0, 200)] * 3)


@settings(deadline=None)
@given(TRACKS, st.sampled_from(list(Sport)), st.integers(1, 11), DEVICES)
def test_whatever_was_recorded_the_sums_can_be(
    columns: dict[Column, np.ndarray], sport: Sport, resumed: int, device: SaidByDevice
) -> None:
    length = max(map(len, columns.values()), default=0)
    session = Session(sport, STARTED, columns, device=device, breaks=(resumed,) if resumed < length else ())
    found = analyse(session)
    assert min(found.distance_m, found.elapsed_s, found.moving_s, found.elevation_gain_m) >= 0
    assert found.moving_s <= found.elapsed_s
    assert b"NaN" not in msgspec.json.encode(found)
    told = msgspec.to_builtins(found)
    assert all(np.isfinite(value) for value in _numbers(told))


def _numbers(told: object) -> list[float]:
    if isinstance(told, dict):
        return [number for value in told.values() for number in _numbers(value)]
    if isinstance(told, list | tuple):
        return [number for value in told for number in _numbers(value)]
    return [told] if isinstance(told, float) else []
