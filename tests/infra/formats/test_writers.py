"""What we write is read again as it was, by us and by others. FIT beside fitdecode: its own file."""

from dataclasses import replace

import gpxpy
import numpy as np
import pytest

from domain.measures import Sport
from domain.recordings.analysis import analyse
from domain.recordings.recording import Column, Session
from infra.formats import parse
from infra.formats.fit_writer import write_fit
from infra.formats.gpx_writer import write_gpx
from tests.recordings import session


def reread(content: bytes) -> Session:
    recording = parse(content)
    assert recording.warnings == ()
    (only,) = recording.sessions
    return only


def test_a_fit_reads_as_it_was_written() -> None:
    written = session()
    found = reread(write_fit(written))
    assert (found.sport, found.started_at, found.breaks) == (written.sport, written.started_at, written.breaks)
    tolerances = {Column.LAT: 1e-7, Column.LON: 1e-7, Column.ALTITUDE: 0.11, Column.DISTANCE: 0.006}
    for name, column in written.columns.items():
        np.testing.assert_allclose(found.columns[name], column, atol=tolerances.get(name, 1e-3), err_msg=name)


def test_a_gpx_reads_as_it_was_written() -> None:
    written = replace(session(), title="Früh <&> spät \x07")
    found = reread(write_gpx(written))
    assert (found.sport, found.started_at, found.breaks) == (written.sport, written.started_at, written.breaks)
    assert found.title == "Früh <&> spät"
    for name in (Column.T, Column.LAT, Column.LON, Column.HEART_RATE, Column.CADENCE):
        np.testing.assert_allclose(found.columns[name], written.columns[name], atol=1e-6, err_msg=name)


def test_a_gpx_is_understood_by_others() -> None:
    (track,) = gpxpy.parse(write_gpx(session()).decode()).tracks
    assert len(track.segments) == 2
    assert track.length_2d() == pytest.approx(3_000, rel=0.02)


def test_the_sums_survive_both() -> None:
    before = analyse(session())
    for content in (write_fit(session()), write_gpx(session())):
        after = analyse(reread(content))
        assert after.distance_m == pytest.approx(before.distance_m, rel=0.01)
        assert after.elapsed_s == before.elapsed_s
        assert after.moving_s == pytest.approx(before.moving_s, abs=5)


def test_points_without_a_position_are_left_out_of_a_gpx() -> None:
    lat = np.array([52.5, np.nan, 52.6])
    columns = {Column.T: np.arange(3.0), Column.LAT: lat, Column.LON: np.full(3, 13.4)}
    found = reread(write_gpx(Session(Sport.RUNNING, session().started_at, columns)))
    assert found.columns[Column.LAT].tolist() == [52.5, 52.6]


def test_what_a_fit_field_cannot_hold_is_missing() -> None:
    columns = {
        Column.T: np.arange(3.0),
        Column.HEART_RATE: np.array([120.0, 300.0, -1.0]),
        Column.ALTITUDE: np.array([10.0, 20_000.0, -600.0]),
    }
    found = reread(write_fit(Session(Sport.RUNNING, session().started_at, columns)))
    assert np.isnan(found.columns[Column.HEART_RATE]).tolist() == [False, True, True]
    assert np.isnan(found.columns[Column.ALTITUDE]).tolist() == [False, True, True]


def test_a_session_without_times_is_no_fit_activity() -> None:
    with pytest.raises(ValueError, match="needs times"):
        write_fit(Session(Sport.RUNNING, None, {Column.LAT: np.array([1.0]), Column.LON: np.array([1.0])}))
