from datetime import datetime, timedelta

import numpy as np
import pytest

from domain.recordings import similarity
from domain.recordings.cleaning import step_lengths
from domain.recordings.recording import Column, FloatColumn, Session
from domain.recordings.similarity import Path, Span, overlap, same_run
from tests.recordings import STARTED, session

NAN = float("nan")


def path_of(run: Session, *, east_m: float = 0.0) -> Path | None:
    lon = run.columns[Column.LON] + east_m / 67_800  # metres of a degree in Berlin
    return Path.of(run.columns[Column.T], run.columns[Column.LAT], lon)


def span_of(run: Session) -> Span:
    assert run.started_at is not None
    return Span(run.started_at, float(run.columns[Column.T][-1]), float(run.columns[Column.DISTANCE][-1]))


def test_a_run_is_the_same_as_itself() -> None:
    run = session(1)
    assert same_run(span_of(run), path_of(run), span_of(run), path_of(run))


@pytest.mark.parametrize(("east_m", "expected"), [(20.0, True), (60.0, True), (400.0, False)])
def test_receivers_may_differ_by_some_metres(east_m: float, *, expected: bool) -> None:
    run = session(1)
    assert same_run(span_of(run), path_of(run), span_of(run), path_of(run, east_m=east_m)) is expected


@pytest.mark.parametrize(("seconds", "expected"), [(5, True), (60, True), (-60, True), (3_600, False)])
def test_clocks_may_differ_by_a_minute(seconds: int, *, expected: bool) -> None:
    one, other = session(1), session(1, started_at=STARTED + timedelta(seconds=seconds))
    assert same_run(span_of(one), path_of(one), span_of(other), path_of(other)) is expected
    assert same_run(span_of(other), path_of(other), span_of(one), path_of(one)) is expected


def test_a_device_that_records_every_tenth_point_only_has_the_same_run() -> None:
    run = session(1)
    columns = (run.columns[name][::10] for name in (Column.T, Column.LAT, Column.LON))
    assert same_run(span_of(run), path_of(run), span_of(run), Path.of(*columns))


@pytest.mark.parametrize(("east_m", "expected"), [(20.0, True), (60.0, True), (400.0, False)])
@pytest.mark.parametrize("seconds", [0, 60, -60])
def test_however_dense_a_track_is_few_of_its_places_are_compared(
    east_m: float, seconds: int, *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = session(1), session(1, started_at=STARTED + timedelta(seconds=seconds))
    t, lat, lon = (run.columns[name] for name in (Column.T, Column.LAT, Column.LON))
    many = np.linspace(t[0], t[-1], 100_000)
    dense = Path.of(many, np.interp(many, t, lat), np.interp(many, t, lon))
    compared = []

    def counting(lats: FloatColumn, lons: FloatColumn) -> FloatColumn:
        compared.append(len(lats))
        return step_lengths(lats, lons)

    monkeypatch.setattr(similarity, "step_lengths", counting)
    assert same_run(span_of(run), path_of(run, east_m=east_m), span_of(other), dense) is expected
    assert max(compared) < 400


def test_two_runners_of_one_account_at_one_time_are_two() -> None:
    one, other = session(1), session(2)
    assert not same_run(span_of(one), path_of(one), span_of(other), path_of(other, east_m=5_000))


@pytest.mark.parametrize(("share", "expected"), [(0.5, False), (0.75, False), (0.85, True)])
def test_two_who_ran_together_for_a_part_of_the_way_are_two(share: float, *, expected: bool) -> None:
    run = session(1)
    t, lon = run.columns[Column.T], run.columns[Column.LON]
    parted = np.where(t > share * t[-1], lon + 400 / 67_800, lon)
    other = Path.of(t, run.columns[Column.LAT], parted)
    assert same_run(span_of(run), path_of(run), span_of(run), other) is expected


def test_a_part_of_a_run_counts_by_itself() -> None:
    whole, part = session(1, kilometres=10), session(1, kilometres=3)
    assert not same_run(span_of(whole), path_of(whole), span_of(part), path_of(part))


@pytest.mark.parametrize(
    ("distance_m", "elapsed_s", "expected"),
    [(5_000.0, 1_800.0, True), (5_500.0, 1_850.0, True), (6_500.0, 1_800.0, False), (5_000.0, 1_500.0, False)],
)
def test_without_positions_times_and_distances_decide(distance_m: float, elapsed_s: float, *, expected: bool) -> None:
    one, other = Span(STARTED, 1_800.0, 5_000.0), Span(STARTED, elapsed_s, distance_m)
    assert same_run(one, None, other, path_of(session(1))) is expected


@pytest.mark.parametrize(
    ("start", "elapsed_s", "share"),
    [(0, 100.0, 1.0), (50, 100.0, 0.5), (-50, 100.0, 0.5), (25, 50.0, 0.5), (100, 100.0, 0.0), (999, 5.0, 0.0)],
)
def test_overlap_is_a_share_of_the_longer(start: int, elapsed_s: float, share: float) -> None:
    one = Span(STARTED, 100.0, 0.0)
    assert overlap(one, Span(STARTED + timedelta(seconds=start), elapsed_s, 0.0)) == share


def test_no_time_overlaps_with_nothing() -> None:
    assert overlap(Span(STARTED, 0.0, 0.0), Span(STARTED, 0.0, 0.0)) == 0


def test_points_that_lack_time_or_place_are_left_out() -> None:
    path = Path.of(np.array([2.0, NAN, 1.0, 4.0]), np.array([52.0, 52.1, 51.0, NAN]), np.array([13.0] * 4))
    assert path is not None
    assert path.t.tolist() == [1.0, 2.0]
    assert path.lat.tolist() == [51.0, 52.0]
    assert Path.of(np.array([NAN, 1.0]), np.array([1.0, 1.0]), np.array([1.0, 1.0])) is None


def test_over_the_date_line_it_is_near() -> None:
    t, lat = np.array([0.0, 600.0]), np.array([0.0, 0.0])
    one, other = Path(t, lat, np.array([179.9999, 179.9999])), Path(t, lat, np.array([-179.9999, -179.9999]))
    span = Span(datetime.fromisoformat("2026-05-01T00:00:00Z"), 600.0, 0.0)
    assert same_run(span, one, span, other)
