"""49 to 55: files. The upload's answer is the verdict of the process that read it."""

import io
import struct
import zipfile
import zlib

from tests.api.bad_inputs.place import Bad, bad, call, hand_in
from tests.infra.formats.fit_bytes import BEGIN, RECORD, U32, data, define, fit_file, records
from tests.infra.formats.test_gpx import gpx, point, track
from tests.infra.formats.test_hostile_bytes import LAUGHS
from tests.recordings import TCX

UNREADABLE, UNKNOWN = "422 recording-unreadable", "415 recording-format-unknown"


def _with_doctype(doctype: bytes, name: str = "&l0;") -> bytes:
    body = gpx(track(point(0), head=f"<name>{name}</name>")).replace(b'<?xml version="1.0"?>', b"")
    return b"<!-- <gpx > -->" + doctype + body  # so that it is taken for one, however far down the root is


def _zip(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return made.getvalue()


def _png(side: int) -> bytes:
    """A picture of one colour, so many pixels wide and high, of which nothing is there but the head and a row."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(3 * side + 1))), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


QUADRATIC = b'<!DOCTYPE gpx [<!ENTITY l0 "' + b"a" * 50_000 + b'">]>'
FIT = fit_file(records(60))
SIZES = define(0, 20, [*RECORD[:1], (5, U32)])[:-2] + bytes([200, U32])  # the last field is of 200 bytes, it says
DEVELOPER = define(0, 20, RECORD, developer=[(0, 250, 9), (1, 250, 9), (0, 250, 8)])
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'

ENTRIES: list[Bad] = [
    bad(
        49,
        "billion laughs as GPX",
        hand_in(_with_doctype(b'<!DOCTYPE gpx [<!ENTITY l0 "lol">' + LAUGHS + b"]>", "&l8;")),
        UNREADABLE,
    ),
    bad(49, "quadratic blow-up as GPX", hand_in(_with_doctype(QUADRATIC, "&l0;" * 20_000)), UNREADABLE),
    bad(
        49,
        "billion laughs as TCX",
        hand_in(
            TCX.replace(
                b"<TrainingCenterDatabase",
                b'<!DOCTYPE a [<!ENTITY l0 "lol">' + LAUGHS + b"]><TrainingCenterDatabase",
                1,
            )
        ),
        UNREADABLE,
    ),
    bad(
        50,
        "an entity of a file",
        hand_in(_with_doctype(b'<!DOCTYPE gpx [<!ENTITY l0 SYSTEM "file:///etc/passwd">]>')),
        UNREADABLE,
    ),
    bad(
        50,
        "an entity of an address",
        hand_in(_with_doctype(b'<!DOCTYPE gpx [<!ENTITY l0 SYSTEM "http://127.0.0.1:9/">]>')),
        UNREADABLE,
    ),
    bad(50, "a DTD elsewhere", hand_in(_with_doctype(b'<!DOCTYPE gpx SYSTEM "http://127.0.0.1:9/x.dtd">')), UNREADABLE),
    bad(51, "XML 200,000 deep", hand_in(gpx("<a>" * 200_000)), UNREADABLE),
    bad(51, "XML 200,000 wide", hand_in(gpx("<a/>" * 200_000)), UNREADABLE),
    bad(52, "a zip bomb", hand_in(_zip("run.fit", bytes(20_000_000))), UNKNOWN),
    bad(52, "a zip with ../", hand_in(_zip("../../run.gpx", gpx(track(point(0))))), UNKNOWN),
    bad(52, "a zip within a zip", hand_in(_zip("a.zip", _zip("b.zip", b"x"))), UNKNOWN),
    bad(
        53,
        "FIT with a wrong checksum",
        hand_in(FIT[:-1] + bytes([FIT[-1] ^ 1])),
        "201 checksum clock-unset",
        "201 checksum",
        "201 checksum no-positions",
    ),
    bad(
        53,
        "FIT with wrong sizes",
        hand_in(fit_file(SIZES, data(0, RECORD, BEGIN, 120, 0))),
        "422 recording-empty",
        UNREADABLE,
    ),
    bad(53, "FIT truncated in its head", hand_in(FIT[:30]), "422 recording-empty", UNREADABLE),
    bad(53, "FIT of noise", hand_in(FIT[:14] + b"\xff" * 5_000), "422 recording-empty", UNREADABLE),
    bad(
        53,
        "FIT with data before its definition",
        hand_in(fit_file(data(3, RECORD, BEGIN, 120, 0))),
        "422 recording-empty",
        UNREADABLE,
    ),
    bad(
        53,
        "FIT with developers' fields that nobody describes",
        hand_in(fit_file(DEVELOPER, bytes(20))),
        "422 recording-empty",
        UNREADABLE,
    ),
    bad(
        53,
        "FIT that says it is longer",
        hand_in(FIT[:4] + b"\xff\xff\xff\x7f" + FIT[8:200]),
        "201 no-positions truncated",
        "201 truncated",
    ),
    bad(54, "SVG with a script as GPX", hand_in(SVG, {"Content-Type": "application/gpx+xml"}), UNKNOWN),
    bad(
        54,
        "HTML that is also GPX",
        hand_in(b"<html><gpx><script>alert(1)</script></gpx></html>"),
        "422 recording-empty",
        UNREADABLE,
    ),
    bad(
        54, "a program as FIT", hand_in(b"\x7fELF" + bytes(5_000), {"Content-Type": "application/vnd.ant.fit"}), UNKNOWN
    ),
    bad(54, "a photo", call("POST", "/activities/{run}/photos", SVG), "404 not-found"),
    bad(55, "a picture of 30,000 by 30,000 as a recording", hand_in(_png(30_000)), UNKNOWN),
]
