"""What real devices do to a recording: each case on bytes made for it, and on a real file when it is there."""

import struct
from datetime import UTC, date, datetime, timedelta

import msgspec
import numpy as np
import pytest

from domain.measures import Sport
from domain.recordings.analysis import Details
from domain.recordings.reading import Reading, SessionRead
from domain.recordings.recording import Column
from infra.formats import parse
from infra.reader import read
from tests.infra.formats import real_files
from tests.infra.formats.fit_bytes import BEGIN, RECORD, S32, U8, U16, U32, data, define, fit_file, records, session
from tests.infra.formats.test_gpx import gpx, track
from tests.infra.formats.test_tcx import activity, lap, tcx

REAL = pytest.mark.skipif(not real_files.FOLDER.exists(), reason="no folder of real recordings beside the repository")
START = datetime(2026, 5, 1, 7, tzinfo=UTC)


def real(name: str) -> Reading:
    return read((real_files.FOLDER / name).read_bytes())


def only(reading: Reading) -> SessionRead:
    (found,) = reading.sessions
    return found


def codes(found: SessionRead) -> list[str]:
    return [warning.partition(":")[0] for warning in found.measured.warnings]


def points(*at: tuple[float | None, float], start: datetime = START) -> str:
    """Track points at (second, metres to the north); without a second, without a time."""
    return "".join(
        f'<trkpt lat="{52 + metres / 111_267:.7f}" lon="13"><ele>40</ele>'
        + ("" if second is None else f"<time>{(start + timedelta(seconds=second)).isoformat()}</time>")
        + "</trkpt>"
        for second, metres in at
    )


def steady(first: int, last: int, metres: float = 0.0) -> list[tuple[float | None, float]]:
    """A point a second, three metres apart."""
    return [(second, metres + 3.0 * (second - first)) for second in range(first, last + 1)]


def of_track(*segments: str) -> SessionRead:
    return only(read(gpx(track(*segments))))


# --- time going backwards


def test_a_clock_that_goes_back_costs_only_that_step() -> None:
    found = of_track(points(*steady(0, 300), *steady(200, 500, 903)))
    assert (found.elapsed_s, found.moving_s) == (600, 600)
    assert found.distance_m == pytest.approx(1_803, abs=2)
    assert "clock-jump" in codes(found)


def test_a_lap_that_begins_before_the_last_one_ended_has_no_negative_pause() -> None:
    point = "<Trackpoint><Time>2026-05-01T07:{:02}:{:02}Z</Time><DistanceMeters>{}</DistanceMeters></Trackpoint>"
    first = "".join(point.format(*divmod(second, 60), 3 * second) for second in range(121))
    second = "".join(point.format(*divmod(second, 60), 30 + 3 * second) for second in range(110, 231))
    found = only(read(tcx(activity(lap(first, seconds=120), lap(second, seconds=120)))))
    assert found.elapsed_s == 240
    assert 230 <= found.moving_s <= 240
    assert found.distance_m == 720


def test_a_track_backwards_and_one_whose_segments_repeat_all_before_are_one_run() -> None:
    way = steady(0, 300)
    for found in (of_track(points(*way[::-1])), of_track(*(points(*way[:upto]) for upto in (100, 200, 301)))):
        assert (found.started_at, found.elapsed_s, found.moving_s, found.measured.points) == (START, 300, 300, 301)
        assert found.distance_m == pytest.approx(900, abs=1)
        assert (len(found.measured.best_efforts), found.measured.warnings) == (2, ())


@REAL
@pytest.mark.parametrize(
    ("name", "elapsed_s", "distance_m"),
    [
        ("runalyze__Fenix-2-negative-times.fit", 9_794, 9_098.71),
        ("runalyze__One-second-jump-to-past.fit", 7_115, 42_801.16),
        ("runalyze__time-jump.fit", 3_389, 10_496.97),
        ("sports-lib__inverted-times.fit", 21_680, 7_861.02),  # by its timer: elapsed and timer are exchanged in it
        ("runalyze__runkeeper-negative-time-step-at-start.gpx", 3_330, 22_227),
    ],
)
def test_real_clocks_that_go_back(name: str, elapsed_s: float, distance_m: float) -> None:
    found = only(real(name))
    assert found.elapsed_s == pytest.approx(elapsed_s, abs=15)
    assert found.distance_m == pytest.approx(distance_m, rel=0.01)
    assert 0 < found.moving_s <= found.elapsed_s


@REAL
@pytest.mark.parametrize(
    ("name", "elapsed_s"),
    [
        ("runalyze__Suunto-Ambit-3-Peak-without-final-lap.fit", 4_961),  # 4,035 in its session
        ("runalyze__invalid-altitude-and-empty-record-at-end.fit", 4_820),  # 168 s later it has an empty record
    ],
)
def test_a_real_session_is_as_long_as_its_points(name: str, elapsed_s: float) -> None:
    found = only(real(name))
    assert found.elapsed_s == elapsed_s
    splits = msgspec.json.decode(found.details, type=Details).splits_km
    assert sum(split.elapsed_s for split in splits) == pytest.approx(elapsed_s, abs=1.1)


@REAL
def test_a_real_negative_pause() -> None:
    found = only(real("runalyze__negative-pause.tcx"))
    assert found.distance_m == pytest.approx(3_809.69)  # what its points hold of 72 km
    assert 0 < found.moving_s <= found.elapsed_s == 661
    assert "clock-jump" in codes(found)


def test_a_session_that_tells_less_time_than_its_points_is_as_long_as_they_are() -> None:
    found = only(read(fit_file(records(600), session(BEGIN, 301, 1_797))))
    assert (found.elapsed_s, found.moving_s, found.distance_m) == (599, 599, 1_797)
    assert codes(found)[0] == "device-totals"


# --- pauses


def test_a_pause_is_no_moving_time_and_no_distance() -> None:
    found = of_track(points(*steady(0, 300)), points(*steady(900, 1_200, 905)))
    assert found.elapsed_s == 1_200
    assert found.moving_s == pytest.approx(600, abs=1)
    assert found.distance_m == pytest.approx(1_805, abs=2)


def test_a_pause_in_which_the_runner_was_driven_on_is_no_run() -> None:
    found = of_track(points(*steady(0, 300)), points(*steady(900, 1_200, 50_900)))
    assert found.distance_m == pytest.approx(1_800, abs=2)
    assert codes(found) == ["gap"]


@pytest.mark.parametrize("mps", [6, 20, 33])
def test_a_ride_on_a_train_between_two_segments_is_no_run(mps: float) -> None:
    uphill = points(*steady(2_700, 3_000, 900 + 2_400 * mps)).replace("<ele>40<", "<ele>400<")
    found = of_track(points(*steady(0, 300)), uphill)
    assert found.elevation_gain_m == 0
    assert found.distance_m == pytest.approx(1_800, abs=2)
    assert found.moving_s == pytest.approx(600, abs=1)
    assert [effort.name for effort in found.measured.best_efforts] == ["400 m", "1/2 mile"]
    assert codes(found) == ["gap"]


def test_stops_of_the_timer_are_pauses() -> None:
    stop, event = [(253, U32), (0, U8), (1, U8)], 21
    events = [define(2, event, stop), data(2, stop, BEGIN + 60, 0, 4), data(2, stop, BEGIN + 360, 0, 0)]
    later = [data(0, RECORD, BEGIN + 360 + i, 130, 18_300 + 300 * i) for i in range(60)]
    found = only(read(fit_file(records(61), *events, *later, session(BEGIN, 419, 360))))
    assert found.elapsed_s == 419
    assert found.moving_s == pytest.approx(119, abs=1)
    assert found.distance_m == 360


@REAL
def test_real_pauses_are_the_timer_s() -> None:
    found = only(real("runalyze__Fenix-2-pauses.fit"))
    assert found.elapsed_s == 3_046
    assert found.moving_s == pytest.approx(2_810, abs=3)


@REAL
def test_real_breaks_between_segments_are_neither_time_nor_way() -> None:
    content = (real_files.FOLDER / "runalyze__break-between-trkseg.gpx").read_bytes()
    (parsed,), found = parse(content).sessions, only(read(content))
    t = parsed.columns[Column.T]
    paused = sum(t[at] - t[at - 1] for at in parsed.breaks)
    assert paused > 60
    assert found.moving_s <= found.elapsed_s - paused
    assert found.distance_m == pytest.approx(36_588, abs=1)  # 43.5 km with the way of the longest, an hour


# --- midnight


def test_a_run_over_midnight_is_one_run() -> None:
    late = datetime(2026, 5, 1, 23, 55, tzinfo=UTC)
    found = of_track(points(*steady(0, 600), start=late))
    assert (found.started_at, found.elapsed_s, found.moving_s) == (late, 600, 600)
    assert found.measured.warnings == ()


def test_a_time_with_an_offset_is_of_the_same_moment() -> None:
    content = gpx(track(points(*steady(0, 60)))).replace(b"T07:0", b"T09:0").replace(b"+00:00", b"+02:00")
    assert only(read(content)).started_at == START


@REAL
def test_a_real_ride_over_midnight() -> None:
    reading = real("python-fitparse__sample-activity.fit")
    found = only(reading)
    assert found.started_at is not None
    assert (found.started_at + timedelta(seconds=found.elapsed_s)).date() == found.started_at.date() + timedelta(days=1)
    assert found.elapsed_s == pytest.approx(11_741.57, abs=2)
    local = found.started_at + timedelta(seconds=reading.utc_offset_s or 0)
    assert local.date() >= date(2000, 1, 1)


# --- treadmill


def test_a_treadmill_has_the_device_s_distance_and_no_map() -> None:
    found = only(read(fit_file(records(301), session(BEGIN, 300, 900))))
    assert (found.distance_m, found.measured.distance_source) == (900, "recorded")
    assert found.measured.polyline is None
    assert "no-positions" in codes(found)


def test_a_treadmill_that_tells_totals_only_counts_by_them() -> None:
    fields = [(253, U32), (3, U8)]
    beats = [define(0, 20, fields), *(data(0, fields, BEGIN + i, 120) for i in range(301))]
    found = only(read(fit_file(*beats, session(BEGIN, 300, 900))))
    assert (found.distance_m, found.measured.distance_source) == (900, "device")
    assert found.measured.avg_speed_mps == 3


def test_cadence_that_counts_both_feet_already_is_not_doubled() -> None:
    fields = [(253, U32), (4, U8)]

    def median(cadence: int, sport: int = 1) -> float:
        rows = [data(0, fields, BEGIN + i, cadence) for i in range(10)]
        content = fit_file(define(0, 20, fields), *rows, session(BEGIN, 9, 30, sport))
        return float(np.median(parse(content).sessions[0].columns[Column.CADENCE]))

    assert (median(85), median(170)) == (170, 170)
    walking, hiking = 11, 17
    assert [median(cadence, sport) for sport in (walking, hiking) for cadence in (55, 100)] == [110, 100] * 2


def test_the_sport_that_the_runner_tells_decides_the_cadence() -> None:
    one_foot = "<extensions><cad>80</cad></extensions></trkpt>"
    untold = gpx(track(points(*steady(0, 300)))).replace(b"</trkpt>", one_foot.encode())
    by_sport = {sport: only(read(untold, sport)) for sport in (None, Sport.RUNNING, Sport.CYCLING)}
    assert [
        (found.sport, found.measured.avg_cadence_spm, len(found.measured.best_efforts)) for found in by_sport.values()
    ] == [
        (Sport.OTHER, 80, 2),
        (Sport.RUNNING, 160, 2),
        (Sport.CYCLING, 80, 2),  # in case that it is told to be a run later
    ]


def test_a_run_that_was_a_ride_has_strokes_for_cadence_and_our_json_counts_both_feet() -> None:
    fields = [(253, U32), (4, U8)]
    run = fit_file(define(0, 20, fields), *(data(0, fields, BEGIN + i, 85) for i in range(10)), session(BEGIN, 9, 30))
    ours = b'{"started_at": "2026-05-01T07:00:00Z", "points": {"t": [0, 9], "cadence_spm": [85, 85]}}'
    found = [
        only(read(body, sport)).measured.avg_cadence_spm
        for body, sport in ((run, Sport.CYCLING), (ours, Sport.RUNNING))
    ]
    assert found == [85, 85]


@REAL
@pytest.mark.parametrize(
    ("name", "distance_m"),
    [
        ("runalyze__Treadmill-doubled-cadence.tcx", 498),
        ("runalyze__FR920xt-with-runscribe-plus.fit", 5_006.48),
        ("sports-lib__6860622783.fit", 10_630.37),
    ],
)
def test_real_treadmills(name: str, distance_m: float) -> None:
    found = only(real(name))
    assert found.distance_m == pytest.approx(distance_m, rel=0.001)
    assert found.measured.avg_cadence_spm is not None
    assert found.measured.avg_cadence_spm < 200
    assert "no-positions" in codes(found)


@REAL
@pytest.mark.parametrize(
    ("name", "leg", "cadence_spm"),
    [
        ("python-fitparse__sample-activity.fit", 0, 88),
        ("runalyze__multisport-triathlon-fenix3.fit", 3, 80),  # 20 points, of which 6 rest
    ],
)
def test_a_real_cadence_that_is_recorded_now_and_then_is_the_device_s(name: str, leg: int, cadence_spm: float) -> None:
    assert real(name).sessions[leg].measured.avg_cadence_spm == pytest.approx(cadence_spm, abs=1.05)


@REAL
def test_a_real_strap_that_is_found_late_in_a_short_leg_tells_what_the_device_does() -> None:
    leg = real("runalyze__multisport-triathlon-fenix3.fit").sessions[1]
    assert leg.measured.avg_heart_rate_bpm == pytest.approx(168, abs=0.5)


# --- several sports


def test_a_triathlon_is_its_parts_in_order() -> None:
    sports = [5, 3, 2, 3, 1]
    parts = [session(BEGIN + 100 * i, 100, 300, sport=sport) for i, sport in enumerate(sports)]
    found = read(fit_file(records(501), *parts[::-1])).sessions  # the file may list them in any order
    assert [one.sport for one in found] == ["swimming", "transition", "cycling", "transition", "running"]
    assert [one.measured.points for one in found] == [100, 100, 100, 100, 101]


@REAL
def test_a_real_triathlon() -> None:
    found = real("runalyze__multisport-triathlon-fenix3.fit").sessions
    assert [one.sport for one in found] == ["swimming", "transition", "cycling", "transition", "running"]
    assert [round(one.elapsed_s) for one in found] == [2142, 165, 4455, 109, 2381]
    starts = [one.started_at for one in found if one.started_at]
    assert len(starts) == 5
    assert starts == sorted(starts)


@REAL
@pytest.mark.parametrize(
    ("name", "sports", "distance_m"),
    [
        ("runalyze__Multisport.tcx", ["cycling", "running", "cycling"], 16_164.08),
        ("tcx__multiple_running_activities.tcx", ["running", "running"], 33_483.25),
    ],
)
def test_real_files_of_several_activities(name: str, sports: list[str], distance_m: float) -> None:
    found = real(name).sessions
    assert [one.sport for one in found] == sports
    assert sum(one.distance_m for one in found) == pytest.approx(distance_m, rel=0.01)


# --- no times, hardly anything


def test_a_track_without_times_has_a_way_and_a_map() -> None:
    found = of_track(points(*((None, 3.0 * i) for i in range(101))))
    assert found.distance_m == pytest.approx(300, abs=1)
    assert (found.elapsed_s, found.moving_s, found.started_at) == (0, 0, None)
    assert (found.measured.avg_speed_mps, found.measured.max_speed_mps, found.measured.best_efforts) == (None, None, ())
    assert found.measured.polyline
    assert "no-times" in codes(found)


@REAL
def test_a_real_track_without_times() -> None:
    found = only(real("gpxpy__cerknicko-without-times.gpx"))
    assert found.distance_m == pytest.approx(13_676, rel=0.01)
    assert (found.elapsed_s, found.measured.avg_speed_mps) == (0, None)


def test_heart_rate_alone_is_an_activity() -> None:
    fields = [(253, U32), (3, U8)]
    rows = [data(0, fields, BEGIN + i, 100 + i % 40) for i in range(601)]
    found = only(read(fit_file(define(0, 20, fields), *rows, session(BEGIN, 600, 0, sport=10))))
    assert (found.sport, found.distance_m, found.elapsed_s, found.moving_s) == (Sport.FITNESS, 0, 600, 600)
    assert found.measured.avg_heart_rate_bpm == pytest.approx(119.5, abs=0.5)
    assert found.measured.avg_speed_mps is None


@pytest.mark.parametrize("count", [1, 2, 100_000])
def test_the_same_place_all_the_time_is_no_way_and_no_pace(count: int) -> None:
    place = b'<trkpt lat="52.5" lon="13.4"><time>2026-05-01T07:00:00Z</time></trkpt>'
    found = only(read(gpx("<trk><trkseg>@</trkseg></trk>").replace(b"@", place * count)))
    assert (found.measured.points, found.distance_m, found.elapsed_s, found.moving_s) == (count, 0, 0, 0)
    assert (found.measured.avg_speed_mps, found.measured.max_speed_mps, found.measured.best_efforts) == (None, None, ())
    assert msgspec.json.decode(found.details, type=Details).splits_km == []


# --- oddities of FIT


def test_compressed_speed_and_distance_give_both() -> None:
    fields = [(253, U32), (8, 0x0D)]
    rows = []
    for i in range(101):  # 3 m/s: 300 in the low twelve bits, sixteenths of a metre in the high ones
        speed, distance = 300, i * 48 % 4096
        rows.append(data(0, fields[:1], BEGIN + i) + struct.pack("<I", speed | distance << 12)[:3])
    layout = struct.pack("<BBBHB", 0x40, 0, 0, 20, 2) + bytes([253, 4, U32, 8, 3, 0x0D])
    found = only(read(fit_file(layout, *rows, session(BEGIN, 100, 300))))
    assert (found.distance_m, found.measured.max_speed_mps) == (300, 3)


@REAL
@pytest.mark.parametrize(
    ("name", "distance_m", "warning"),
    [
        ("python-fitparse__compressed-speed-distance.fit", 10_248.67, "clock-unset"),
        ("python-fitparse__activity-unexpected-eof.fit", 5.73, "truncated"),
        ("python-fitparse__activity-filecrc.fit", 5.73, "checksum"),
        ("python-fitparse__nick.fit", 113_550.87, "checksum"),
    ],
)
def test_real_fit_files_that_are_odd_or_broken(name: str, distance_m: float, warning: str) -> None:
    found = only(real(name))
    assert found.distance_m == pytest.approx(distance_m, rel=0.001)
    assert warning in codes(found)


@REAL
def test_a_real_foot_pod_s_power() -> None:
    (parsed,) = parse((real_files.FOLDER / "runalyze__FR920xt-with-Stryd.fit").read_bytes()).sessions
    assert 150 < np.nanmedian(parsed.columns[Column.POWER]) < 400


def test_smart_recording_is_moving_between_its_points() -> None:
    fields = [(253, U32), (0, S32), (1, S32), (5, U32), (3, U8), (6, U16)]
    semicircles = 2**31 / 180
    rows, at, way = [define(0, 20, fields)], 0, 0.0
    for gap in [7, 3, 9, 5, 8, 2] * 40:
        north, east = int((52 + way / 111_267) * semicircles), int(13 * semicircles)
        rows.append(data(0, fields, BEGIN + at, north, east, int(way * 100), 140, 3000))
        at, way = at + gap, way + 3.0 * gap
    found = only(read(fit_file(*rows, session(BEGIN, at - 2, round(way - 6)))))
    assert found.moving_s == found.elapsed_s == at - 2
    assert found.distance_m == pytest.approx(way - 6, abs=1)
    assert [effort.elapsed_s for effort in found.measured.best_efforts[:1]] == [pytest.approx(400 / 3, abs=0.5)]


@REAL
def test_real_smart_recording() -> None:
    found = only(real("runalyze__FR920-additional-start-events.fit"))
    assert found.distance_m == pytest.approx(30_653, rel=0.001)
    assert found.moving_s == pytest.approx(10_042, abs=3)
