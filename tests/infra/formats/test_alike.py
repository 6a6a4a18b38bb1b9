"""Points that go past the parser are what the parser would have made of them."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from domain.recordings.recording import Column, Recording, UnreadableRecording
from infra.formats import parse, xml_stream
from infra.formats.alike import AlikePoints
from infra.formats.gpx import _row_of
from infra.formats.table import Points
from tests.infra.formats import real_files
from tests.infra.formats.damage import damaged
from tests.infra.formats.test_gpx import gpx, track
from tests.infra.formats.test_tcx import activity, lap, tcx
from tests.recordings import gpx as run_as_gpx

ODD = [
    "<ele>40</ele><time>{time}</time>",
    "<time>{time}</time>",
    "<ele>40</ele><time>{time}</time><extensions><a:hr>1{n}</a:hr></extensions>",
    "<ele>40</ele><extensions><b:hr> 1{n}</b:hr><b:heartrate>9</b:heartrate></extensions><time>{time}</time>",
    "<!-- <ele>1</ele> --><ele>40</ele><time>{time}</time>",
    "<ele><![CDATA[40]]></ele><time>{time}</time>",
    "<ele>&#52;0</ele><time>{time}</time><name>a &lt; b</name>",
    "<ele/><time>{time}</time><extensions><hr></hr><heartrate>7</heartrate></extensions>",
    "\n <ele>40.5</ele>\n <time>{time}</time>\n <cmt>Grüße</cmt>\n",
    "<extensions><time>2001-01-01T00:00:00Z</time><speed>3</speed><speed>4</speed></extensions><time>{time}</time>",
]
ROOTS = [
    '<trkpt lat="52.{n:03}" lon="13.4">',
    "<trkpt lon='13.4' lat='52.{n:03}'>",
    '<trkpt lat="52.{n:03}" lon="13.4" >',
]


def odd_gpx(random: Random, count: int = 250) -> bytes:
    """Points of some kinds in runs and mixed."""
    kinds = random.sample(ODD, random.randrange(1, 5))
    made, inside, changing = [], kinds[0], random.choice((0.02, 0.1))
    for n in range(count):
        if random.random() < changing:
            inside = random.choice(kinds)
        time = f"2026-05-01T07:{n // 60:02}:{n % 60:02}Z"
        root = random.choice(ROOTS) if random.random() < 0.02 else ROOTS[0]
        made.append((root + inside + "</trkpt>").format(n=n % 100, time=time))
    return gpx(track(*("".join(made[i : i + 100]) for i in range(0, count, 100))))


def found(content: bytes, monkeypatch: pytest.MonkeyPatch, *, past: bool) -> Recording | str:
    monkeypatch.setattr(xml_stream, "_SMALL_BYTES", 0 if past else len(content))
    try:
        return parse(content)
    except UnreadableRecording as refusal:
        return refusal.reason


def assert_same(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (found(content, monkeypatch, past=past) for past in (True, False))
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
        return
    assert (one.device_name, one.warnings) == (other.device_name, other.warnings)
    for ours, theirs in zip(one.sessions, other.sessions, strict=True):
        assert (ours.sport, ours.started_at, ours.breaks) == (theirs.sport, theirs.started_at, theirs.breaks)
        assert ours.columns.keys() == theirs.columns.keys()
        assert all(np.array_equal(ours.columns[name], theirs.columns[name], equal_nan=True) for name in ours.columns)


def test_points_of_many_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(20):
        content = odd_gpx(Random(seed))
        assert_same(content, monkeypatch)
        for _ in range(4):
            assert_same(damaged(Random(seed), content, content)[1], monkeypatch)


def test_track_points_of_tcx(monkeypatch: pytest.MonkeyPatch) -> None:
    point = (
        "<Trackpoint><Time>2026-05-02T06:{:02}:{:02}Z</Time><DistanceMeters>{}</DistanceMeters>"
        "<HeartRateBpm><Value>1{}</Value></HeartRateBpm><Cadence>85</Cadence></Trackpoint>"
    )
    body = "".join(point.format(*divmod(n, 60), 3 * n, n % 60) for n in range(300))
    content = tcx(activity(lap(body, body)), activity(lap(body), sport="Biking"))
    assert_same(content, monkeypatch)
    for seed in range(20):
        assert_same(damaged(Random(seed), content, content)[1], monkeypatch)


def test_they_do_go_past_it() -> None:
    text, points = run_as_gpx(kilometres=3).decode(), Points()
    began, ended = text.index("<trkpt"), text.index("</trkpt>") + len("</trkpt>")
    reached = AlikePoints("trkpt", _row_of, points).follow(text, began, ended)
    assert len(points) == text[ended:reached].count("<trkpt") > 400
    assert text[reached:].startswith("</trkseg>")


def test_what_looks_like_points_in_a_comment_is_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    point = '<trkpt lat="52.5" lon="13.4"><ele>{}</ele></trkpt>'
    points = "".join(point.format(n) for n in range(500))
    for content in (
        gpx(track(points + f"<!-- {points} -->" + points)),
        gpx(track(points + f"<desc><![CDATA[{points}]]></desc>" + points)),
    ):
        assert len(parse(content).sessions[0]) == 1_000
        assert_same(content, monkeypatch)


def test_a_value_that_is_not_plain_goes_through_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    points = ['<trkpt lat="52.5" lon="13.4"><ele>40</ele></trkpt>'] * 500
    points[300] = points[300].replace("40", "4&#48;")
    points[301] = points[301].replace("40", "\n4 ")
    content = gpx(track("".join(points)))
    assert parse(content).sessions[0].columns[Column.ALTITUDE].tolist() == [40.0] * 301 + [4.0] + [40.0] * 198
    assert_same(content, monkeypatch)


@pytest.mark.parametrize("path", real_files.paths("gpx") + real_files.paths("tcx"), ids=lambda path: path.name)
def test_real_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same(path.read_bytes(), monkeypatch)


def test_a_comment_that_nobody_ended_costs_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    point = '<trkpt lat="52.5" lon="13.4"><ele>40</ele></trkpt>'
    content = gpx(track(point * 500 + "<!-- " + point * 40_000))
    assert len(parse(content).sessions[0]) == 500
    assert_same(content, monkeypatch)
