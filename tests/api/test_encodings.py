import zlib
from uuid import uuid4

import httpx
import pytest
import zstandard

from api.encodings import MIN_BYTES, Coding, coding_for, pack
from api.front.kept import _coding_chosen, coding_chosen
from tests.api.conftest import Runner
from tests.recordings import fit


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZip , deflate, br, ZSTD", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0.5, identity", None),
        ("gzip; q=0", None),
        ("gzip;q=0, *", "zstd"),
        ("*", "zstd"),
        ("zstd;q=0, *;q=0.1", "gzip"),
        ("*;q=0", None),
        ("identity;q=0, *;q=0", None),
        ("gzip;q=many, zstd;q=0.1", "zstd"),
        (";;,,=,;q=", None),
        ("br," * 60 + "gzip", None),
    ],
)
def test_the_client_says_how_answers_are_packed(accepted: str, coding: str | None) -> None:
    assert coding_for(accepted, MIN_BYTES) == coding


def test_a_header_beyond_reason_is_not_remembered_and_gets_answers_as_they_are() -> None:
    assert coding_chosen(b"gzip, br, zstd", large=True) == "zstd"
    remembered = _coding_chosen.cache_info().currsize
    assert coding_chosen(b"gzip," * 60, large=True) is None
    assert _coding_chosen.cache_info().currsize == remembered


def test_small_answers_are_left_as_they_are_unless_refused_so() -> None:
    assert coding_for("gzip, zstd", MIN_BYTES - 1) is None
    assert coding_for("gzip, identity;q=0", MIN_BYTES - 1) == "gzip"
    assert coding_for("zstd, *;q=0", MIN_BYTES - 1) == "zstd"


@pytest.mark.parametrize("coding", ["zstd", "gzip"])
def test_what_is_packed_comes_out_again(coding: Coding) -> None:
    body = b"a long way " * 1_000
    packed = pack(body, coding)
    assert len(packed) < len(body) / 10
    assert _unpacked(packed, coding) == body


def _unpacked(body: bytes, coding: str) -> bytes:
    if coding == "zstd":
        return zstandard.ZstdDecompressor().decompress(body)
    return zlib.decompress(body, wbits=31) if coding == "gzip" else body


async def _raw(runner: Runner, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer and its bytes as they came over the wire."""
    request = runner.http.build_request(
        "GET", f"/v1{path}", headers={"Authorization": f"Bearer {runner.tokens['access_token']}", **headers}
    )
    answer = await runner.http.send(request, stream=True)
    wire = b"".join([chunk async for chunk in answer.aiter_raw()])
    await answer.aclose()
    return answer, wire


async def test_a_track_is_the_same_however_it_is_packed_and_each_is_known_again(anna: Runner) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(60), activity_id)
    await anna.get(f"/activities/{activity_id}", after=position)
    bodies, tags = set(), set()
    for accepted in ("identity", "gzip", "zstd, gzip"):
        for path in (f"/activities/{activity_id}/track", f"/activities/{activity_id}/track?max_points=30"):
            answer, wire = await _raw(anna, path, **{"Accept-Encoding": accepted})
            coding = answer.headers.get("Content-Encoding", "identity")
            assert coding == accepted.partition(",")[0]
            assert "Accept-Encoding" in answer.headers["Vary"]
            assert len(wire) == int(answer.headers["Content-Length"])
            bodies.add(_unpacked(wire, coding))
            tags.add(answer.headers["ETag"])
            known, nothing = await _raw(
                anna, path, **{"Accept-Encoding": accepted, "If-None-Match": answer.headers["ETag"]}
            )
            assert (known.status_code, nothing) == (304, b"")
            assert "Accept-Encoding" in known.headers["Vary"]
            assert "Content-Encoding" not in known.headers
    assert (len(bodies), len(tags)) == (2, 6)


async def test_a_small_answer_is_sent_as_it_is(anna: Runner) -> None:
    answer, _ = await _raw(anna, "/me", **{"Accept-Encoding": "gzip, zstd"})
    assert "Content-Encoding" not in answer.headers
