from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from domain.measures import Sport
from domain.recordings.recording import Column, EmptyRecording, Recording, Session, UnreadableRecording
from infra.formats import parse

STARTED = datetime(2026, 5, 1, 7, 0, tzinfo=UTC)


def gpx(body: str, version: str = "1.1", root: str = "") -> bytes:
    names = 'xmlns:g="urn:g" xmlns:c="urn:c"'
    return (
        f'<?xml version="1.0"?><gpx version="{version}" creator="Watch 7" '
        f'xmlns="http://www.topografix.com/GPX/{version.replace(".", "/")}" {names}{root}>{body}</gpx>'
    ).encode()


def point(second: int, inside: str = "", lat: float = 52.5, time: str | None = None) -> str:
    stamp = f"2026-05-01T07:00:{second:02}Z" if time is None else time
    return f'<trkpt lat="{lat + second * 1e-5:.7f}" lon="13.4"><ele>40</ele><time>{stamp}</time>{inside}</trkpt>'


def track(*segments: str, head: str = "") -> str:
    return f"<trk>{head}" + "".join(f"<trkseg>{segment}</trkseg>" for segment in segments) + "</trk>"


def only(recording: Recording) -> Session:
    (session,) = recording.sessions
    return session


def codes(recording: Recording) -> list[str]:
    return [warning.partition(":")[0] for warning in recording.warnings]


def test_points_become_columns_and_segments_breaks() -> None:
    recording = parse(gpx(track(point(0) + point(1), point(30) + point(31), head="<name>Tempo</name>")))
    session = only(recording)
    assert (session.started_at, session.title, recording.device_name) == (STARTED, "Tempo", "Watch 7")
    assert session.columns[Column.T].tolist() == [0, 1, 30, 31]
    assert session.columns[Column.LAT].tolist() == [52.5, 52.50001, 52.5003, 52.50031]
    assert session.columns[Column.ALTITUDE].tolist() == [40] * 4
    assert session.breaks == (2,)


def run(hours: float, lat: float = 52.5, head: str = "", count: int = 3, apart: int = 1) -> str:
    """A track of points a metre and so many seconds apart."""
    begin = STARTED + timedelta(hours=hours)
    times = ((begin + timedelta(seconds=second * apart)).isoformat() for second in range(count))
    return track("".join(point(second, lat=lat, time=time) for second, time in enumerate(times)), head=head)


@pytest.mark.parametrize(("hours", "lat"), [(8, 52.5), (8, 52.7), (2.1, 52.5), (0.6, 52.52), (100, 52.5)])
def test_a_track_that_begins_much_later_or_later_and_elsewhere_is_another_activity(hours: float, lat: float) -> None:
    recording = parse(gpx(run(0, head="<name>One</name><type>running</type>") + run(hours, lat)))
    first, second = recording.sessions
    assert (first.title, second.title, second.sport) == ("One", None, Sport.RUNNING)
    assert [len(one) for one in recording.sessions] == [3, 3]
    assert (first.started_at, second.started_at) == (STARTED, STARTED + timedelta(hours=hours))
    assert second.columns[Column.T].tolist() == [0, 1, 2]
    assert second.columns[Column.LAT][0] == lat
    assert (first.breaks, second.breaks) == ((), ())
    assert codes(recording) == []


@pytest.mark.parametrize(("hours", "lat"), [(0.001, 52.5), (0.3, 52.7), (0.6, 52.505), (1.9, 52.5)])
def test_a_track_that_goes_on_is_the_same_activity(hours: float, lat: float) -> None:
    session = only(parse(gpx(run(0) + run(hours, lat))))
    assert (len(session), session.breaks) == (6, (3,))


def test_tracks_of_different_sports_are_activities() -> None:
    heads = [f"<type>{kind}</type>" for kind in ("running", "trail_running", "who knows", "cycling", "9")]
    found = parse(gpx("".join(run(0.001 * at, head=head) for at, head in enumerate(heads)))).sessions
    assert [(one.sport, len(one)) for one in found] == [(Sport.RUNNING, 9), (Sport.CYCLING, 3), (Sport.RUNNING, 3)]
    assert [one.breaks for one in found] == [(3, 6), (), ()]


def test_the_sport_other_is_none_of_its_own() -> None:
    heads = [f"<type>{kind}</type>" for kind in ("other", "running", "other")]
    session = only(parse(gpx("".join(run(0.001 * at, head=head) for at, head in enumerate(heads)))))
    assert (session.sport, len(session), session.breaks) == (Sport.RUNNING, 9, (3, 6))
    apart = parse(gpx(run(0, head=heads[1]) + run(9, head=heads[0]))).sessions
    assert [one.sport for one in apart] == [Sport.RUNNING, Sport.OTHER]


def test_what_began_before_the_end_of_another_track_is_no_activity_of_another_sport() -> None:
    first, second = (run(0, head=f"<type>{kind}</type>") for kind in ("running", "walking"))
    session = only(parse(gpx(first + second)))
    assert (session.sport, session.columns[Column.T].tolist()) == (Sport.RUNNING, [0, 1, 2])


def test_a_track_without_points_is_no_activity_and_may_name_the_only_one() -> None:
    empty = "<trk><name>Log</name><type>running</type></trk>"
    one = only(parse(gpx(empty + run(0, head="<name>Log #2</name>"))))
    assert (one.title, one.sport) == ("Log", Sport.RUNNING)
    found = parse(gpx(empty + "".join(run(9 * at, head=f"<name>{at}</name>") for at in (0, 1)))).sessions
    assert [(each.title, each.sport) for each in found] == [("0", Sport.RUNNING), ("1", Sport.RUNNING)]


def test_tracks_come_in_the_order_of_time() -> None:
    found = parse(gpx(run(8) + run(0.01) + run(0))).sessions
    assert [one.started_at for one in found] == [STARTED, STARTED + timedelta(hours=8)]
    assert found[0].columns[Column.T].tolist() == [0, 1, 2, 36, 37, 38]
    assert found[0].breaks == (3,)


@pytest.mark.parametrize("newest_first", [True, False])
def test_tracks_that_were_written_backwards_are_turned_round_each(newest_first: bool) -> None:  # noqa: FBT001 - a parameter
    order = [0, 1, 2, 3, 10, 11, 12, 13]
    first = track(point(3) + point(2), point(1) + point(0))
    second = track(point(13), point(12) + point(11) + point(10))
    session = only(parse(gpx(second + first if newest_first else first + second)))
    assert session.started_at == STARTED
    assert session.columns[Column.T].tolist() == order
    assert session.columns[Column.LAT].tolist() == [round(52.5 + at * 1e-5, 7) for at in order]
    assert session.breaks == (2, 4, 7)


def test_where_a_track_has_no_times_all_are_one_activity_as_the_file_has_them() -> None:
    untimed = track('<trkpt lat="52" lon="13"/><trkpt lat="52.01" lon="13"/>')
    assert len(only(parse(gpx(run(8) + untimed + run(0))))) == 8
    assert len(only(parse(gpx(untimed + untimed)))) == 4


def test_a_point_alone_is_no_activity_beside_others() -> None:
    assert [len(one) for one in parse(gpx(run(0, count=1) + run(9) + run(18, count=1))).sessions] == [3]
    assert [len(one) for one in parse(gpx(run(0, count=1) + run(9, count=1))).sessions] == [1]


@pytest.mark.parametrize(("hours", "count"), [(-9_600, 5), (9_600, 5), (-9_600, 40), (9, 5)])
def test_what_went_nowhere_is_no_activity_beside_others(hours: float, count: int) -> None:
    body = run(0, count=600)
    session = only(parse(gpx(run(hours, count=count) + body)))
    assert (session.started_at, len(session), session.breaks) == (STARTED, 600, ())
    for longer in (run(hours, count=59), run(hours, count=2, apart=60)):
        assert len(parse(gpx(longer + body)).sessions) == 2


def test_a_file_that_breaks_off_in_its_second_track_keeps_both() -> None:
    whole = gpx(run(0) + run(9))
    recording = parse(whole[: whole.rindex(b"<trkpt")])
    assert ([len(one) for one in recording.sessions], codes(recording)) == ([3, 2], ["truncated"])


def test_over_a_hundred_activities_are_refused_and_tracks_without_end_are_one() -> None:
    assert len(parse(gpx("".join(run(9 * at) for at in range(100)))).sessions) == 100
    with pytest.raises(UnreadableRecording, match="more than 100 activities: split it"):
        parse(gpx("".join(run(9 * at) for at in range(101))))
    assert len(only(parse(gpx(run(0, count=1) * 2_000 + "<trk/>" * 2_000)))) == 2_000


def test_an_empty_segment_is_no_break_of_its_own() -> None:
    assert only(parse(gpx(track(point(0), "", point(1))))).breaks == (1,)


@pytest.mark.parametrize(
    ("extension", "column", "value"),
    [
        ("<extensions><g:TrackPointExtension><g:hr>150</g:hr></g:TrackPointExtension></extensions>", "heart", 150),
        ("<extensions><c:hr>151</c:hr></extensions>", "heart", 151),
        ("<extensions><heartrate>152</heartrate></extensions>", "heart", 152),
        ("<extensions><g:TrackPointExtension><g:cad>85</g:cad></g:TrackPointExtension></extensions>", "cadence", 170),
        ("<extensions><c:cadence>86</c:cadence></extensions>", "cadence", 172),
        ("<extensions><power>260</power></extensions>", "power", 260),
        ("<extensions><g:atemp>21.5</g:atemp></extensions>", "temperature", 21.5),
        ("<extensions><c:distance>12.5</c:distance></extensions>", "distance", 12.5),
        ("<speed>3.2</speed>", "speed", 3.2),
        ("<extensions><g:hr>153</g:hr><heartrate>9</heartrate></extensions>", "heart", 153),  # the first counts
    ],
)
def test_extensions_are_known_by_name_in_any_namespace(extension: str, column: str, value: float) -> None:
    session = only(parse(gpx(track(point(0, extension), head="<type>running</type>"))))
    (found,) = [values for name, values in session.columns.items() if name.startswith(column)]
    assert found.tolist() == [value]


@pytest.mark.parametrize("count", [3, 600])
def test_the_distance_since_the_last_point_is_none(count: int) -> None:  # as OpenTracks writes it
    both = "<opentracks:distance>3</opentracks:distance><cluetrust:distance>{}</cluetrust:distance>"
    points = "".join(
        point(
            n % 60, f"<extensions>{both.format(3 * n)}</extensions>", time=(STARTED + timedelta(seconds=n)).isoformat()
        )
        for n in range(count)
    )
    content = gpx(track(points), root=' xmlns:opentracks="urn:o" xmlns:cluetrust="urn:t"')
    assert only(parse(content)).columns[Column.DISTANCE].tolist() == [3 * n for n in range(count)]
    without = content.replace(b"cluetrust:distance", b"cluetrust:other")
    assert Column.DISTANCE not in only(parse(without)).columns


def test_cadence_on_a_bicycle_is_not_doubled() -> None:
    body = track(point(0, "<extensions><g:cad>85</g:cad></extensions>"), head="<type>cycling</type>")
    assert only(parse(gpx(body))).columns[Column.CADENCE].tolist() == [85]


@pytest.mark.parametrize(
    ("head", "sport"),
    [
        ("<type>running</type>", Sport.RUNNING),
        ("<type>9</type>", Sport.RUNNING),  # Strava's
        ("<type>track_running</type>", Sport.RUNNING),  # Garmin's
        ("<type>Trail run</type>", Sport.RUNNING),
        ("<type>VirtualRun</type>", Sport.RUNNING),
        ("<type>Nordic Walking</type>", Sport.WALKING),
        ("<type>mountain_biking</type>", Sport.CYCLING),
        ("<type>indoor_rowing</type>", Sport.ROWING),
        ("<name>Running 10/2/17 7:49 am</name>", Sport.RUNNING),  # Runkeeper's
        ("<name>10 km at the lake</name>", Sport.OTHER),  # none of Strava's numbers
        ("<name>Sunday</name>", Sport.OTHER),
    ],
)
def test_the_sport_is_told_by_type_or_title(head: str, sport: Sport) -> None:
    assert only(parse(gpx(track(point(0), head=head)))).sport is sport


@pytest.mark.parametrize(
    ("name", "sport"),
    [("running", Sport.RUNNING), ("road_running", Sport.RUNNING), ("gravel_biking", Sport.CYCLING)],
)
def test_the_sport_is_told_by_osmands_extension(name: str, sport: Sport) -> None:
    told = f'<extensions><osmand:activity xmlns:osmand="https://osmand.net">{name}</osmand:activity></extensions>'
    for body in (f"<metadata>{told}</metadata>{track(point(0))}", track(point(0), head=told)):
        assert only(parse(gpx(body))).sport is sport
    assert only(parse(gpx(track(point(0), head=f"{told}<type>other</type>")))).sport is sport
    assert only(parse(gpx(track(point(0), head=f"<type>hiking</type>{told}")))).sport is Sport.HIKING


def test_version_1_0_reads_the_same() -> None:
    assert len(only(parse(gpx(track(point(0, "<speed>3</speed>") + point(1)), version="1.0")))) == 2


def test_utf_16_with_a_byte_order_mark_reads_the_same() -> None:
    text = gpx(track(point(0))).decode().replace('<?xml version="1.0"?>', '<?xml version="1.0" encoding="UTF-16"?>')
    assert len(only(parse(text.encode("utf-16")))) == 1


def test_a_time_may_have_small_letters() -> None:  # RFC 3339, 5.6
    recording = parse(gpx(track(point(0, time="2026-05-01t07:00:00z") + point(1, time="2026-05-01t07:00:01.5z"))))
    assert (only(recording).started_at, only(recording).columns[Column.T].tolist()) == (STARTED, [0, 1.5])
    assert codes(recording) == []


@pytest.mark.parametrize(
    ("first", "second", "offset_s"),
    [
        ("2026-5-1T7:00:00Z", "2026-5-1T7:0:1.5Z", None),
        ("2026-05-01 07:00:00 UTC", "2026-05-01 07:00:01.5 UTC", None),
        ("2026-5-1 7:00:00 gmt", "2026-5-1 7:00:01.5000000 gmt", None),
        ("2026-5-1 9:00:00 +0200", "2026-5-1T9:00:01,5+02:00", 7_200),
    ],
)
@pytest.mark.parametrize("count", [1, 100])
def test_a_time_may_be_written_oddly(first: str, second: str, offset_s: int | None, count: int) -> None:
    recording = parse(gpx(track(point(0, time=first) * count + point(1, time=second) * count)))
    assert (only(recording).started_at, recording.utc_offset_s, codes(recording)) == (STARTED, offset_s, [])
    assert only(recording).columns[Column.T].tolist() == [0] * count + [1.5] * count


def test_an_odd_time_without_a_zone_is_told() -> None:
    recording = parse(gpx(track(point(0, time="2026-5-1 7:00:00"))))
    assert (only(recording).started_at, codes(recording)) == (STARTED, ["no-zone"])


def test_times_with_an_offset_are_taken_to_utc() -> None:
    assert only(parse(gpx(track(point(0, time="2026-05-01T09:00:00+02:00"))))).started_at == STARTED


@pytest.mark.parametrize(
    ("written", "offset_s"),
    [
        ("+05:30", 19_800),
        ("-1200", -43_200),
        ("+14:00", 50_400),
        ("Z", None),
        ("+00:00", None),
        ("", None),
        ("-12:15", None),
        ("+14:15", None),
        ("+05:31", None),
        ("+05:30:00.5", None),
    ],
)
def test_the_first_time_tells_the_offset(written: str, offset_s: int | None) -> None:
    first, later = (f"<time> 2026-05-01T00:30:00{zone} </time>" for zone in (written, "+09:00"))
    untimed = '<trkpt lat="52" lon="13"/>'
    points = [untimed, *(f'<trkpt lat="52" lon="13">{time}</trkpt>' for time in (first, later))]
    metadata = "<metadata><time>2026-05-01T00:30:00+03:00</time></metadata>"
    assert parse(gpx(metadata + track("".join(points)))).utc_offset_s == offset_s


@pytest.mark.parametrize("wrapped", ["<metadata><time>{}</time></metadata>", "<time>{}</time>"])
def test_points_without_times_began_when_the_file_says(wrapped: str) -> None:
    at = wrapped.format("2026-05-01T07:00:00Z")
    untimed = '<trkpt lat="52" lon="13"/><trkpt lat="52.01" lon="13"/>'
    assert only(parse(gpx(at + track(untimed)))).started_at == STARTED
    assert only(parse(gpx(at.replace("07:", "09:") + track(point(0) + untimed)))).started_at == STARTED


def test_points_past_the_parser_tell_the_same_offset() -> None:
    points = "".join(point(n % 60, time="2026-05-01T00:30:00+05:30") for n in range(400))
    assert parse(gpx(track(points))).utc_offset_s == 19_800


def test_times_without_a_zone_are_taken_as_utc_with_a_warning() -> None:
    recording = parse(gpx(track(point(0, time="2026-05-01T07:00:00"))))
    assert only(recording).started_at == STARTED
    assert codes(recording) == ["no-zone"]


@pytest.mark.parametrize("time", ["", "yesterday", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1650000000000"])
def test_what_is_no_believable_time_is_missing(time: str) -> None:
    session = only(parse(gpx(track(point(0, time=time) + point(1)))))
    assert np.isnan(session.columns[Column.T][0])
    assert session.columns[Column.T][1] == 0


def test_a_position_that_is_nowhere_is_left_out_and_its_point_kept() -> None:
    recording = parse(gpx(track(point(0, lat=91.0) + point(1))))
    for axis in (Column.LAT, Column.LON):
        assert np.isnan(only(recording).columns[axis]).tolist() == [True, False]
    assert codes(recording) == ["misplaced"]


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1_0", "1,5", "", "high"])
def test_a_number_that_is_none_is_missing(text: str) -> None:
    body = track(f'<trkpt lat="52" lon="13"><ele>{text}</ele></trkpt><trkpt lat="52" lon="13"><ele>1</ele></trkpt>')
    assert np.isnan(only(parse(gpx(body))).columns[Column.ALTITUDE]).tolist() == [True, False]


@pytest.mark.parametrize("count", [2, 3_000])
def test_decimals_after_a_comma_are_read_where_no_position_has_them_after_a_point(count: int) -> None:
    one = '<trkpt lat="52,5" lon="13,4"><ele>1,5</ele><speed>3,25</speed></trkpt>'
    columns = only(parse(gpx(track(one * count)))).columns
    assert {name: set(column.tolist()) for name, column in columns.items()} == {
        Column.LAT: {52.5},
        Column.LON: {13.4},
        Column.ALTITUDE: {1.5},
        Column.SPEED: {3.25},
    }
    mixed = only(parse(gpx(track(one + point(1))))).columns
    assert np.isnan(mixed[Column.LAT]).tolist() == np.isnan(mixed[Column.ALTITUDE]).tolist() == [True, False]


def test_what_comes_before_a_break_off_is_kept() -> None:
    whole = gpx(track("".join(point(second) for second in range(10))))
    recording = parse(whole[: whole.rindex(b"<trkpt") + 20])
    assert (len(only(recording)), codes(recording)) == (9, ["truncated"])


def test_an_unbound_prefix_costs_nothing() -> None:
    recording = parse(gpx(track(point(0) + point(1, "<extensions><x:hr>150</x:hr></extensions>") + point(2))))
    assert only(recording).columns[Column.HEART_RATE][1] == 150
    assert len(only(recording)) == 3


@pytest.mark.parametrize("encoding", ["utf-16", "windows-1252", "shift_jis", "ebcdic-of-my-own", "zlib"])
def test_an_encoding_that_is_unknown_or_wrong_costs_letters_only(encoding: str) -> None:
    content = gpx(track(point(0) + point(1), head="<name>Gr\u00fc\u00dfe</name>"))
    declared = content.replace(b'version="1.0"', f'version="1.0" encoding="{encoding}"'.encode(), 1)
    recording = parse(declared)
    assert (len(only(recording)), codes(recording)) == (2, [])
    assert (only(recording).title or "").startswith("Gr")


def named(name: str, encoding: str | None, count: int = 2) -> bytes:
    """A track of this name, which declares the encoding."""
    content = gpx(track("".join(point(second % 60) for second in range(count)), head=f"<name>{name}</name>")).decode()
    told = "" if encoding is None else f' encoding="{encoding}"'
    return content.replace('version="1.0"', f'version="1.0"{told}', 1).encode()


@pytest.mark.parametrize(
    ("content", "title"),
    [
        (named("Z\u00fcrich", "UTF-8").decode().encode("latin-1"), "Z\u00fcrich"),
        (named("Z\u00fcrich", None).decode().encode("latin-1"), "Z\u00fcrich"),
        (named("Z\u00fcrich", "utf-16"), "Z\u00fcrich"),
        (named("Z\u00fcrich & \u20ac", "windows-1252").decode().encode("cp1252"), "Z\u00fcrich & \u20ac"),
        (b"\xef\xbb\xbf\r\n" + named("Z\u00fcrich", "UTF-8"), "Z\u00fcrich"),
        (named("Tom & Jerry &amp; I", "UTF-8"), "Tom & Jerry & I"),
        (named("Lake&nbsp;run &#x1F600; &#xA;", "UTF-8"), "Lake&nbsp;run \U0001f600 &#xA;"),
        (named("a &#55357;&#56832; &#xD83D; &#0; &", "UTF-8"), "a &#55357;&#56832; &#xD83D; &#0; &"),
        (named("a\x0bb\0c", "UTF-8"), "a b c"),
    ],
)
def test_letters_that_xml_does_not_have_break_nothing(content: bytes, title: str) -> None:
    recording = parse(content)
    assert (len(only(recording)), only(recording).title, codes(recording)) == (2, title, [])


@pytest.mark.parametrize(
    ("declared", "written", "title"),
    [
        ("UTF-8", "utf-16", "Z\u00fcrich & \u20ac"),
        ("iso-8859-1", "utf-16-be", "Z\u00fcrich"),
        ("UTF-8", "utf-16-le", "Z\u00fcrich"),
        ("Shift_JIS", "cp932", "\u7687\u5c45 & \u2460"),
        ("GB2312", "gb18030", "\u8dd1\u6b65 & \u4e28"),
        ("EUC-KR", "euc_kr", "\ub2ec\ub9ac\uae30"),
        ("Big5", "big5", "\u8dd1\u6b65"),
        ("iso-2022-jp", "iso2022_jp", "\u8d70"),
        ("Big5", "utf-8", "\u8dd1\u6b65\u8dd1"),
        ("utf-7", "ascii", "+jXA-"),
    ],
)
@pytest.mark.parametrize("count", [2, 600])
def test_an_encoding_that_is_no_parser_s_or_not_the_declared_one_is_read(
    declared: str, written: str, title: str, count: int
) -> None:
    recording = parse(named(title, declared, count).decode().encode(written))
    assert (only(recording).title, codes(recording)) == (title, [])


def test_what_comes_after_a_bad_letter_is_read_too() -> None:
    spoilt = track(point(0) + point(1, "<cmt>\x02&</cmt>") + point(2) * 1_000)
    recording = parse(gpx(spoilt))
    assert (len(only(recording)), codes(recording)) == (1_002, [])


def test_of_bad_letters_without_end_some_are_mended() -> None:
    with pytest.raises(EmptyRecording, match="breaks off"):
        parse(gpx(track(point(0), head="<name>" + "&" * 1_000_000 + "</name>")))


def test_exchanged_latitude_and_longitude_are_told() -> None:
    recording = parse(gpx(track('<trkpt lat="151.2" lon="-33.8"/><trkpt lat="151.3" lon="-33.8"/>')))
    assert "seem to be exchanged" in recording.warnings[0]


def test_routes_and_waypoints_alone_are_refused_by_name() -> None:
    body = '<wpt lat="1" lon="1"/><rte><rtept lat="1" lon="1"/><rtept lat="1" lon="2"/></rte>'
    with pytest.raises(EmptyRecording, match="3 waypoints or route points"):
        parse(gpx(body))
