import pytest

from infra.formats.times import is_timeless

POINT = b'<trkpt lat="52.5" lon="13.4"><ele>40</ele></trkpt>'
STAMP = b"2026-05-01T07:00:00Z"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<gpx><trk><trkseg>%s</trkseg></trk></gpx>" % POINT, True),
        (b"<gpx><metadata><time>%s</time></metadata><trk><trkseg>%s</trkseg></trk></gpx>" % (STAMP, POINT), True),
        (b"<gpx><trk><trkseg>%s<trkpt><time></time></trkpt><trkpt><time/></trkpt></trkseg></trk></gpx>" % POINT, True),
        (b"<gpx><trk><trkseg>%s<trkpt><time>%s</time></trkpt></trkseg></trk></gpx>" % (POINT, STAMP), False),
        (b"<g:gpx><g:trkpt><g:time>%s</g:time></g:trkpt></g:gpx>" % STAMP, False),
        (b"<gpx><trkpt><time>\n<![CDATA[%s]]></time></trkpt></gpx>" % STAMP, False),
        (b'<gpx><trkpt><time a="b">%s</time></trkpt></gpx>' % STAMP, False),
        (b"<gpx><rte><rtept/></rte></gpx>", False),  # no track: the server says so
        (b"<TrainingCenterDatabase><Track><Trackpoint><Cadence>80</Cadence></Trackpoint></Track>", True),
        (b"<TrainingCenterDatabase><Track><Trackpoint><Time>%s</Time></Trackpoint></Track>" % STAMP, False),
        (b'<TrainingCenterDatabase><Lap StartTime="%s"><Trackpoint><Cadence>80</Cadence></Trackpoint>' % STAMP, False),
        ("<gpx><trkpt></trkpt></gpx>".encode("utf-16"), False),
        (b"", False),
    ],
)
def test_what_has_points_and_no_time_at_any_is_timeless(body: bytes, expected: bool) -> None:  # noqa: FBT001 - a parameter
    assert is_timeless(body) is expected
