import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from domain.measures import Sport
from domain.recordings.recording import Column, EmptyRecording, UnreadableRecording
from infra.formats import parse


def document(points: dict[str, list[Any]] | None = None, **others: Any) -> bytes:
    columns = {"t": [0, 1], "lat": [52.5, None], "lon": [13.4, None], "cadence_spm": [170, 171]}
    whole = {"started_at": "2026-05-01T09:00:00+02:00", "sport": "running", "points": points or columns, **others}
    return json.dumps(whole).encode()


def test_columns_are_taken_as_they_are_named() -> None:
    (session,) = parse(document(title="Tempo")).sessions
    assert (session.sport, session.title) == (Sport.RUNNING, "Tempo")
    assert session.started_at is not None
    assert (session.started_at, session.started_at.tzinfo) == (datetime(2026, 5, 1, 7, tzinfo=UTC), UTC)
    assert session.columns[Column.CADENCE].tolist() == [170, 171]
    assert np.isnan(session.columns[Column.LAT]).tolist() == [False, True]


def test_a_byte_order_mark_before_it_changes_nothing() -> None:
    assert len(parse(b"\xef\xbb\xbf" + document(title="T\u00e9mpo")).sessions[0]) == 2


@pytest.mark.parametrize(
    ("zone", "offset_s"), [("+05:30", 19_800), ("-03:30", -12_600), ("Z", None), ("+00:00", None), ("+14:30", None)]
)
def test_the_start_tells_the_offset(zone: str, offset_s: int | None) -> None:
    assert parse(document(started_at=f"2026-05-01T00:30:00{zone}")).utc_offset_s == offset_s


def test_texts_have_no_nul_which_no_database_keeps() -> None:
    recording = parse(document(title="\0Tem\0po", device=" \0"))
    assert (recording.sessions[0].title, recording.device_name) == ("Tempo", None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (document({"t": [0, 1], "lat": [1]}), "of one length"),
        (document({"t": [1_700_000_000_000, 1_700_000_001_000]}), "points.t must lie between"),
        (document({"pulse": [1]}), "pulse"),
        (document({"t": [0, "1"]}), "points"),
        (document({"t": [0, 1], "altitude_m": [34, 7]}).replace(b"7", b"1e400"), "JSON recording cannot be read"),
        (document(started_at="2026-05-01T09:00:00"), "started_at"),
        (document(started_at="2500-01-01T00:00:00Z"), "started_at must be a time"),
        (document(surprise=1), "surprise"),
        (document(title="a: b").replace(b'"sport"', b'"title": "c: d", "sport"'), "a key twice"),
        (document().replace(b'"lat"', b'"t": [0, 9], "lat"'), "a key twice"),
        (b'{"started_at": ', "no valid JSON"),
        (b"{" * 100_000, "no valid JSON"),
        (b'{"title": "\xff"}', "no valid JSON"),
    ],
)
def test_what_is_wrong_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableRecording, match=reason):
        parse(content)


@pytest.mark.parametrize(
    ("column", "values", "left", "warning"),
    [
        (Column.LAT, [52.5, 91, 52.5], [52.5, None, 52.5], "misplaced: 1 positions outside"),
        (Column.LON, [13.4, 13.4, -181], [13.4, 13.4, None], "misplaced: 1 positions outside"),
        (Column.ALTITUDE, [34, 1e30, 35], [34, None, 35], "out-of-range: 1 values of altitude_m"),
        (Column.DISTANCE, [0, 3, 1e30], [0, 3, None], "out-of-range: 1 values of distance_m"),
        (Column.T, [0, 1, 1.7e12], [0, 1, None], "out-of-range: 1 values of t outside"),
    ],
)
def test_an_impossible_value_costs_itself(
    column: Column, values: list[float], left: list[float | None], warning: str
) -> None:
    points: dict[str, list[Any]] = {"t": [0, 1, 2], "lat": [52.5] * 3, "lon": [13.4] * 3, column: values}
    recording = parse(document(points))
    (session,) = recording.sessions
    assert [None if np.isnan(value) else value for value in session.columns[column]] == left
    assert [told for told in recording.warnings if told.startswith(warning)] == list(recording.warnings)
    assert len(recording.warnings) == 1


def test_exchanged_positions_are_told_as_that() -> None:
    points: dict[str, list[Any]] = {"t": [0, 1, 2], "lat": [113.4] * 3, "lon": [52.5] * 3}
    assert "seem to be exchanged" in parse(document(points)).warnings[0]


@pytest.mark.parametrize("values", [[], [None], [None] * 99])
def test_no_points_are_empty(values: list[None]) -> None:
    with pytest.raises(EmptyRecording):
        parse(document({"t": values, "lat": values}))


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ({"lat": [999, 999], "lon": [999, 999]}, "no value that can be: misplaced: 2 positions outside"),
        ({"lat": [113.4], "lon": [52.5]}, "seem to be exchanged"),
        ({"distance_m": [1e30, None]}, "no value that can be: out-of-range: 1 values of distance_m"),
    ],
)
def test_points_of_which_none_can_be_are_empty(points: dict[str, list[Any]], told: str) -> None:
    with pytest.raises(EmptyRecording, match=told):
        parse(document(points))
