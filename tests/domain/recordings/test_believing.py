from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from domain.recordings.believing import believed
from domain.recordings.recording import Column, DeviceTotals, Format, Lap, Recording, Session
from tests.domain.recordings.tracks import NAN, STARTED, made, seconds, totals


def after(session: Session) -> tuple[Session, tuple[str, ...]]:
    found = believed(Recording(Format.GPX, (session,)))
    return found.sessions[0], found.warnings


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("heart_rate_bpm", [120, 255, 65_535, -1]),
        ("cadence_spm", [170, 301, 600, -2]),
        ("altitude_m", [40, 12_607, 9_001, -501]),
        ("power_w", [250, 65_535, 4_001, -1]),
        ("temperature_c", [20, 127, 91, -128]),
        ("speed_mps", [3, 151, 65.535 * 10, -1]),
    ],
)
def test_what_no_sensor_can_have_measured_is_left_out_and_told(column: str, values: Sequence[float]) -> None:
    session, warnings = after(made(seconds(4), **{column: values}))  # type: ignore[arg-type]  # a column
    assert np.isnan(session.columns[Column(column)]).tolist() == [False, True, True, True]
    assert warnings[0].startswith(f"out-of-range: 3 values of {column} outside of")


def test_a_channel_of_nothing_else_is_none() -> None:
    session, _ = after(made(seconds(2), heart_rate_bpm=[255, 255]))
    assert Column.HEART_RATE not in session.columns


def test_zero_is_a_strap_without_contact_and_stays() -> None:
    session, warnings = after(made(seconds(2), heart_rate_bpm=[0, 120], altitude_m=[-500, 9_000]))
    assert session.columns[Column.HEART_RATE].tolist() == [0, 120]
    assert warnings == ()


def test_a_position_at_0_0_is_no_fix() -> None:
    session, warnings = after(made(seconds(3), lat=[0, 0, 52], lon=[0, 13, 13]))
    assert np.isnan(session.columns[Column.LAT]).tolist() == [True, False, False]
    assert np.isnan(session.columns[Column.LON]).tolist() == [True, False, False]
    assert warnings[0].startswith("no-fix: 1 positions at 0, 0")


@pytest.mark.parametrize("device", [totals(distance_m=4e7), totals(elapsed_s=4e7), totals(timer_s=4e7)])
def test_totals_that_cannot_be_are_left_out(device: DeviceTotals) -> None:
    session, warnings = after(made(device=device))
    assert session.device == totals()
    assert warnings[0].startswith("device-totals: 1")


DAY_S = 86_400.0


@pytest.mark.parametrize("days", [2, 30, 900, 14_600, -20])
@pytest.mark.parametrize("many", [1, 5, 60])
def test_a_run_begins_when_most_of_it_was_whatever_a_few_first_points_say(days: float, many: int) -> None:
    t = np.where(seconds(700) < many, seconds(700), seconds(700) + days * DAY_S)
    session, warnings = after(made(t, heart_rate_bpm=t))
    assert session.started_at == STARTED + timedelta(days=days, seconds=1)
    assert session.columns[Column.T].tolist() == [*range(many), *range(many - 1, 699)]
    assert len(session) == 700
    assert warnings[0].startswith(f"clock-jump: {many} first points")


def test_first_points_of_several_days_all_lead_up_to_the_run() -> None:
    t = np.array([0, NAN, 10 * DAY_S, 50 * DAY_S, *(51 * DAY_S + 1 + seconds(100))])
    session, _ = after(made(t))
    assert session.started_at == STARTED + timedelta(days=51, seconds=1)
    assert session.columns[Column.T].tolist()[2:6] == [0, 0, 0, 1]


def test_a_lap_of_the_day_before_begins_with_the_run() -> None:
    own = Lap(STARTED + timedelta(days=9, seconds=50), None, None)
    laps = (Lap(STARTED, None, None), own, Lap(None, None, None))
    session, _ = after(replace(made([0, *(9 * DAY_S + seconds(100))]), laps=laps))
    assert session.laps == (Lap(STARTED + timedelta(days=9), None, None), own, Lap(None, None, None))


def test_a_time_before_the_start_is_no_new_start() -> None:
    assert after(made([-2 * DAY_S, *seconds(100)]))[0].started_at == STARTED


@pytest.mark.parametrize(("before", "points"), [(61, 10_000), (11, 100), (350, 700), (699, 700)])
def test_more_than_a_few_points_of_another_day_are_a_day_of_the_run(before: int, points: int) -> None:
    t = np.where(seconds(points) < before, seconds(points), seconds(points) + 3 * DAY_S)
    session, warnings = after(made(t))
    assert (session.started_at, session.columns[Column.T].tolist(), warnings) == (STARTED, t.tolist(), ())
