"""What stands between an app and the server, and what that says in the server's place: nothing of it ends a session,
stays on the phone or gets out of the client as another exception than the two that it has.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from api.client import Client, Pacing, Phone, Refused, Unreachable, sync
from api.client.wire import connect, fetch
from tests.network import Answer, network
from tests.phones import RENEWED, TOKENS, USER

SOON = Pacing(first_seconds=0.01, longest_seconds=0.02)
JSON = {"Content-Type": "application/json"}
ENDED = httpx.Response(401, json={"code": "token-refused"})


def client_of(answer: Callable[[httpx.Request], httpx.Response], phone: Phone | None = None) -> Client:
    """One that is signed in."""
    client = Client(
        "http://cairn", transport=httpx.MockTransport(answer), pacing=SOON, patience_seconds=0.2, phone=phone
    )
    client.begin(TOKENS)
    return client


class Endless(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"["
        while True:
            yield b" " * 1_000_000


class Dripping(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)  # never long enough for the timeout of a read


async def test_an_answer_that_drips_is_given_up() -> None:
    network = httpx.MockTransport(lambda _: httpx.Response(200, headers=JSON, stream=Dripping()))
    async with asyncio.timeout(10), connect("http://cairn", "test", network) as http:
        with pytest.raises(httpx.ReadTimeout):
            await fetch(http, http.build_request("GET", "/me", timeout=0.1))


NO_ANSWERS = {
    "page in a wrong encoding": lambda: httpx.Response(
        200, headers={"Content-Type": "text/html", "Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"<html>")
    ),
    "cut off": lambda: httpx.Response(200, headers=JSON, content=b'{"items": [{"activi'),
    "nothing": lambda: httpx.Response(204),
    "a 304 that nobody asked for": lambda: httpx.Response(304),
    "a list": lambda: httpx.Response(200, json=[]),
    "nested": lambda: httpx.Response(200, headers=JSON, content=b"[" * 200_000),
    "endless": lambda: httpx.Response(200, headers=JSON, stream=Endless()),
    "elsewhere": lambda: httpx.Response(307, headers={"Location": "http://elsewhere/v1/me"}),
    "nowhere": lambda: httpx.Response(302, headers={"Location": "http://["}),
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
async def test_what_is_no_answer_of_ours_is_none(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.client.wire._LARGEST_BYTES", 8_000_000)
    hosts = set[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.add(request.url.host)
        return NO_ANSWERS[kind]()

    async with client_of(answer) as client:
        with pytest.raises(Unreachable):
            await client.me()
        assert hosts == {"cairn"}
        assert client.phone.answers.find(USER, "/me") is None


@pytest.mark.parametrize("retry_after", ["99999999999", "9" * 400, "-1", "Fri, 31 Dec 2099 23:59:59 GMT", "1e9"])
@pytest.mark.parametrize("status", [409, 429, 503])
async def test_no_retry_after_silences_an_app_for_longer_than_an_hour(status: int, retry_after: str) -> None:
    headers = {**JSON, "Retry-After": retry_after}
    async with client_of(lambda _: httpx.Response(status, headers=headers, json={"code": "busy"})) as client:
        with pytest.raises((Unreachable, Refused)) as told:
            await client.me()
    assert isinstance(told.value, Refused) or (
        isinstance(told.value, Unreachable) and 0 <= told.value.again_in <= 3_602
    )


@pytest.mark.parametrize(
    ("date", "poll_in"),
    [
        ("yesterday", None),
        ("", None),
        ("Mon, 99 Jan 2036 00:00:00 GMT", None),
        ("Tue, 01 Jan 99999 00:00:00 GMT", None),
        ("Tue, 01 Jan 2036 00:00:00 +9999", None),
        ("Tue, 01 Jan 2036 00:00:00 +9999999999999999", None),
        ("Tue, 01 Jan 2036 00:00:00 -0000", 600),
        ("Tue, 01 Jan 2036 00:00:00 GMT", 600),
    ],
)
async def test_the_servers_clock_is_believed_where_it_tells_a_time(date: str, poll_in: float | None) -> None:
    async with client_of(lambda _: httpx.Response(200, headers={"Date": date}, json={"a": 1})) as client:
        assert await client.me() == {"a": 1}
        left = client.seconds_until("2036-01-01T00:10:00Z")
    assert left == (86_400 if poll_in is None else pytest.approx(poll_in, abs=2))


@pytest.mark.parametrize(
    "page",
    [
        httpx.Response(403, headers={"Content-Type": "text/html"}, text="<html>blocked"),
        httpx.Response(401, headers={"Content-Type": "text/html"}, text="<html>blocked"),
        httpx.Response(204),
        httpx.Response(200, json={"error": "pay first"}),
        httpx.Response(201, headers=JSON, content=json.dumps(RENEWED).encode()[:-9]),
    ],
    ids=["403 page", "401 page", "204", "another's JSON", "cut off"],
)
async def test_a_session_ends_on_the_servers_word_only(page: httpx.Response) -> None:
    blocks = True

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/sessions/refresh":
            return page if blocks else httpx.Response(201, json=RENEWED)
        return httpx.Response(200, json={"a": 1}) if request.headers["authorization"] == "Bearer new" else ENDED

    async with client_of(answer) as client:
        with pytest.raises(Unreachable):
            await client.me()
        assert client.session == client.phone.session() == TOKENS
        blocks = False
        assert await client.me() == {"a": 1}
        assert client.phone.session() == RENEWED


async def test_who_is_answered_without_tokens_is_not_signed_in() -> None:
    async with client_of(lambda _: httpx.Response(200, json={"error": "pay first"})) as client:
        with pytest.raises(Unreachable):
            await client.sign_in("anna@example.com", "a long password")
        with pytest.raises(Unreachable):
            await client.register("anna@example.com", "a long password", "Anna")
        assert client.session == TOKENS


async def test_who_is_signed_out_may_sign_out_and_a_silent_network_does_not_hold_that_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.client.client._SIGN_OUT_SECONDS", 0.05)
    silent = Client("http://cairn", transport=Silent())
    silent.begin(TOKENS)
    async with silent as client, asyncio.timeout(5):
        for _ in range(2):
            await client.sign_out()
            assert (client.is_signed_in, client.phone.session()) == (False, {})


class Silent(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        raise httpx.ReadTimeout("nothing", request=request)


async def test_what_a_portal_would_have_the_app_remember_is_not_sent_to_the_server() -> None:
    cookies: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("cookie"))
        return httpx.Response(200, headers={"Set-Cookie": "seen=" + "x" * 3_000}, json={})

    async with client_of(answer) as client:
        for _ in range(2):
            await client.me()
    assert cookies == [None, None]


async def test_a_packed_answer_is_kept_unpacked() -> None:
    packed = gzip.compress(b'{"a": 1}')
    headers = {**JSON, "Content-Encoding": "gzip", "ETag": '"1"'}

    def answer(request: httpx.Request) -> httpx.Response:
        if "if-none-match" in request.headers:
            return httpx.Response(304)
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(packed))

    async with client_of(answer) as client:
        assert await client.me() == await client.me() == {"a": 1}


@pytest.mark.parametrize("call", [sync, Client.feed, Client.goals, lambda client: client.upload_state(USER)])
async def test_an_answer_without_what_was_asked_for_is_none(call: Callable[[Client], Awaitable[object]]) -> None:
    async with client_of(lambda _: httpx.Response(200, json={"error": "pay first"})) as client:
        with pytest.raises(Unreachable):
            await call(client)


@pytest.mark.parametrize("code", [None, 5, "", {}])
async def test_a_code_is_a_word(code: object) -> None:
    async with client_of(lambda _: httpx.Response(404, json={"code": code})) as client:
        with pytest.raises(Refused) as refusal:
            await client.me()
    assert (refusal.value.code, refusal.value.is_missing) == ("", False)


async def test_headers_that_cannot_be_sent_back_are_left_out() -> None:
    headers = [(b"ETag", "é".encode()), (b"Cairn-Position", b"\xff"), (b"Server", "Café".encode())]
    async with client_of(lambda _: httpx.Response(200, headers=headers, json={"a": 1})) as client:
        for _ in range(2):
            assert await client.me() == {"a": 1}


async def test_what_cannot_be_sent_is_told_and_is_no_silence() -> None:
    async with network(lambda _: Answer(204, b"")) as (url, asked), Client(url, name="app/1\nX: y") as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.command("PUT", "/me/goals/1", b"{}", "")
        assert (client._pacer.is_well, asked) == (True, [])
