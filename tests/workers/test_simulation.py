import numpy as np
import pytest

from domain.recordings.analysis import analyse
from domain.recordings.cleaning import step_lengths
from domain.recordings.recording import Column
from tests.recordings import BERLIN, session


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kilometres", [1.0, 10.0])
def test_a_simulated_run_is_believable(seed: int, kilometres: float) -> None:
    found = analyse(session(seed, kilometres))
    assert found.distance_m == pytest.approx(kilometres * 1_000, rel=0.02)
    assert found.measured.warnings == ()
    assert found.measured.distance_source == "recorded"
    assert 18 <= found.elapsed_s - kilometres * 330 <= 75  # the wait at the crossing
    assert found.moving_s == pytest.approx(kilometres * 330, rel=0.02)
    assert 2.5 < (found.measured.avg_speed_mps or 0) < (found.measured.max_speed_mps or 0) < 6
    assert 100 < (found.measured.avg_heart_rate_bpm or 0) < 175
    assert 160 < (found.measured.avg_cadence_spm or 0) < 185
    assert found.elevation_gain_m > 0


def test_the_same_seed_is_the_same_run_and_another_another() -> None:
    once, again, other = session(1), session(1), session(2)
    for name, column in once.columns.items():
        np.testing.assert_array_equal(column, again.columns[name])
    assert not np.array_equal(once.columns[Column.LAT], other.columns[Column.LAT])


def test_it_starts_and_ends_at_home() -> None:
    columns = session(3, 5.0).columns
    for end in (0, -1):
        way = step_lengths(
            np.array([columns[Column.LAT][end], BERLIN[0]]), np.array([columns[Column.LON][end], BERLIN[1]])
        )
        assert way[0] < 15


def test_the_distance_channel_is_the_way_along_the_positions() -> None:
    columns = session(4).columns
    steps = step_lengths(columns[Column.LAT], columns[Column.LON])
    np.testing.assert_allclose(columns[Column.DISTANCE][1:], np.cumsum(steps), atol=0.01)
