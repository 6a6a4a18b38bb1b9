"""1 to 35: the shape of JSON and of HTTP."""

import gzip
import zlib
from collections.abc import Iterator
from functools import cache

import zstandard

from tests.api.bad_inputs.place import JSON, Bad, Place, Send, bad, call, hand_in, raw, recording, sends_json
from tests.api.wire import Answer, exchange

MALFORMED, INVALID = "400 malformed-body", "422 invalid-body"
FRAMING = ("400", "400 bad-request", "400 malformed-request", "408 request-timeout", "closed")
TOO_LARGE, ENCODING = "413 body-too-large", "415 unsupported-encoding"
ME = "PATCH /v1/me HTTP/1.1\nContent-Type: application/json"


def title(json: bytes) -> Send:
    """The title of Anna's run as it stands in the JSON."""
    return sends_json(b'{"title": ' + json + b"}", "/activities/{run}")


def target(json: bytes) -> Send:
    """The target of a goal as it stands in the JSON."""
    wish = b'{"metric": "distance", "period": "month", "starts_on": "2026-05-01", "target": ' + json + b"}"
    return sends_json(wish, "/me/goals/{new}", "PUT")


def chunks(json: bytes) -> Send:
    """The number of chunks of a recording as it stands in the JSON."""
    body = b'{"sha256": "' + b"0" * 64 + b'", "chunks": ' + json + b"}"
    return sends_json(body, "/activities/{new}/finish", "POST")


@cache
def _zeros(coding: str) -> bytes:
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(bytes(100_000_000))
    packer = zlib.compressobj(6, wbits=31)
    return b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(100)), packer.flush()])


def bomb(coding: str, method: str, path: str) -> Send:
    """100 MB of zeros, packed."""

    async def send(place: Place) -> Answer:
        return await place.ask(method, path, _zeros(coding), {**JSON, "Content-Encoding": coding})

    return send


def packed(coding: str, body: bytes) -> list[Send]:
    """To a route that takes JSON, and to one that takes recordings."""
    headers = {**JSON, "Content-Encoding": coding}
    return [call("PATCH", "/me", body, headers), call("PUT", "/activities/{new}", body, headers)]


async def _endless(place: Place) -> Answer:
    """A body in chunks of a byte, without an end."""

    def pieces() -> Iterator[bytes]:
        head = f"{ME}\nHost: cairn\nTransfer-Encoding: chunked\nAuthorization: Bearer {place.anna.access_token}\n\n"
        yield head.replace("\n", "\r\n").encode()
        for _ in range(2_000):
            yield b"1\r\n \r\n"

    return await exchange(place.port, pieces(), ends=True)


async def _swollen(place: Place) -> Answer:
    """64 MB in chunks, as long as the server listens."""

    def pieces() -> Iterator[bytes]:
        head = f"{ME}\nHost: cairn\nTransfer-Encoding: chunked\nConnection: close\n"
        head += f"Authorization: Bearer {place.anna.access_token}\n\n"
        yield head.replace("\n", "\r\n").encode()
        for _ in range(1_000):
            yield b"10000\r\n" + b" " * 65_536 + b"\r\n"

    return await exchange(place.port, pieces())


async def _forged_host(place: Place) -> Answer:
    """What is answered names no host, whoever is asked for."""
    headers = {"Host": "evil.example", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil.example"}
    answer = await place.ask("GET", "/me", b"", headers)
    plain = await place.ask("GET", "/me")
    assert answer.body == plain.body
    assert b"evil" not in answer.body + repr(answer.headers).encode()
    return answer


PLAIN_GZIP = gzip.compress(b"{}")
NESTED = b'{"items": [' + b"[" * 30_000 + b"]" * 30_000 + b"]}"
DEEP = b'{"a":' * 900 + b"1" + b"}" * 900
POINTS = b'{"started_at": "2026-05-01T07:00:00Z", "points": [' + b"{}," * 299_999 + b"{}]}"

ENTRIES: list[Bad] = [
    bad(1, "empty body", sends_json(b""), MALFORMED),
    bad(1, "empty recording", hand_in(b""), "422 recording-empty"),
    bad(1, "empty chunk", call("PUT", "/activities/{new}/chunks/0"), "422 chunk-empty"),
    bad(2, "null", sends_json(b"null"), INVALID),
    bad(3, "array at the top", sends_json(b"[]"), INVALID),
    bad(3, "text at the top", sends_json(b'"{}"'), INVALID),
    bad(4, "trailing junk", sends_json(b"{} x"), MALFORMED),
    bad(4, "trailing NUL", sends_json(b"{}\0"), MALFORMED),
    bad(5, "truncated", sends_json(b'{"display_name": "A'), MALFORMED),
    bad(6, "two values", sends_json(b"{} {}"), MALFORMED),
    bad(7, "NaN is no JSON", target(b"NaN"), MALFORMED),
    bad(8, "Infinity is no JSON", target(b"Infinity"), MALFORMED),
    bad(8, "1e999", target(b"1e999"), INVALID),
    bad(8, "-1e999", target(b"-1e999"), INVALID),
    bad(9, "the text inf as a number", target(b'"inf"'), INVALID),
    bad(9, "the text nan as a number", target(b'"nan"'), INVALID),
    bad(9, "inf in a query", call("GET", "/activities/{run}/track?from=inf"), "422 invalid-parameter"),
    bad(9, "nan in a query", call("GET", "/activities/{run}/track?to=nan"), "422 invalid-parameter"),
    bad(10, "NaN in a recording", hand_in(recording(10).replace(b"13.4", b"NaN")), "422 recording-unreadable"),
    bad(11, "lone surrogate", title(rb'"\ud800"'), MALFORMED),
    bad(11, "surrogates the wrong way round", title(rb'"\udc00\ud800"'), MALFORMED),
    bad(11, "lone surrogate in a recording", hand_in(recording(11, title="\ud800")), "422 recording-unreadable"),
    bad(12, "NUL in a title", title(rb'"a\u0000b"'), INVALID),
    bad(12, "NUL in a name", sends_json(rb'{"display_name": "a\u0000b"}'), INVALID),
    bad(12, "NUL in a time zone", sends_json(rb'{"time_zone": "a\u0000b"}'), "422 time-zone-unknown"),
    bad(12, "NUL in a title in a query", hand_in(recording(12), title="a\0b"), "422 invalid-parameter"),
    bad(12, "NUL in a cursor", call("GET", "/feed?cursor=%00"), "400 malformed-cursor"),
    bad(13, "NUL in a recording's title", hand_in(recording(13, title="a\0b")), "201"),
    bad(14, "no UTF-8", sends_json(b'{"display_name": "\xff"}'), MALFORMED),
    bad(14, "UTF-8 that is too long", sends_json(b'{"display_name": "\xc0\x80"}'), MALFORMED),
    bad(14, "a surrogate in UTF-8", sends_json(b'{"display_name": "\xed\xa0\x80"}'), MALFORMED),
    bad(15, "UTF-16", sends_json("{}".encode("utf-16")), MALFORMED),
    bad(15, "UTF-32", sends_json("{}".encode("utf-32-le")), MALFORMED),
    bad(15, "byte order mark", sends_json(b"\xef\xbb\xbf{}"), MALFORMED),
    bad(16, "a key twice", sends_json(b'{"units": "metric", "units": "imperial"}'), MALFORMED),
    bad(16, "a key twice, once escaped", sends_json(rb'{"units": "metric", "\u0075nits": "metric"}'), MALFORMED),
    bad(16, "a key twice, with a colon", title(b'"a:b", "title": "c:d"'), MALFORMED),
    bad(
        16,
        "a key twice in a recording",
        hand_in(recording(16).replace(b'"lat"', b'"t": [], "lat"')),
        "422 recording-unreadable",
    ),
    bad(17, "nested arrays", sends_json(b"[" * 60_000), MALFORMED),
    bad(17, "100,000 nested arrays", sends_json(b"[" * 100_000), TOO_LARGE),
    bad(17, "nested arrays in a title", title(b"[" * 60_000), MALFORMED),
    bad(17, "nested arrays in a recording", hand_in(b'{"points": ' + b"[" * 100_000), "422 recording-unreadable"),
    bad(17, "nested arrays in a batch", sends_json(NESTED, "/activities/batch", "POST"), MALFORMED, INVALID),
    bad(18, "900 objects deep", sends_json(DEEP), INVALID),
    bad(18, "900 objects deep in a title", title(DEEP), INVALID),
    bad(19, "5,000 digits", target(b"9" * 5_000), INVALID),
    bad(19, "5,000 digits in a query", call("GET", "/feed?limit=" + "9" * 5_000), "422 invalid-parameter"),
    bad(19, "5,000 digits in a path", call("PUT", "/activities/{new}/chunks/" + "9" * 5_000, b"x"), "404 not-found"),
    bad(20, "4,000 digits", chunks(b"9" * 4_000), INVALID),
    bad(20, "2^63", chunks(str(2**63).encode()), INVALID),
    bad(20, "2^64 in a path", call("PUT", f"/activities/{{new}}/chunks/{2**64}", b"x"), "422 chunk-out-of-range"),
    bad(20, "-1 in a path", call("PUT", "/activities/{new}/chunks/-1", b"x"), "422 chunk-out-of-range"),
    bad(21, "true for a number", target(b"true"), INVALID),
    bad(21, "1.5 as a text", target(b'"1.5"'), INVALID),
    bad(21, "1.0 for a whole number", chunks(b"1.0"), INVALID),
    bad(22, "300,000 empty points", hand_in(POINTS), "422 recording-unreadable"),
    bad(22, "300,000 empty points where 64 kB may be", sends_json(POINTS), TOO_LARGE),
    bad(
        22,
        "thousands of unknown fields",
        sends_json(b"{" + b",".join(b'"a%d":1' % n for n in range(6_000)) + b"}"),
        INVALID,
    ),
    bad(23, "64 MB announced", raw(f"{ME}\nContent-Length: 67108864", ends=False), TOO_LARGE),
    bad(
        23,
        "64 MB of recording announced",
        raw("PUT /v1/activities/0b8f6a3e-6d0f-4b7e-9a57-1f9f0c6d2c11 HTTP/1.1\nContent-Length: 67108864", ends=False),
        TOO_LARGE,
    ),
    bad(23, "64 MB in chunks", _swollen, TOO_LARGE, "closed"),
    bad(24, "Content-Length too big", raw(f"{ME}\nContent-Length: 50", b"{}"), *FRAMING, MALFORMED),
    bad(24, "Content-Length too small", raw(f"{ME}\nContent-Length: 1", b"{}"), *FRAMING, MALFORMED),
    bad(24, "Content-Length negative", raw(f"{ME}\nContent-Length: -1", b"{}"), *FRAMING),
    bad(24, "Content-Length no number", raw(f"{ME}\nContent-Length: 0x2", b"{}"), *FRAMING),
    bad(24, "Content-Length huge", raw(f"{ME}\nContent-Length: {'9' * 40}", b"{}"), *FRAMING, TOO_LARGE),
    bad(24, "Content-Length twice", raw(f"{ME}\nContent-Length: 2\nContent-Length: 3", b"{}x"), *FRAMING),
    bad(
        25,
        "chunked and with a length",
        raw(f"{ME}\nTransfer-Encoding: chunked\nContent-Length: 2", b"0\r\n\r\n"),
        *FRAMING,
        MALFORMED,
    ),
    bad(
        25,
        "chunked, hidden from others",
        raw(f"{ME}\nTransfer-Encoding: xchunked\nContent-Length: 2", b"{}"),
        "501 transfer-coding-unknown",
    ),
    bad(26, "chunks of a byte without an end", _endless, *FRAMING, MALFORMED),
    bad(27, "gzip bomb as JSON", bomb("gzip", "PATCH", "/me"), TOO_LARGE),
    bad(27, "zstd bomb as JSON", bomb("zstd", "PATCH", "/me"), TOO_LARGE),
    bad(27, "gzip bomb as a recording", bomb("gzip", "PUT", "/activities/{new}"), TOO_LARGE),
    bad(27, "zstd bomb as a recording", bomb("zstd", "PUT", "/activities/{new}"), TOO_LARGE),
    bad(27, "gzip bomb as a chunk", bomb("gzip", "PUT", "/activities/{new}/chunks/0"), TOO_LARGE),
    *(bad(28, "gzip twice", send, ENCODING) for send in packed("gzip, gzip", PLAIN_GZIP)),
    *(bad(28, "unknown encoding", send, ENCODING) for send in packed("br", b"x")),
    *(bad(29, "gzip truncated", send, MALFORMED) for send in packed("gzip", PLAIN_GZIP[:-3])),
    *(bad(29, "gzip with a wrong checksum", send, MALFORMED) for send in packed("gzip", PLAIN_GZIP[:-8] + bytes(8))),
    *(bad(29, "gzip with more behind", send, MALFORMED) for send in packed("gzip", PLAIN_GZIP + b"x")),
    *(bad(29, "zstd with more behind", send, MALFORMED) for send in packed("zstd", zstandard.compress(b"{}") + b"x")),
    *(
        bad(29, "zstd in very many frames", send, MALFORMED)
        for send in packed("zstd", zstandard.compress(b"{}") + 2_000 * zstandard.compress(b" "))
    ),
    *(bad(29, "zstd truncated", send, MALFORMED) for send in packed("zstd", zstandard.compress(b"{}")[:-1])),
    bad(30, "JSON as text", call("PATCH", "/me", b"{}", {"Content-Type": "text/plain"}), "415 unsupported-media-type"),
    bad(30, "JSON without a type", call("PATCH", "/me", b"{}"), "415 unsupported-media-type"),
    bad(
        30,
        "a form",
        call("POST", "/sessions", b"email=a", {"Content-Type": "application/x-www-form-urlencoded"}),
        "415 unsupported-media-type",
    ),
    bad(
        31,
        "a header of 100 kB",
        call("GET", "/activities/{new}", b"", {"X-Long": "x" * 100_000}),
        "431 headers-too-large",
        "closed",
    ),
    bad(
        31,
        "1,000 headers",
        call("GET", "/activities/{new}", b"", {f"X-{n}": "x" for n in range(1_000)}),
        "431 headers-too-large",
        "closed",
    ),
    bad(
        31,
        "a bare CR in a header",
        call("GET", "/activities/{new}", b"", {"X-A": "a\rX-B: b"}),
        *FRAMING,
        "404 not-found",
    ),
    bad(
        31,
        "a bare LF in a header",
        call("GET", "/activities/{new}", b"", {"X-A": "a\n\nGET / HTTP/1.1"}),
        *FRAMING,
        "404 not-found",
    ),
    bad(31, "a NUL in a header", call("GET", "/activities/{new}", b"", {"X-A": "a\0"}), *FRAMING, "404 not-found"),
    bad(
        32,
        "a path of 100 kB",
        call("GET", "/activities/" + "x" * 100_000),
        "414 address-too-long",
        "closed",
    ),
    bad(
        32,
        "a query of 100 kB",
        call("GET", "/feed?cursor=" + "x" * 100_000),
        "414 address-too-long",
        "closed",
    ),
    bad(
        32,
        "a query of 10,000 parameters",
        call("GET", "/feed?" + "&".join(f"p{n}" for n in range(10_000)) + "&limit=0"),
        "414 address-too-long",
        "closed",
    ),
    *(
        bad(33, f"path {path}", call("GET", path), "404 not-found", *FRAMING)
        for path in (
            "/activities/%00",
            "/activities/%ff",
            "/activities/..",
            "/activities/../../etc/passwd",
            "/activities/..%2f..%2fme",
            "/activities//",
            "//feed",
            "/feed/",
            "/feed;x=1",
            "/activities/{run};a",
            "/activities/{run}%00",
            "/activities/{run}/track%20",
            "/activities/%7brun%7d",
            "/FEED",
            "/activities/\\..\\",
            "/activities/{run}/.",
        )
    ),
    bad(33, "%ff in a query", call("GET", "/feed?limit=%ff"), "400 malformed-request"),
    bad(33, "a broken escape in a query", call("GET", "/feed?limit=%zz"), "422 invalid-parameter"),
    bad(34, "TRACE", call("TRACE", "/me"), "405 method-not-allowed"),
    bad(34, "CONNECT", call("CONNECT", "/me"), "501 method-unknown"),
    bad(34, "unknown method", call("BREW", "/me"), "501 method-unknown"),
    bad(
        34,
        "method override",
        call("POST", "/me", b"{}", {**JSON, "X-HTTP-Method-Override": "PATCH"}),
        "405 method-not-allowed",
    ),
    bad(34, "method override in a query", call("POST", "/me?_method=PATCH", b"{}", JSON), "405 method-not-allowed"),
    bad(35, "Host and X-Forwarded-For forged", _forged_host, "200"),
]
