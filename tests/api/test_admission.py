"""The API behind its door, with limits that a test can meet."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import psycopg
import pytest

from api.admission.admission import Admission, Ask
from api.admission.door import Door
from api.admission.kinds import Kind
from api.admission.refusals import Overloaded, RateLimited
from api.app import create_app
from api.main import services_of
from api.services import Services
from domain.measures import UserId
from tests.api.conftest import Runner, World
from tests.instance_settings import ROOMY
from tests.recordings import fit

PROXIES = (ip_network("127.0.0.0/8"),)  # where these tests come from


@asynccontextmanager
async def door(
    world: World, *, at_once: int = 10_000, **rates: tuple[int, int]
) -> AsyncIterator[tuple[World, Services]]:
    """The same world, let in otherwise."""
    named = {name.replace("_", "-"): rate for name, rate in rates.items()}
    admitted = msgspec.structs.replace(
        ROOMY, rates={**ROOMY.rates, **named}, least=at_once, most=at_once, trusted_proxies=PROXIES
    )
    services = services_of(world.parts, msgspec.structs.replace(world.settings, admission=admitted))
    app = create_app(services)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cairn") as http:
        yield World(http, world.parts, world.settings, app), services


def through(http: httpx.AsyncClient, runner: Runner) -> Runner:
    return msgspec.structs.replace(runner, http=http)


def device() -> dict[str, str]:
    return {"Cairn-Client": f"ios/9.4.1; device={uuid4()}"}


def command() -> Ask:
    return Ask(Kind.COMMAND, None, None, "ios/1", "203.0.113.9")


async def test_under_overload_runs_come_in_and_what_matters_least_is_sent_away(world: World, anna: Runner) -> None:
    async with door(world, at_once=20) as (here, services):
        runner = through(here.http, anna)
        await runner("GET", "/me", headers=device())
        held = [services.admission.hold(Kind.COMMAND, command) for _ in range(10)]
        prefetch = await runner("GET", "/feed", headers={"Priority": "u=6", **device()})
        stats = await runner("GET", "/me/summaries?period=week&from=2026-05-01&to=2026-05-31", headers=device())
        for refused in (prefetch, stats):
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert int(refused.headers["Retry-After"]) >= 1
        assert (await runner("GET", "/feed")).status_code == 200
        held += [services.admission.hold(Kind.COMMAND, command) for _ in range(10)]
        assert (await runner("GET", "/feed")).status_code == 503
        assert (await runner("PATCH", "/me", json={"time_zone": "Europe/Berlin"})).status_code == 503
        assert (await runner("PUT", f"/activities/{uuid4()}", content=fit())).status_code == 202
        assert (await runner("PUT", f"/activities/{uuid4()}/chunks/0", content=b"a piece")).status_code == 201
        for free in ("/livez", "/readyz", "/startupz", "/metrics"):
            assert "overloaded" not in (await here.http.get(free)).text
        told = (await here.http.get("/metrics")).text
        assert 'cairn_refused_for_load_total{client="ios/9.4.1",kind="prefetch",why="overload"} 1.0' in told
        feed = 'cairn_http_requests_total{client="ios/9.4.1",method="GET",route="/v1/feed",status="503"} 1.0'
        assert feed in told
        assert "cairn_concurrency_limit 20.0" in told
        assert 'cairn_requests_at_once{kind="command"} 20.0' in told
        assert "cairn_rate_limiter_alone" in told
        for ticket in held:
            ticket.leave()
        assert (await runner("GET", "/feed", headers={"Priority": "u=6"})).status_code == 200


async def test_who_is_sent_away_for_load_comes_back_the_later_the_less_it_matters_and_the_more_there_are(
    world: World,
) -> None:
    async with door(world, at_once=4) as (_, services):
        admission = services.admission
        for _ in range(4):
            admission.hold(Kind.COMMAND, command)

        def longest(kind: Kind) -> int:
            seconds = []
            for number in range(300):
                asking = partial(Ask, kind, UUID(int=number), None, "ios/1", "")
                with pytest.raises(Overloaded) as refused:
                    admission.hold(kind, asking)
                seconds.append(refused.value.seconds)
            return max(seconds)

        kinds = (Kind.COMMAND, Kind.READ, Kind.PREFETCH, Kind.STATS)
        assert [longest(kind) for kind in kinds] == [3, 3, 5, 9]
        admission._concurrency.pressure = 20.0
        assert longest(Kind.READ) > 30


async def test_who_is_sent_away_for_load_costs_no_signature(
    world: World, anna: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with door(world, at_once=1) as (here, services):
        services.admission.hold(Kind.COMMAND, command)
        monkeypatch.setattr(services.tokens, "read", lambda *_, **__: 1 / 0)
        assert (await through(here.http, anna)("PATCH", "/me", json={})).status_code == 503


async def test_how_long_reads_take_is_noted_but_not_of_those_that_wait(world: World, anna: Runner) -> None:
    async with door(world) as (here, services):
        runner, reads = through(here.http, anna), services.admission._concurrency._reads
        assert (await runner("PATCH", "/me", json={})).status_code == 204
        assert (await runner("GET", "/me", headers={"Cairn-Min-Position": "p1-1"})).status_code == 200
        assert set(reads.values()) == {0}
        assert (await runner("GET", "/me")).status_code == 200
        assert {kind: count for kind, count in reads.items() if count} == {Kind.READ: 1}


async def test_how_late_the_loop_is_is_measured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.admission.pulse.time", SimpleNamespace(monotonic=count().__next__))  # a second each time
    async with door(world) as (_, services):
        assert services.telemetry.registry.get_sample_value("cairn_event_loop_lag_seconds") == 0
        services.admission.hold(Kind.READ, command).leave()
        async with asyncio.timeout(30):
            while not services.telemetry.registry.get_sample_value("cairn_event_loop_lag_seconds"):
                await asyncio.sleep(0.01)


async def test_who_is_let_in_on_trust_has_a_place_among_the_requests_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", 30.0)  # others use this machine too
    async with door(world, at_once=1) as (_, services):
        admission, asking = services.admission, msgspec.structs.replace(command(), user_id=UserId(uuid4()))
        counted = admission.counted(asking.kind, asking.user_id or uuid4(), None)
        assert admission.on_trust(asking.kind, counted) is None  # nothing was heard of it yet
        (await admission.enter(asking.kind, lambda: asking)).leave()
        ticket = admission.on_trust(asking.kind, counted)
        assert ticket is not None
        assert admission.on_trust(asking.kind, counted) is None  # it is the only one that may be
        ticket.leave()
        again = admission.on_trust(asking.kind, counted)
        assert again is not None
        again.leave()


async def test_a_locked_read_model_takes_no_others_along(world: World, anna: Runner) -> None:
    with psycopg.connect(world.settings.database_url) as operator:
        operator.execute("LOCK TABLE summaries_v1.days IN ACCESS EXCLUSIVE MODE")
        stats = [
            asyncio.create_task(anna("GET", f"/me/summaries?period=day&from=2020-01-{day:02d}")) for day in range(1, 13)
        ]
        await asyncio.sleep(1)
        for headers, status in [({}, 404), ({"Priority": "u=6"}, 503)] * 6:
            assert (await anna("GET", f"/users/{uuid4()}", headers=headers)).status_code == status
        operator.rollback()
        assert sorted({answer.status_code for answer in await asyncio.gather(*stats)}) == [200, 503]


async def test_a_phone_that_was_offline_gets_all_its_runs_in_at_its_own_pace(world: World, anna: Runner) -> None:
    async with door(world, recording=(8, 4)) as (here, _):
        runner, headers, refused = through(here.http, anna), device(), 0

        async def hand_in(body: bytes) -> int:
            nonlocal refused
            activity_id = uuid4()
            while True:
                answer = await runner("PUT", f"/activities/{activity_id}", content=body, headers=headers)
                if answer.status_code != 429:
                    return answer.status_code
                refused += 1
                await asyncio.sleep(int(answer.headers["Retry-After"]))

        runs = [fit(number, 0.5) for number in range(12)]
        assert await asyncio.gather(*map(hand_in, runs)) == [202] * 12
        assert refused >= 1


async def test_each_device_has_limits_of_its_own_and_a_user_one_for_all(
    world: World, anna: Runner, ben: Runner
) -> None:
    async with door(world, read=(3, 600)) as (here, _):

        async def statuses(runner: Runner, headers: Mapping[str, str]) -> list[int]:
            return [(await through(here.http, runner)("GET", "/me", headers=headers)).status_code for _ in range(4)]

        for _ in range(4):
            assert await statuses(anna, device()) == [200, 200, 200, 429]
        assert await statuses(anna, device()) == [429] * 4  # four devices' worth are used up
        assert await statuses(ben, device()) == [200, 200, 200, 429]


async def test_answers_tell_what_is_left(world: World, anna: Runner) -> None:
    async with door(world, read=(2, 120)) as (here, _):
        runner, headers = through(here.http, anna), device()
        first, second, third = [await runner("GET", "/me", headers=headers) for _ in range(3)]
        assert [answer.headers["RateLimit-Policy"] for answer in (first, second, third)] == ['"read";q=2;w=120'] * 3
        assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in (first, second, third)] == [
            '"read";r=1',
            '"read";r=0',
            '"read";r=0',
        ]
        assert 1 <= int(third.headers["RateLimit"].partition(";t=")[2]) <= 60
        assert (third.status_code, third.json()["code"]) == (429, "rate-limited")
        assert 1 <= int(third.headers["Retry-After"]) <= 60 + 31
        assert "RateLimit" not in (await here.http.get("/openapi.json")).headers  # nobody's: caches may keep it


async def test_who_is_refused_is_told_when_and_counted_under_its_app_once_it_is_signed_in(world: World) -> None:
    async with door(world, read=(1, 600), anonymous=(1, 600)) as (_, services):
        signed = partial(Ask, Kind.READ, UserId(uuid4()), None, "ios/7.1", "")
        nobody = partial(Ask, Kind.READ, None, None, "ios/7.2", uuid4().hex)
        for asking in (signed, nobody):
            (await services.admission.enter(Kind.READ, asking)).leave()
            with pytest.raises(RateLimited) as refused:
                await services.admission.enter(Kind.READ, asking)
            assert 599 / 2 <= refused.value.seconds <= 300
        counted = services.telemetry.registry.get_sample_value

        def times(client: str) -> float | None:
            return counted("cairn_refused_for_load_total", {"why": "rate", "kind": "read", "client": client})

        assert (times("ios/7.1"), times("ios/7.2"), times("other")) == (1, None, 1)


async def test_a_kept_answer_counts_as_what_its_client_says_of_it(world: World) -> None:
    async with door(world) as (_, services):
        told = Door(services).local(Kind.READ, {b"priority": b"u=7"}, uuid4().int)
        assert told is not None
        assert told.lines[0][1].startswith(b'"stats";')


def test_devices_of_one_user_are_told_apart() -> None:
    one, other = (msgspec.structs.replace(command(), user_id=UserId(UUID(int=1)), device=uuid4()) for _ in range(2))
    assert one.who != other.who


async def test_passwords_are_not_guessed(world: World, anna: Runner) -> None:
    async with door(world, password=(3, 3600)) as (here, _):

        async def sign_in(email: str, password: str) -> int:
            body = {"email": email, "password": password}
            return (await here.http.post("/v1/sessions", json=body)).status_code

        assert [await sign_in(anna.email.upper(), "a guess") for _ in range(3)] == [401] * 3
        assert await sign_in(anna.email, "correct horse") == 429  # from wherever, also for who knows it
        assert await sign_in("nobody@example.com", "a guess") == 401
        boss = await world.runner("Boss")
        assert [await sign_in(boss.email, "a guess") for _ in range(3)] == [401] * 3
        assert await sign_in(boss.email.replace("s", "\u017f"), "a guess") == 429  # which is the same address
        body = {"email": anna.email, "password": "another guess", "display_name": "A", "user_id": str(anna.user_id)}
        assert (await here.http.post("/v1/users", json=body)).status_code == 429  # it would sign in, too
        assert (await through(here.http, anna)("GET", "/me")).status_code == 200


async def test_accounts_are_opened_at_a_pace_for_each_address(world: World, anna: Runner) -> None:
    async with door(world, registration=(2, 600)) as (here, _):
        headers = {"X-Forwarded-For": f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1"}  # of this test alone

        async def register() -> httpx.Response:
            body = {"email": f"{uuid4().hex}@example.com", "password": "correct horse", "display_name": "Anna"}
            return await here.http.post("/v1/users", json=body, headers=headers)

        assert [(await register()).status_code for _ in range(3)] == [201, 201, 429]
        headers["Authorization"] = f"Bearer {anna.tokens['access_token']}"
        assert (await register()).status_code == 429


async def test_what_proxies_say_may_come_in_several_lines(world: World) -> None:
    async with door(world, registration=(1, 600)) as (here, _):

        async def register(address: str) -> int:
            body = {"email": f"{uuid4().hex}@example.com", "password": "correct horse", "display_name": "Anna"}
            lines = [("X-Forwarded-For", address), ("X-Forwarded-For", "127.0.0.2")]
            return (await here.http.post("/v1/users", json=body, headers=lines)).status_code

        anna, ben = (f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1" for _ in range(2))
        assert [await register(address) for address in (anna, ben, anna)] == [201, 201, 429]


async def test_a_request_that_is_refused_or_breaks_off_gives_its_place_back(world: World) -> None:
    async with door(world, at_once=1, command=(1, 600)) as (_, services):
        admission: Admission = services.admission
        ask = msgspec.structs.replace(command(), user_id=UserId(uuid4()))
        (await admission.enter(ask.kind, lambda: ask)).leave()
        for _ in range(3):
            with pytest.raises(RateLimited):
                await admission.enter(ask.kind, lambda: ask)
        other = msgspec.structs.replace(ask, user_id=UserId(uuid4()))
        waiting = asyncio.create_task(admission.enter(ask.kind, lambda: other))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        admission.hold(ask.kind, command).leave()


async def test_what_a_cache_answers_is_counted_here_alone(world: World) -> None:
    async with door(world, read=(2, 600)) as (_, services):
        user_id = UserId(uuid4())
        counted = services.admission.counted(Kind.READ, user_id, None)
        told = [services.admission.local(counted) for _ in range(3)]
        assert [one and one.lines[1][1].partition(b";t=")[0] for one in told] == [b'"read";r=1', b'"read";r=0', None]
        with pytest.raises(RateLimited) as refused:
            await services.admission.enter(Kind.READ, lambda: Ask(Kind.READ, user_id, None, "ios/1", ""))
        headers: dict[str, Any] = dict(refused.value.headers)
        assert headers["RateLimit"].startswith('"read";r=0;t=')


async def test_a_fault_of_the_door_is_answered_as_any_other(
    world: World, anna: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with door(world) as (here, services):
        monkeypatch.setattr(services.admission, "enter", lambda *_: 1 / 0)
        answer = await through(here.http, anna)("GET", "/feed")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "/v1/feed failed" in caplog.text
