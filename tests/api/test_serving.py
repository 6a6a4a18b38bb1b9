"""What the server does below the app: deadlines and caps, byte by byte."""

import asyncio
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from api.serving.limits import Limits
from tests.api.serving import LARGE, Serving, answers, serving, until
from tests.slow_clients import SlowClients

HOST = b"Host: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
WITH_BODY = POST + b"Content-Length: 3\r\n\r\nabc"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
_DATE = re.compile(rb"date: [^\r]*\r\n")
SHORT = Limits(
    head_seconds=0.4,
    idle_seconds=0.6,
    body_seconds=0.4,
    body_bytes=100,
    answer_seconds=0.6,
    linger_seconds=0.3,
    tick_seconds=0.05,
)


@pytest.fixture(scope="module")
def patient() -> Iterator[Serving]:
    """A server with the limits that are real."""
    with serving(Limits(tick_seconds=0.05)) as running:
        yield running


@pytest.fixture(scope="module")
def short() -> Iterator[Serving]:
    with serving(SHORT) as running:
        yield running


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, "malformed-request"),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "malformed-request"),
        (POST + b"Content-Length: -3\r\n\r\nabc", 400, "malformed-request"),
        (POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc", 400, "malformed-request"),
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "malformed-request"),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400, "malformed-request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed-request"),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "transfer-coding-unknown"),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: x\0\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "malformed-request"),
        (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400, "malformed-request"),
        (b"GET http://x HTTP/1.1\r\n" + HOST + b"\r\n", 400, "malformed-request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http-version-unknown"),
        (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505, "http-version-unknown"),
        (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 505, "http-version-unknown"),
        (b"GET / HTTPS/1.1\r\n" + HOST + b"\r\n", 400, "malformed-request"),
        (b"\x16\x03\x01\x02\0\x01\0\x01", 400, "malformed-request"),
        (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 501, "method-unknown"),
        (b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n", 501, "method-unknown"),
        (b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501, "method-unknown"),
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505, "http-version-unknown"),
        (b"GET / HTTP/2.0\r\n" + H2C + HOST + b"\r\n", 505, "http-version-unknown"),
        (b"GET /\r\n\r\n", 505, "http-version-unknown"),
        (b"GET / HTTP/1.1\r\n" + H2C + b"\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 100_000 + b"\r\n\r\n", 431, "headers-too-large"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 1_000 + b"\r\n", 431, "headers-too-large"),
        (
            POST + b"A: " + b"a" * 33_000 + b"\r\nContent-Length: 50000\r\n\r\n" + b"a" * 50_000,
            431,
            "headers-too-large",
        ),
        (b"\r\n" * 20_000, 431, "headers-too-large"),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "address-too-long"),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "address-too-long"),
    ],
)
async def test_what_is_no_fair_request_gets_a_problem_and_the_connection_ends(
    patient: Serving, request_bytes: bytes, status: int, code: str
) -> None:
    before = len(patient.app.asked), patient.ended(code)
    assert answers(await patient.said(request_bytes)) == [(status, code)]
    assert (len(patient.app.asked), patient.ended(code)) == (before[0], before[1] + 1)


async def test_what_is_just_within_the_caps_is_taken(patient: Serving) -> None:
    head = b"GET /" + b"a" * 8_000 + b" HTTP/1.1\r\nConnection: close\r\n" + HOST + b"A: b\r\n" * 98
    assert answers(await patient.said(head + b"\r\n")) == [(200, b"0")]
    head = POST + b"Connection: close\r\nContent-Length: 200000\r\nA: " + b"a" * 31_000 + b"\r\n\r\n"
    assert answers(await patient.said(head + b"a" * 200_000)) == [(200, b"200000")]


async def test_a_head_of_endless_bytes_is_refused_whatever_its_pieces_are(patient: Serving) -> None:
    assert answers(await patient.said(POST, *[b"A: " + b"a" * 4_000 + b"\r\n"] * 9)) == [(431, "headers-too-large")]


@pytest.mark.parametrize("filler", [b"A: b\r\n", b"a" * 6])
async def test_trailers_are_bounded_and_never_seen(patient: Serving, filler: bytes) -> None:
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n"
    assert answers(await patient.said(head + b"Authorization: forged\r\n\r\n")) == [(200, b"3")]
    assert "authorization" not in patient.app.asked[-1][2]
    lasting = head.replace(b"Connection: close\r\n", b"")
    trailers = b"Host: y\r\nExpect: 100-continue\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    assert answers(await patient.said(lasting + trailers + last)) == [(200, b"3"), (200, b"0")]
    left = patient.app.left
    assert answers(await patient.said(head, b"A: " + filler * 6_000)) == [(431, "headers-too-large")]
    await until(lambda: patient.app.left == left + 1)


async def test_answers_to_pipelined_requests_come_in_order_and_a_bad_one_ends_the_connection(patient: Serving) -> None:
    later, soon = b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n", POST + b"Content-Length: 1\r\n\r\na"
    assert answers(await patient.said(later + soon + b"BREW / HTTP/1.1\r\n\r\n")) == [(200, b"0"), (200, b"1")]
    assert answers(await patient.said(later + soon * 100, b"x")) == [(200, b"0")] + [(200, b"1")] * 16


@pytest.mark.parametrize("start", [b"GET %s HTTP/1.1\r\n", b"HEAD %s HTTP/1.1\r\n"])
async def test_an_answer_that_is_handed_over_whole_is_the_same_on_the_wire(patient: Serving, start: bytes) -> None:
    """Also to HEAD, and where it is the connection's last."""
    last = start % b"/messages" + HOST + b"Connection: close\r\n\r\n"
    whole, messages = [await patient.said(start % path + HOST + b"\r\n" + last) for path in (b"/", b"/messages")]
    assert whole.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert _DATE.sub(b"", whole) == _DATE.sub(b"", messages)


@pytest.mark.parametrize(
    ("pieces", "there"),
    [
        ([b"Content-Length: 3\r\n\r\nabc"], True),
        ([b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"], True),
        ([b"Content-Length: 3\r\n\r\n", b"abc"], False),
        ([b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\n"], False),
        ([b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", b"abc"], False),
    ],
)
async def test_a_body_that_is_there_whole_is_taken_without_a_message(
    patient: Serving, pieces: list[bytes], *, there: bool
) -> None:
    first, *rest = pieces
    begin = b"POST /there HTTP/1.1\r\nConnection: close\r\n" + HOST
    said = await patient.said(begin + first, *rest)
    assert answers(said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")) == [(200, b"3")]
    assert patient.app.there.pop() is there


async def test_a_header_of_two_lines_is_never_written(patient: Serving) -> None:
    assert b"set-cookie" not in await patient.said(b"GET /two-lines HTTP/1.1\r\n" + HOST + b"\r\n")
    assert "one line" in str(patient.app.failed.pop())


async def test_what_the_app_knows_by_heart_is_answered_in_its_turn_without_a_task(patient: Serving) -> None:
    asked, known = len(patient.app.asked), b"GET /known HTTP/1.1\r\n" + HOST
    later, last = (
        b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n",
    )
    said = await patient.said(known + b"More: ly\r\n\r\n" + known + b"\r\n", known + b"\r\n" + last)
    assert answers(said) == [(200, b"by heartly"), (200, b"by heart"), (200, b"by heart"), (200, b"0")]
    assert said.lower().count(b"\r\ndate: ") == 4
    assert [path for path, _, _ in patient.app.asked[asked:]] == ["GET /"]
    assert answers(await patient.said(later + known + b"\r\n" + last)) == [(200, b"0")] * 3  # behind another: the app's


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"HEAD /known HTTP/1.1\r\nConnection: close\r\n",
        b"GET /known HTTP/1.1\r\nConnection: close\r\n",
        b"GET /known HTTP/1.0\r\n",
        b"GET /known HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n",
        b"GET /known HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n",
    ],
)
async def test_what_needs_more_than_an_answer_is_left_to_the_app(patient: Serving, request_bytes: bytes) -> None:
    said = await patient.said(request_bytes + HOST + b"\r\n" + b"0\r\n\r\n" * (b"chunked" in request_bytes))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"by heart" not in said


async def test_a_fault_in_what_is_known_by_heart_ends_no_connection(patient: Serving) -> None:
    broken, last = (
        b"GET /broken HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n",
    )
    assert answers(await patient.said(broken + last)) == [(200, b"0"), (200, b"0")]


async def test_a_wish_for_http_2_is_passed_over(patient: Serving) -> None:
    first = POST + H2C + b"Content-Length: 3\r\n\r\nabc"
    second = b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    assert answers(await patient.said(first, second)) == [(200, b"3"), (200, b"0")]
    assert answers(await patient.said(first[:-2], first[-2:] + second)) == [(200, b"3"), (200, b"0")]


async def test_many_wishes_at_once_are_passed_over_one_after_the_other(patient: Serving) -> None:
    known = b"GET /known HTTP/1.1\r\n" + HOST + H2C + b"\r\n"
    last = b"GET /known HTTP/1.1\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n" + HOST + b"\r\n"
    assert answers(await patient.said(known * 2_000 + last)) == [(200, b"by heart")] * 2_000 + [(200, b"0")]
    post = POST + H2C + b"Content-Length: 3\r\n\r\nabc"
    assert answers(await patient.said(post + known + b"BREW / HTTP/1.1\r\n\r\n")) == [(200, b"3"), (200, b"0")]
    assert answers(await patient.said(known + b"BREW / HTTP/1.1\r\n\r\n")) == [
        (200, b"by heart"),
        (501, "method-unknown"),
    ]


async def test_http_1_0_may_wish_too_needs_no_host_and_has_no_interim_answers(patient: Serving) -> None:
    wish = b"POST / HTTP/1.0\r\n" + H2C + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert answers(await patient.said(wish, b"abc")) == [(200, b"3")]
    assert answers(await patient.said(wish.replace(H2C, b""), b"abc")) == [(200, b"3")]


async def test_a_body_that_goes_on_after_its_answer_is_thrown_away_and_the_connection_lives(patient: Serving) -> None:
    early = b"POST /early HTTP/1.1\r\nContent-Length: 200000\r\n" + HOST + b"\r\n"
    second = b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    said = await patient.said(early, b"a" * 100_000, b"a" * 100_000 + second)
    assert answers(said) == [(200, b"0"), (200, b"0")]


async def test_who_says_nothing_is_hung_up_on(short: Serving) -> None:
    before = short.ended("silent")
    assert await short.said() == b""
    assert short.ended("silent") == before + 1


@pytest.mark.parametrize("earlier", [b"", POST + b"Content-Length: 3\r\n\r\nabc"])
async def test_a_head_that_never_ends_is_too_slow(short: Serving, earlier: bytes) -> None:
    said = await short.said(earlier, *[b"%c" % byte for byte in b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5])
    assert answers(said) == [(200, b"3")] * bool(earlier) + [(408, "request-too-slow")]


@pytest.mark.parametrize(
    ("framing", "piece"),
    [(b"Content-Length: 5000", b"a"), (b"Transfer-Encoding: chunked", b"1;" + b"b" * 50 + b"\r\na\r\n")],
)
async def test_a_body_that_trickles_is_too_slow(short: Serving, framing: bytes, piece: bytes) -> None:
    left, ended = short.app.left, short.ended("body")
    said = await short.said(POST + framing + b"\r\n\r\n", *[piece] * 60)
    assert answers(said) == [(408, "request-too-slow")]
    await until(lambda: (short.app.left, short.ended("body")) == (left + 1, ended + 1))


async def test_a_body_that_comes_slowly_but_steadily_is_waited_for(short: Serving) -> None:
    head = POST + b"Connection: close\r\nContent-Length: 12000\r\n\r\n"
    assert answers(await short.said(head, *[b"a" * 100] * 120)) == [(200, b"12000")]  # for thrice the window


async def test_a_body_that_trickles_after_its_answer_ends_the_connection(short: Serving) -> None:
    said = await short.said(b"POST /early HTTP/1.1\r\nContent-Length: 5000\r\n" + HOST + b"\r\n", *[b"a"] * 60)
    assert answers(said) == [(200, b"0")]


async def test_between_requests_a_connection_may_rest_for_a_while(short: Serving) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", short.port)
    for request, answer in [(b"GET /known HTTP/1.1\r\n" + HOST + b"\r\n", b"by heart"), (WITH_BODY, b"3")] * 2:
        writer.write(request)
        assert (await reader.readuntil(b"\r\n\r\n" + answer)).endswith(answer)
        await asyncio.sleep(0.45)  # longer than a head may take, all together longer than a connection may rest
    assert await reader.read() == b""
    writer.close()


async def test_who_does_not_read_its_answer_is_dropped_and_who_reads_it_slowly_is_not(short: Serving) -> None:
    ended = short.ended("answer")
    reader, writer = await asyncio.open_connection("127.0.0.1", short.port, limit=4096)
    writer.write(b"GET /large HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    size = 0
    while size < LARGE // 2:  # for some two seconds
        size += len(await reader.read(1 << 16))
        await asyncio.sleep(0.02)
    assert short.ended("answer") == ended
    await asyncio.sleep(1)
    assert short.ended("answer") == ended + 1
    writer.transport.abort()


async def deaf(running: Serving, count: int) -> list[socket.socket]:
    """So many who ask for much, one after the other, and read nothing."""
    clients = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(count)]
    for client in clients:
        client.sendall(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.3)
    return clients


async def test_answers_that_wait_take_bounded_memory_together() -> None:
    with serving(replace(SHORT, answer_seconds=60, unread_bytes=256 * 1024)) as running:
        clients = await deaf(running, 5)
        assert 1 <= running.ended("memory") <= 3
        for client in clients[3:]:  # the last that came are the last to go
            assert len(client.recv(LARGE, socket.MSG_WAITALL)) == LARGE
        for client in clients:
            client.close()


async def test_of_a_large_answer_that_nobody_takes_little_waits_here() -> None:
    with serving(replace(SHORT, answer_seconds=60, unread_bytes=512 * 1024)) as running:
        clients = await deaf(running, 5)  # 40 MB
        assert running.ended("memory") == 0
        for client in clients:
            client.close()


async def test_those_who_were_silent_together_are_not_ended_together() -> None:
    with serving(replace(SHORT, tick_seconds=1.0)) as running:
        began = time.monotonic()
        opened = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(400)]
        ends = []
        for reader, writer in opened:
            assert await reader.read() == b""
            ends.append(time.monotonic() - began)
            writer.close()
        assert max(ends) - min(ends) > 0.2
        assert running.ended("silent") == 400


async def test_there_is_an_end_to_connections() -> None:
    with serving(replace(SHORT, connections=10, crowded_idle_seconds=0.1)) as running:
        clients = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(10)]
        assert await running.said(POST) == b""
        assert running.ended("crowded") == 1
        for reader, writer in clients:
            writer.write(POST + b"Content-Length: 3\r\n\r\nabc")
            await reader.readuntil(b"\r\n\r\n3")
        await asyncio.sleep(0.4)  # they rest, and some are asked to go sooner than ever
        assert answers(await running.said(POST + b"Connection: close\r\nContent-Length: 1\r\n\r\na")) == [(200, b"1")]
        for _, writer in clients:
            writer.close()


async def test_nobody_is_late_when_the_server_itself_stood_still(short: Serving) -> None:
    head, rest = POST + b"Connection: close\r\nContent-Length: 3\r\n", b"\r\nabc"
    saying = asyncio.create_task(short.said(head, *[b""] * 10, rest))
    await asyncio.sleep(0.05)
    short.call(time.sleep, 0.6)
    assert answers(await saying) == [(200, b"3")]


async def test_what_has_begun_is_answered_when_the_server_stops_and_nothing_is_begun_then() -> None:
    with serving(Limits(tick_seconds=0.05)) as running:
        requests = [b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n", POST + b"Content-Length: 3\r\n\r\nabc"]
        whole = [asyncio.create_task(running.said(requests[0])) for _ in range(50)]
        halves = [
            asyncio.create_task(running.said(request[:cut], *[b""] * 20, request[cut:]))
            for request in requests
            for cut in (5, len(request) - 1)
        ]
        resting = await asyncio.open_connection("127.0.0.1", running.port)
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(asyncio.to_thread(running.stop))
        assert [answers(one) for one in await asyncio.gather(*whole)] == [[(200, b"0")]] * 50
        assert [answers(one) for one in await asyncio.gather(*halves)] == [[(200, b"0")]] * 2 + [[(200, b"3")]] * 2
        assert await resting[0].read() == b""
        await stopping
        resting[1].close()


async def test_a_server_that_leaves_serves_on_for_as_long_as_it_was_told() -> None:
    with serving(Limits(tick_seconds=0.05), drain_seconds=0.5) as running:
        stopping = asyncio.create_task(asyncio.to_thread(running.stop))
        while not running.server.leaving:
            await asyncio.sleep(0.01)
        assert b"connection: close" in await running.said(POST + b"Content-Length: 3\r\n\r\nabc")
        await stopping


async def test_slow_clients_of_all_kinds_are_hung_up_on_and_told_why(short: Serving) -> None:
    """`tests/system/slow_clients.py` does it with thousands, and looks at what the others feel."""
    ended: Counter[str] = Counter()
    async with asyncio.timeout(20):
        await SlowClients(short.port, "/large", beat=0.1).many(60, ended, again=False)
    assert ended == {"silent": 15, "head 408": 15, "body 408": 15, "deaf": 15}
    assert short.app.failed == []
