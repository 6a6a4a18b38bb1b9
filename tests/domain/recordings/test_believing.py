from collections.abc import Sequence

import numpy as np
import pytest

from domain.recordings.believing import believed
from domain.recordings.recording import Column, DeviceTotals, Format, Recording, Session
from tests.domain.recordings.tracks import made, seconds, totals


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
