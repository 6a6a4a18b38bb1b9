"""Whatever the bytes are: a recording, or a refusal that says what to do. Nothing else, and soon."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.recordings.recording import Format, UnreadableRecording
from infra import reader
from infra.formats import parse, sniff
from tests.infra.formats.test_gpx import gpx, point, track
from tests.infra.formats.test_json_points import document
from tests.recordings import TCX, fit
from tests.recordings import gpx as gpx_file

SEEDS = {"fit": fit(kilometres=0.3), "gpx": gpx_file(kilometres=0.2), "tcx": TCX, "json": document()}
FRAGMENTS = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x89", b"\x88", b"9e99", b"-", b"NaN", b"<", b">", b'"', b"9999"]


def read_or_refuse(content: bytes) -> None:
    try:
        read = reader.read(content)
    except UnreadableRecording:
        return
    for session in read.sessions:
        assert min(session.distance_m, session.elapsed_s, session.moving_s, session.elevation_gain_m) >= 0


def damaged(content: bytes, random: Random) -> bytes:
    made = bytearray(content)
    for _ in range(random.choice([1, 2, 5, 30])):
        at = random.randrange(len(made)) if random.random() < 0.6 else random.randrange(min(300, len(made)))
        match random.randrange(4):
            case 0:
                made[at] = random.randrange(256)
            case 1:
                del made[at : at + random.randrange(1, 20)]
            case 2:
                made[at : at + 4] = random.choice(FRAGMENTS)
            case _:
                made[at:at] = made[max(0, at - 40) : at]
        made = made or bytearray(b"\0")
    return bytes(made[: random.randrange(len(made) + 1)] if random.random() < 0.2 else made)


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_recordings_are_read_or_refused(name: str) -> None:
    random = Random(name)
    for _ in range(150):
        read_or_refuse(damaged(SEEDS[name], random))


@pytest.mark.parametrize("name", SEEDS)
def test_recordings_cut_anywhere_are_read_or_refused(name: str) -> None:
    content = SEEDS[name]
    for end in range(0, len(content), max(1, len(content) // 120)):
        read_or_refuse(content[:end])


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_fit_header_are_read_or_refused(body: bytes) -> None:
    read_or_refuse(b"\x0e\x20\x93\x08" + len(body).to_bytes(4, "little") + b".FIT\0\0" + body)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    read_or_refuse(content)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (SEEDS["fit"], Format.FIT),
        (SEEDS["gpx"], Format.GPX),
        (b"\xef\xbb\xbf" + gpx(track(point(0))), Format.GPX),
        (TCX, Format.TCX),
        (b"<!--" + b"x" * 6_000 + b"-->" + SEEDS["tcx"], Format.TCX),
        (b" \n" + SEEDS["json"], Format.JSON),
        (b"<kml><Document/></kml>", None),
        (b'{"a": "<gpx >"}', Format.JSON),
        (b"PK\x03\x04", None),
        (b"", None),
    ],
)
def test_a_format_is_known_by_its_bytes(content: bytes, found: Format | None) -> None:
    assert sniff(content) is found


LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10) for i in range(1, 9))


@pytest.mark.parametrize(
    "prolog",
    [
        b'<!DOCTYPE gpx [<!ENTITY l0 "lol">' + LAUGHS + b"]>",
        b'<!DOCTYPE gpx [<!ENTITY l0 SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE gpx SYSTEM "http://127.0.0.1:9/x.dtd">',
        b"<!-- " + b"x" * 70_000 + b' --><!DOCTYPE gpx [<!ENTITY l0 "lol">]>',
    ],
    ids=["laughs", "file", "network", "far-down"],
)
def test_a_doctype_is_refused(prolog: bytes) -> None:
    body = gpx(track(point(0), head="<name>&l0;</name>")).replace(b'<?xml version="1.0"?>', b"")
    head = b"<!-- <gpx > -->"  # so that it is taken for one, however far down the root is
    with pytest.raises(UnreadableRecording, match="DOCTYPE"):
        parse(head + prolog + body)


def test_a_doctype_is_refused_in_utf_16_too() -> None:
    text = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE gpx><gpx><trk/></gpx>'
    with pytest.raises(UnreadableRecording, match="DOCTYPE"):
        parse(text.encode("utf-16"))


def _deep() -> bytes:
    return gpx("<a>" * 200_000)


def _wide() -> bytes:
    return gpx("<a/>" * 200_000 + track(point(0)))


@pytest.mark.parametrize("make", [_deep, _wide])
def test_xml_that_is_deep_or_mostly_other_things_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(UnreadableRecording):
        parse(make())
