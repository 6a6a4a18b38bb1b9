"""What we write is read again as it was, by us and by others. FIT beside fitdecode: its own file."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gpxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.measures import Sport
from domain.recordings.analysis import analyse
from domain.recordings.exports import ExportNeedsPositions, ExportNeedsTimes, Totals, session_of
from domain.recordings.reading import SessionRead
from domain.recordings.recording import DECIMALS, Column, Format, Session
from infra.formats import fit_profile as profile
from infra.formats import parse
from infra.formats.fit_messages import walk
from infra.formats.fit_writer import write_fit
from infra.formats.gpx_writer import write_gpx
from infra.formats.track import decode
from infra.reader import read
from tests.infra.formats.real_files import paths
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


def _column(name: Column, low: float, high: float) -> st.SearchStrategy[list[float]]:
    values = st.floats(low, high).map(lambda value: round(value, DECIMALS[name]))
    return st.lists(values if name in (Column.LAT, Column.LON) else values | st.just(np.nan), min_size=12, max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            Column.LAT: _column(Column.LAT, 0.1, 90),  # 0, 0 is no fix
            Column.LON: _column(Column.LON, -180, 180),
            Column.ALTITUDE: _column(Column.ALTITUDE, -500, 9_000),
            Column.HEART_RATE: _column(Column.HEART_RATE, 0, 250),
            Column.CADENCE: _column(Column.CADENCE, 0, 180),  # more is taken for both feet of a walker
            Column.POWER: _column(Column.POWER, 0, 3_000),
            Column.TEMPERATURE: _column(Column.TEMPERATURE, -60, 60),
        }
    ),
    st.lists(st.integers(1, 100_000), min_size=11, max_size=11),
    st.sampled_from(Sport),
    st.sets(st.integers(1, 11)),
    st.integers(0, 10**16).map(lambda after: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=3600 + after / 3e6)),
)
def test_whatever_is_kept_is_in_a_gpx(
    values: dict[Column, list[float]], steps_ms: list[int], sport: Sport, breaks: set[int], started_at: datetime
) -> None:
    columns = {name: np.array(column) for name, column in values.items()}
    columns[Column.T] = np.round(np.cumsum([0, *steps_ms]) / 1000, 3)
    written = Session(sport, started_at, columns, breaks=tuple(sorted(breaks)))
    found = reread(write_gpx(written))
    assert (found.sport, found.started_at, found.breaks) == (written.sport, written.started_at, written.breaks)
    for name, column in columns.items():
        missing = np.full(len(column), np.nan)
        tolerance = 0.011 if name is Column.CADENCE else 0.0  # of both feet: one foot's has two decimals
        np.testing.assert_allclose(found.columns.get(name, missing), column, atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.parametrize(
    "path", [*paths("gpx")[:3], *paths("tcx")[-1:], *paths("fit")[6:8]], ids=lambda path: path.name
)
def test_what_a_device_recorded_survives_a_gpx(path: Path) -> None:
    (written,) = parse(path.read_bytes()).sessions
    placed = ~np.isnan(written.columns[Column.LAT] + written.columns[Column.LON])
    found = reread(write_gpx(written))
    assert found.started_at == written.started_at
    for name, column in written.columns.items():
        if name in found.columns:
            tolerance = 0.011 if name is Column.CADENCE else 0.501 * 10.0 ** -DECIMALS[name]
            np.testing.assert_allclose(found.columns[name], column[placed], atol=tolerance, rtol=0, err_msg=name)
    assert written.columns.keys() - found.columns.keys() <= {Column.DISTANCE, Column.SPEED}


def test_a_long_gpx_has_every_point_once() -> None:
    t = np.arange(20_001.0)
    columns = {Column.T: t, Column.LAT: np.round(t / 1e4, 4), Column.LON: np.ones(len(t))}
    found = reread(write_gpx(Session(Sport.RUNNING, session().started_at, columns, breaks=(5, 10_005))))
    np.testing.assert_array_equal(found.columns[Column.T], t)
    np.testing.assert_array_equal(found.columns[Column.LAT], columns[Column.LAT])
    assert found.breaks == (5, 10_005)


def test_a_point_has_what_the_sensors_said_in_records_of_their_own() -> None:
    t = np.array([0.0, 1.0, 2.0, 3.0, 30.0, 31.0])
    lat = np.array([52.0, np.nan, 52.001, np.nan, 52.002, 52.003])
    heart_rate = np.array([np.nan, 120.0, np.nan, 124.0, np.nan, np.nan])
    power = np.array([200.0, 210.0, np.nan, 230.0, 240.0, 250.0])  # which points have, where they have it
    cadence = np.array([np.nan, np.nan, np.nan, 170.0, np.nan, np.nan])
    altitude = np.full(6, np.nan)
    named = (Column.T, Column.LAT, Column.LON, Column.HEART_RATE, Column.CADENCE, Column.ALTITUDE, Column.POWER)
    columns = dict(zip(named, (t, lat, lat, heart_rate, cadence, altitude, power), strict=True))
    found = reread(write_gpx(Session(Sport.RUNNING, session().started_at, columns))).columns
    np.testing.assert_array_equal(found[Column.HEART_RATE], [120, 120, np.nan, np.nan])  # too long ago
    np.testing.assert_array_equal(found[Column.POWER], [200, np.nan, 240, 250])
    np.testing.assert_array_equal(found[Column.CADENCE], [170, 170, np.nan, np.nan])
    assert Column.ALTITUDE not in found


def test_a_session_without_positions_is_no_gpx() -> None:
    for columns in ({}, {Column.T: np.arange(2.0)}, {Column.LAT: np.full(2, np.nan), Column.LON: np.ones(2)}):
        with pytest.raises(ExportNeedsPositions):
            write_gpx(Session(Sport.RUNNING, session().started_at, columns))


def test_a_title_cannot_break_out_of_a_gpx() -> None:
    for title in ("</name></trk><trk>", "]]>", "&#0;\x00", "\ud83d\ude00</trk>"):
        found = reread(write_gpx(replace(session(), title=title.encode("utf-16", "surrogatepass").decode("utf-16"))))
        assert len(found) == len(session())
        assert found.title


def test_an_odd_cadence_and_a_long_title_survive_a_fit() -> None:
    cadence = np.array([171.0, 172.0, 0.0, np.nan])
    columns = {Column.T: np.arange(4.0), Column.CADENCE: cadence}
    found = reread(write_fit(Session(Sport.RUNNING, session().started_at, columns, title="ü" * 200)))
    np.testing.assert_array_equal(found.columns[Column.CADENCE], cadence)
    assert found.title == "ü" * 127


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


def test_a_fit_says_the_totals_it_is_given() -> None:
    content = write_fit(session(), Totals(2_950.25, 1_010.862, 900.5))
    found = reread(content)
    assert (found.device.distance_m, found.device.elapsed_s, found.device.timer_s) == (2_950.25, 1_010.862, 900.5)
    assert [(lap.distance_m, lap.elapsed_s) for lap in found.laps] == [(2_950.25, 1_010.862)]
    for message, timer in ((profile.LAP, profile.TIMER), (profile.ACTIVITY, profile.Field(0, 1000))):
        assert walk(content).of(content, message).column(timer).tolist() == [900.5]


@pytest.mark.parametrize("utc_offset_s", [None, -5 * 3600, 0, 20_700])
def test_a_fit_says_calories_and_what_clocks_showed(utc_offset_s: int | None) -> None:
    content = write_fit(session(), Totals(3_000, 1_500, 900, calories_kcal=444.6, utc_offset_s=utc_offset_s))
    recording = parse(content)
    assert recording.utc_offset_s == utc_offset_s
    assert recording.sessions[0].device.calories_kcal == 445


def test_a_fit_says_the_climb_and_the_heart_rate_that_only_the_device_told() -> None:
    bare = replace(session(), columns={Column.T: np.arange(1_501.0)})
    told = Totals(3_000, 1_500, 900, elevation_gain_m=250.4, avg_heart_rate_bpm=151.0, max_heart_rate_bpm=171.6)
    content = write_fit(bare, told)
    said = walk(content).of(content, profile.SESSION)
    assert [said.column(profile.Field(number)).tolist() for number in (16, 17, 22)] == [[151], [172], [250]]
    found = analyse(reread(content))
    assert found.elevation_gain_m == 250
    assert (found.measured.avg_heart_rate_bpm, found.measured.max_heart_rate_bpm) == (151, 172)


def _activity(content: bytes) -> SessionRead:
    (only,) = read(content).sessions
    return only


def _exported(activity: SessionRead, kind: Format = Format.FIT) -> bytes:
    assert activity.started_at is not None
    columns: dict[str, list[float | None]] = {name: column.tolist() for name, column in decode(activity.track).items()}
    kept = session_of(activity.sport, activity.started_at, columns)
    if kind is Format.GPX:
        return write_gpx(kept, activity.distance_m)
    return write_fit(kept, Totals(activity.distance_m, activity.elapsed_s, activity.moving_s))


@pytest.mark.parametrize("kind", [Format.FIT, Format.GPX])
@pytest.mark.parametrize("written", [Format.FIT, Format.GPX])
@pytest.mark.parametrize("degrees", [0.2, 0.6])  # 9 and 28 m/s
def test_a_ride_on_a_train_amid_a_run_is_none_in_its_export_either(
    degrees: float, written: Format, kind: Format
) -> None:
    run = session(kilometres=4)
    later, half = np.arange(len(run)) >= len(run) // 2, len(run) // 2
    columns = {name: run.columns[name] for name in (Column.LAT, Column.LON, Column.T)}
    columns[Column.T] = columns[Column.T] + np.where(later, 2_400, 0)
    columns[Column.LAT] = columns[Column.LAT] + np.where(later, degrees, 0)
    ridden = replace(run, columns=columns, breaks=(half,))
    sent = _activity(write_gpx(ridden) if written is Format.GPX else write_fit(ridden))
    again = _activity(_exported(sent, kind))
    assert sent.distance_m == pytest.approx(4_000, rel=0.02)
    assert again.distance_m == pytest.approx(sent.distance_m, abs=1)
    assert again.moving_s == pytest.approx(sent.moving_s, abs=5)


def _untimed(*gaps: slice, apart: int = 1) -> bytes:
    """A run with a pause as a GPX, every so many points of it, some without a time."""
    run = session(kilometres=10)
    columns = {name: column[::apart].copy() for name, column in run.columns.items()}
    for gap in gaps:
        columns[Column.T][gap] = np.nan
    return write_gpx(replace(run, columns=columns, breaks=()))


@pytest.mark.parametrize(
    "content",
    [
        write_gpx(session()),
        write_fit(session(), Totals(3_000, 1_500.862, 900)),
        _untimed(slice(100), slice(300, 340), slice(-60, None)),
        _untimed(slice(20), slice(-12, None), apart=50),
        _untimed(slice(1, None, 2), apart=20),
    ],
    ids=["pause", "device", "untimed", "far apart", "every other"],
)
def test_an_activity_is_the_same_again_from_its_fit(content: bytes) -> None:
    before = _activity(content)
    after = _activity(_exported(before))
    assert after.measured.points == before.measured.points
    assert (after.distance_m, after.elapsed_s) == (before.distance_m, before.elapsed_s)
    assert after.moving_s == pytest.approx(before.moving_s, abs=1)
    said = after.measured.device
    assert said is not None
    assert (said.distance_m, said.elapsed_s, said.timer_s) == (before.distance_m, before.elapsed_s, before.moving_s)
    assert after.measured.warnings == before.measured.warnings


def test_a_point_without_a_time_gets_its_neighbours_in_a_fit() -> None:
    t = np.array([np.nan, 0.0, np.nan, np.nan, 60.0, 61.0, 62.0, np.nan])
    columns = {Column.T: t, Column.HEART_RATE: np.full(8, 120.0)}
    found = reread(write_fit(Session(Sport.RUNNING, session().started_at, columns)))
    assert found.columns[Column.T].tolist() == [0, 0, 20, 40, 60, 61, 62, 62]


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
    with pytest.raises(ExportNeedsTimes):
        write_fit(Session(Sport.RUNNING, session().started_at, {}))
    with pytest.raises(ExportNeedsTimes):
        write_fit(Session(Sport.RUNNING, None, {Column.LAT: np.array([1.0]), Column.LON: np.array([1.0])}))
