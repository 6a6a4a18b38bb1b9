"""The client against a network that fails in the ways networks do, and against the real API."""

import asyncio
import json
import random
import time
from uuid import uuid4

import httpx
import pytest

from api.client import Client, Pacing, Refused, Unreachable
from api.client.pacing import Pacer
from tests.network import CUT_OFF, Answer, Request, network, tokens
from tests.recordings import gpx


@pytest.mark.parametrize(
    "passing",
    [
        CUT_OFF,
        Answer(500, {"code": "internal-error"}),
        Answer(502, b"<html>", content_type="text/html"),
        Answer(503, {"code": "unavailable"}),
        Answer(429, {}),
        Answer(200, b"<html>Welcome to the station</html>", content_type="text/html"),
        Answer(302, b"", {"Location": "http://portal.example/"}, content_type="text/html"),
    ],
    ids=["cut off", "500", "502", "503", "429", "captive portal's page", "captive portal's redirect"],
)
async def test_what_passes_is_sent_again_unchanged(passing: Answer | None) -> None:
    ready = Answer(202, {"status": "processing"})
    async with network([passing, passing, ready]) as (url, asked), Client(url) as client:
        assert await client.upload(uuid4(), b"a run", title="Abends") == {"status": "processing"}
    assert len(asked) == 3
    assert {(one.line, one.body) for one in asked} == {(asked[0].line, b"a run")}


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 415, 422])
async def test_a_refusal_is_told_and_never_sent_again(status: int) -> None:
    problem = {"code": "recording-differs", "detail": "This id has other bytes."}
    async with network([Answer(status, problem)]) as (url, asked), Client(url) as client:
        with pytest.raises(Refused, match="This id has other bytes") as refusal:
            await client.upload(uuid4(), b"a run")
    assert (refusal.value.status, refusal.value.code, len(asked)) == (status, "recording-differs", 1)


async def test_a_refusal_from_something_on_the_way_has_no_code() -> None:
    async with network([Answer(403, b"<html>", content_type="text/html")]) as (url, _), Client(url) as client:
        with pytest.raises(Refused) as refusal:
            await client.follow(uuid4())
    assert refusal.value.code == ""


async def test_retry_after_is_waited_for() -> None:
    clock = asyncio.get_running_loop().time
    async with network([Answer(503, {}, {"Retry-After": "1"}), Answer()]) as (url, asked), Client(url) as client:
        began = clock()
        await client.get("/feed")
        assert clock() - began >= 1
    assert len(asked) == 2


async def test_patience_ends_and_says_what_was_seen_last() -> None:
    async with (
        network(lambda _: Answer(503, {})) as (url, asked),
        Client(url, patience_seconds=0.3, pacing=Pacing(first_seconds=0.1)) as client,
    ):
        with pytest.raises(Unreachable, match=r"GET /feed.*: no answer .* HTTP 503"):
            await client.feed()
    assert len(asked) > 1


async def test_who_has_no_patience_is_told_when_to_ask_again_and_then_is_heard() -> None:
    async with (
        network([CUT_OFF, Answer(503, {}), Answer()]) as (url, asked),
        Client(url, patience_seconds=0) as client,
    ):
        dice = random.Random(2)  # whose pauses are not over before it asks again
        client._pacer = Pacer(dice, Pacing(first_seconds=0.3))
        for _ in range(2):
            with pytest.raises(Unreachable) as silence:
                await client.get("/feed")
            with pytest.raises(Unreachable, match="after 0 tries") as too_soon:
                await client.get("/feed")
            assert 0 < too_soon.value.again_in <= max(silence.value.again_in, 0.1)
            await asyncio.sleep(silence.value.again_in)
        await client.get("/feed")
    assert len(asked) == 3


async def test_an_expired_token_is_renewed_once_for_all_calls() -> None:
    def script(request: Request) -> Answer:
        match request.line, request.headers.get("authorization"):
            case "POST /v1/sessions", _:
                return tokens(1)
            case "POST /v1/sessions/refresh", None:
                assert json.loads(request.body) == {"refresh_token": "refresh-1"}
                return tokens(2)
            case _, "Bearer access-2":
                return Answer(200, {"items": []})
            case _:
                return Answer(401, {"code": "token-refused"})

    async with network(script) as (url, asked), Client(url) as client:
        await client.sign_in("anna@example.com", "a long password")
        assert await asyncio.gather(*(client.feed() for _ in range(5))) == [[]] * 5
    assert [one.line for one in asked].count("POST /v1/sessions/refresh") == 1


async def test_a_renewal_survives_a_bad_network() -> None:
    script = [tokens(1), Answer(401), CUT_OFF, Answer(503, {}), tokens(2), Answer(200, {"items": []})]
    async with network(script) as (url, asked), Client(url) as client:
        await client.sign_in("anna@example.com", "a long password")
        assert await client.goals() == []
    assert asked[-1].headers["authorization"] == "Bearer access-2"


async def test_a_renewal_whose_answer_is_lost_is_repeated_within_the_servers_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.client.client._REFRESH_PAUSE", 0.01)
    timeouts: list[float] = []
    first = {"access_token": "access-1", "refresh_token": "refresh-1", "user_id": str(uuid4())}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/sessions/refresh":
            timeouts.append(request.extensions["timeout"]["read"])
            if len(timeouts) == 1:
                now = time.monotonic()
                client._pacer.failed(now, asked_at=now)  # another call's, which may ask only much later
                raise httpx.ReadTimeout("the radio is gone")
            return httpx.Response(200, json={**first, "access_token": "access-2", "refresh_token": "refresh-2"})
        renewed = request.headers["authorization"] == "Bearer access-2"
        return httpx.Response(200 if renewed else 401, json={"items": []})

    never = Pacing(first_seconds=1e6, longest_seconds=1e6)
    async with Client("http://cairn", transport=httpx.MockTransport(answer), pacing=never) as client:
        client.begin(first)
        assert await client.goals() == []
    assert timeouts == [8.0, 8.0]  # with the pauses, three tries in the 30 s


@pytest.mark.parametrize("renewal", [tokens(2), Answer(401, {"code": "token-refused"})], ids=["renewed", "ended"])
async def test_a_token_that_stays_refused_ends_the_call(renewal: Answer) -> None:
    def script(request: Request) -> Answer:
        if request.line == "POST /v1/sessions":
            return tokens(1)
        return renewal if request.line == "POST /v1/sessions/refresh" else Answer(401, {"code": "token-refused"})

    async with network(script) as (url, asked), Client(url) as client:
        await client.sign_in("anna@example.com", "a long password")
        with pytest.raises(Refused) as refusal:
            await client.feed()
    assert refusal.value.code == "token-refused"
    assert len(asked) <= 4


async def test_a_read_carries_the_place_of_the_last_write() -> None:
    script = [
        Answer(204, b"", {"Cairn-Position": "p1"}),
        Answer(),
        Answer(204, b"", {"Cairn-Position": "p2"}),
        Answer(),
    ]
    async with network(script) as (url, asked), Client(url) as client:
        await client.follow(uuid4())
        await client.get("/feed")
        await client.set_goal(uuid4(), {"metric": "count"})
        await client.get("/me/goals")
    assert [one.headers.get("cairn-min-position") for one in asked] == [None, "p1", None, "p2"]


async def test_a_repeat_tells_the_place_of_its_first_which_may_be_before_other_writes() -> None:
    replayed = Answer(201, {}, {"Cairn-Position": "p1", "Idempotency-Replayed": "true"})
    script = [Answer(204, b"", {"Cairn-Position": "p2"}), replayed, Answer(), CUT_OFF, replayed, Answer()]
    async with network(script) as (url, asked), Client(url) as client:
        await client.follow(uuid4())
        await client.command("POST", "/activities", b"{}", "of yesterday")
        await client.get("/feed")
        await client.command("POST", "/activities", b"{}", "of now")
        await client.get("/feed")
    assert [one.headers["cairn-min-position"] for one in asked if one.line.startswith("GET")] == ["p2", "p1"]


async def test_a_repeat_tells_nothing_where_another_write_was_answered_since_its_first() -> None:
    sent, answered = asyncio.Event(), asyncio.Event()
    places: list[str | None] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and not sent.is_set():
            sent.set()
            await answered.wait()
            raise httpx.ReadError("cut off")
        if request.method == "POST":
            return httpx.Response(201, headers={"Cairn-Position": "p1", "Idempotency-Replayed": "true"}, json={})
        places.append(request.headers.get("cairn-min-position"))
        return httpx.Response(200, headers={"Cairn-Position": "p2"} if request.method == "PUT" else {}, json={})

    async with Client("http://cairn", transport=httpx.MockTransport(answer)) as client:
        repeated = asyncio.create_task(client.command("POST", "/activities", b"{}", "of now"))
        await sent.wait()
        await client.follow(uuid4())
        answered.set()
        await repeated
        await client.get("/feed")
    assert places == [None, "p2"]


async def test_after_a_kill_the_place_that_a_repeat_tells_is_better_than_none() -> None:
    replayed = Answer(201, {}, {"Cairn-Position": "p7", "Idempotency-Replayed": "true"})
    async with network([replayed, Answer()]) as (url, asked), Client(url) as client:
        await client.command("POST", "/activities", b"{}", "sent before the app was killed")
        await client.get("/feed")
    assert asked[-1].headers["cairn-min-position"] == "p7"


async def test_a_registration_is_repeated_under_one_user_id() -> None:
    async with network([CUT_OFF, tokens(1)]) as (url, asked), Client(url) as client:
        await client.register("anna@example.com", "a long password", "Anna")
    first, second = (json.loads(one.body) for one in asked)
    assert first == second
    assert first["user_id"]


async def test_every_request_names_the_app_and_one_device() -> None:
    async with network([Answer(), Answer()]) as (url, asked), Client(url, name="cairn-import/0.1") as client:
        await client.get("/a")
        await client.get("/b")
    named = {one.headers["cairn-client"] for one in asked}
    assert len(named) == 1
    assert named.pop().startswith("cairn-import/0.1; device=")


async def test_no_proxy_stands_between_a_machine_and_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.invalid:1")
    async with network([Answer()]) as (url, asked), Client(url, patience_seconds=0) as client:
        await client.get("/feed")
    assert len(asked) == 1


async def test_a_runners_day_at_the_real_api(served: str) -> None:
    async with Client(served) as anna, Client(served) as ben:
        for client, name in ((anna, "Anna"), (ben, "Ben")):
            email = f"{name}-{uuid4().hex}@example.com"
            await client.register(email, "a long password", name)
            await client.sign_in(email, "a long password")
        await anna.change_profile(time_zone="Europe/Berlin")
        goal = {"metric": "distance", "target": 20_000.0, "period": "all", "starts_on": "2026-01-01"}
        await anna.set_goal(uuid4(), goal)

        run = uuid4()
        state = await anna.upload(run, gpx(41), title="At dawn")
        while state["status"] == "processing":
            await asyncio.sleep(0.05)
            state = await anna.upload_state(run)
        seen = await anna.activity(run)
        assert (state["status"], seen["title"]) == ("ready", "At dawn")
        assert [one["activity_id"] for one in await anna.activities(anna.user_id)] == [str(run)]
        assert [week["distance_m"] for week in await anna.summaries()] == [seen["distance_m"]]
        assert [one["progress"] for one in await anna.goals()] == [seen["distance_m"]]

        await ben.follow(anna.user_id)
        assert [one["activity_id"] for one in await ben.feed()] == [str(run)]
        assert (await ben.me())["display_name"] == "Ben"
