from datetime import UTC, datetime

import pytest

from domain.measures import Sport
from domain.recordings.recording import Column, EmptyRecording
from infra.formats import parse
from tests.recordings import TCX

SPACE = "http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"


def tcx(*activities: str) -> bytes:
    body = "".join(activities)
    return f'<TrainingCenterDatabase xmlns="{SPACE}"><Activities>{body}</Activities></TrainingCenterDatabase>'.encode()


def activity(*laps: str, sport: str = "Running") -> str:
    return f'<Activity Sport="{sport}"><Id>2026-05-02T06:00:00Z</Id>{"".join(laps)}</Activity>'


def lap(*tracks: str, seconds: float = 60, metres: float = 200) -> str:
    totals = f"<TotalTimeSeconds>{seconds}</TotalTimeSeconds><DistanceMeters>{metres}</DistanceMeters>"
    body = "".join(f"<Track>{track}</Track>" for track in tracks)
    return f'<Lap StartTime="2026-05-02T06:00:00Z">{totals}<Calories>15</Calories>{body}</Lap>'


def point(second: int, inside: str = "") -> str:
    place = "<LatitudeDegrees>52.5</LatitudeDegrees><LongitudeDegrees>13.4</LongitudeDegrees>"
    time = f"<Time>2026-05-02T06:00:{second:02}Z</Time>"
    return f"<Trackpoint>{time}<Position>{place}</Position>{inside}</Trackpoint>"


def test_a_lap_s_points_become_columns() -> None:
    (session,) = parse(TCX).sessions
    assert (session.sport, session.started_at) == (Sport.RUNNING, datetime(2026, 5, 2, 6, tzinfo=UTC))
    assert session.columns[Column.DISTANCE].tolist() == [0, 100, 200]
    assert session.columns[Column.HEART_RATE].tolist() == [120, 130, 140]
    assert session.columns[Column.CADENCE].tolist() == [160, 168, 176]
    assert session.columns[Column.ALTITUDE].tolist() == [40, 42, 44]


def test_the_device_s_totals_are_the_sums_over_its_laps() -> None:
    (session,) = parse(tcx(activity(lap(point(0), metres=200), lap(point(1), metres=300.5, seconds=61)))).sessions
    assert session.device.distance_m == 500.5
    assert session.device.timer_s == 121.0
    assert session.device.calories_kcal == 30
    assert [one.distance_m for one in session.laps] == [200, 300.5]


def test_decimals_after_a_comma_are_read() -> None:
    inside = "<DistanceMeters>7.5</DistanceMeters><AltitudeMeters>40.5</AltitudeMeters>"
    content = tcx(activity(lap(point(0, inside) * 3, seconds=60.5, metres=200.25))).replace(b".", b",")
    (session,) = parse(content).sessions
    assert (session.device.timer_s, session.device.distance_m) == (60.5, 200.25)
    values = {name: column[0] for name, column in session.columns.items()}
    assert values == {"t": 0, "lat": 52.5, "lon": 13.4, "distance_m": 7.5, "altitude_m": 40.5}


def test_a_trackpoint_s_distance_is_not_the_lap_s() -> None:
    (session,) = parse(tcx(activity(lap(point(0, "<DistanceMeters>7</DistanceMeters>"), metres=200)))).sessions
    assert session.device.distance_m == 200.0
    assert session.columns[Column.DISTANCE].tolist() == [7]


def test_every_activity_is_a_session() -> None:
    recording = parse(tcx(activity(lap(point(0))), activity(lap(point(0), point(9)), sport="Biking")))
    assert [one.sport for one in recording.sessions] == [Sport.RUNNING, Sport.CYCLING]
    assert recording.sessions[1].breaks == (1,)


def test_extensions_give_speed_power_and_run_cadence() -> None:
    inside = "<Extensions><TPX><Speed>3.1</Speed><RunCadence>85</RunCadence><Watts>250</Watts></TPX></Extensions>"
    (session,) = parse(tcx(activity(lap(point(0, inside))))).sessions
    found = {name: session.columns[name].tolist() for name in (Column.SPEED, Column.CADENCE, Column.POWER)}
    assert found == {Column.SPEED: [3.1], Column.CADENCE: [170], Column.POWER: [250]}


def test_a_value_that_is_no_heart_rate_is_none() -> None:
    lean = "<Extensions><Lean><Value>7</Value></Lean></Extensions>"
    (session,) = parse(tcx(activity(lap(point(0, f"<HeartRateBpm><Value>120</Value></HeartRateBpm>{lean}"))))).sessions
    assert session.columns[Column.HEART_RATE].tolist() == [120]


def test_a_file_that_breaks_off_keeps_its_points_and_its_sport() -> None:
    whole = tcx(activity(lap(point(0) + point(1) + point(2))))
    recording = parse(whole[: whole.rindex(b"<Trackpoint")])
    (session,) = recording.sessions
    assert (session.sport, len(session)) == (Sport.RUNNING, 2)
    assert recording.warnings[0].startswith("truncated")


@pytest.mark.parametrize(
    ("identity", "first", "later", "offset_s"),
    [
        ("Z", "+05:30", "+09:00", 19_800),
        ("+09:00", "+05:30", "Z", 19_800),
        ("+05:30", "Z", "Z", 19_800),
        ("Z", "Z", "+05:30", None),
    ],
)
def test_the_first_point_tells_the_offset_or_else_the_activity(
    identity: str, first: str, later: str, offset_s: int | None
) -> None:
    points = "".join(f"<Trackpoint><Time>2026-05-01T00:30:00{zone}</Time></Trackpoint>" for zone in (first, later))
    content = tcx(activity(lap(points))).replace(b"T06:00:00Z</Id>", b"T06:00:00%s</Id>" % identity.encode())
    assert parse(content).utc_offset_s == offset_s


def test_an_activity_without_points_tells_its_offset() -> None:
    assert parse(tcx(activity(lap())).replace(b"Z</Id>", b"+05:30</Id>")).utc_offset_s == 19_800


def test_a_lap_without_points_counts_by_its_totals() -> None:
    (session,) = parse(tcx(activity(lap(metres=5_000)))).sessions
    assert len(session) == 0
    assert session.device.distance_m == 5_000.0


def test_a_lap_that_tells_its_time_alone_is_an_activity() -> None:
    (session,) = parse(tcx(activity(lap(seconds=1_800, metres=0)))).sessions
    assert (len(session), session.device.timer_s) == (0, 1_800.0)


@pytest.mark.parametrize("content", [tcx(), tcx(activity(lap(seconds=0, metres=0)))])
def test_a_file_of_neither_is_empty(content: bytes) -> None:
    with pytest.raises(EmptyRecording, match="send an activity"):
        parse(content)


@pytest.mark.parametrize("end", [b"</Courses>", b"<Trackpoint>"])
def test_a_course_is_no_recording_whole_or_cut_off(end: bytes) -> None:
    body = f"<Course><Name>C</Name><Track>{point(0)}{point(1)}{point(2)}</Track></Course>"
    course = f"<TrainingCenterDatabase><Courses>{body}</Courses></TrainingCenterDatabase>".encode()
    with pytest.raises(EmptyRecording):
        parse(course[: course.rindex(end)])


@pytest.mark.parametrize("name", ["Running", "TrailRunning", "Indoor Running"])
def test_a_run_is_a_run_however_it_is_spelt(name: str) -> None:
    (session,) = parse(tcx(activity(lap(point(0)), sport=name))).sessions
    assert session.sport is Sport.RUNNING
