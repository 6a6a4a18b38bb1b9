"""When the server reads on and when it does not, and what it leaves to the app."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from api.serving.connection import Owed
from api.serving.limits import Limits
from tests.api.serving import LARGE, Serving, answers, serving, until

GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def running() -> Iterator[Serving]:
    with serving(Limits(tick_seconds=0.05)) as made:
        yield made


@asynccontextmanager
async def client(running: Serving) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The only connection, whose kernel holds little."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.settimeout(0)
    await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", running.port))
    reader, writer = await asyncio.open_connection(sock=plug, limit=4096)
    try:
        yield reader, writer
    finally:
        running.call(running.app.go.set)
        writer.transport.abort()


async def test_where_a_request_comes_from_is_not_what_it_says(running: Serving) -> None:
    forged = LAST.replace(b"Connection", b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nConnection")
    await running.said(forged)
    assert running.app.peers == ["127.0.0.1"]


async def test_of_a_body_that_nobody_reads_little_is_taken_until_somebody_does(running: Serving) -> None:
    async with client(running) as (reader, writer):
        writer.write(POST % (b"/unread", LARGE) + b"a" * LARGE)
        connection = await running.connected()
        await until(lambda: connection.flow.read_paused)
        assert connection.payload < LARGE // 4
        running.call(running.app.go.set)
        assert (await reader.readuntil(b"%d" % LARGE)).startswith(b"HTTP/1.1 200 OK")


async def test_while_a_request_waits_for_its_turn_no_more_is_read(running: Serving) -> None:
    async with client(running) as (reader, writer):
        writer.write(GET % b"/unread" + POST % (b"/", 3) + b"abc")
        connection = await running.connected()
        await until(lambda: connection.flow.read_paused)
        running.call(running.app.go.set)
        await reader.readuntil(b"\r\n\r\n0")
        await reader.readuntil(b"\r\n\r\n3")
        writer.write(LAST)
        assert answers(await reader.read()) == [(200, b"0")]


async def test_a_body_that_came_whole_is_read_though_its_client_hung_up(running: Serving) -> None:
    async with client(running) as (_, writer):
        writer.write(POST % (b"/unread", 3) + b"abc")
        connection = await running.connected()
        await until(lambda: connection.payload == 3)
        writer.transport.abort()
        await until(lambda: not running.state.connections)
    await until(lambda: bool(running.app.asked))
    assert [(path, body) for path, body, _ in running.app.asked] == [("POST /unread", b"abc")]
    assert running.app.left == 0


async def test_a_body_whose_end_comes_alone_leaves_nothing_to_come(running: Serving) -> None:
    async with client(running) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        connection = await running.connected()
        await until(lambda: connection.payload == 3)
        writer.write(b"0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n3")
        assert connection.owed() is Owed.NEXT


async def test_a_body_that_began_fast_is_too_slow_once_it_stops() -> None:
    limits = Limits(tick_seconds=0.01, body_seconds=0.2, body_bytes=100, linger_seconds=0.1)
    with serving(limits) as running:
        said = await running.said(POST % (b"/", 5_000), *[b"a" * 100] * 10)  # all of these in the first window
        assert answers(said) == [(408, "request-too-slow")]


async def test_a_server_that_leaves_answers_by_the_app_what_it_knows_by_heart(running: Serving) -> None:
    running.state.leaving = True
    assert answers(await running.said(GET % b"/known")) == [(200, b"0")]  # the connection's last


async def test_who_takes_no_answers_gets_no_more_of_them_by_heart(running: Serving) -> None:
    known = b"GET /known HTTP/1.1\r\nHost: x\r\nMore: " + b"a" * 30_000 + b"\r\n\r\n"
    async with client(running) as (_, writer):
        writer.write(known * 100)
        await until(lambda: bool(running.app.asked))


async def test_what_is_answered_by_heart_counts_as_given(running: Serving) -> None:
    async with client(running) as (reader, writer):
        writer.write(GET % b"/known" * 2)
        for _ in range(2):
            await reader.readuntil(b"by heart")
        assert (await running.connected()).flow.given == 2 * len(b"by heart")
