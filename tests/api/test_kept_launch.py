"""What apps ask for at launch, and again and again: kept for each device, dropped by each kind of change."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx

from api.app import create_app
from api.front.kept import KEPT, Kept
from api.main import services_of
from domain.client_settings import ClientSettings, Purpose
from tests.api.conftest import Runner, World
from tests.api.test_client_config import told
from tests.api.test_kept_reads import outcome, outcomes, until_kept
from tests.recordings import fit

GOAL = {"metric": "distance", "target": 10_000, "period": "month", "starts_on": "2026-01-01"}
TITLE = {"title": "Another title"}
PATIENCE_SECONDS = 30.0  # less than what is kept lasts: what is another by then was dropped


def on(http: httpx.AsyncClient, runner: Runner) -> Runner:
    """The same runner, in another process."""
    return Runner(http, runner.user_id, runner.email, runner.tokens)


def steady(page: Any) -> Any:
    """Without what the clock alone changes."""
    return {name: value for name, value in page.items() if name != "next_poll_at"}


async def test_each_kind_of_change_drops_what_tells_of_it(world: World, anna: Runner, ben: Runner) -> None:
    """Written in a process that keeps nothing: only the projectors and the reactor can have told the one that does."""
    deaf = create_app(services_of(world.parts, world.settings))
    run, theirs, goal = uuid4(), uuid4(), uuid4()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(deaf), base_url="http://cairn") as http:
        me, you, cara = on(http, anna), on(http, ben), on(http, await world.runner("Cara"))

        async def wrote(runner: Runner, method: str, path: str, **more: Any) -> str:
            return str((await runner(method, path, **more)).headers["Cairn-Position"])

        follow, name = f"/me/following/{ben.user_id}", {"display_name": "Another name"}
        all_of_it = ("/bootstrap", "/changes")
        changes: list[tuple[tuple[str, ...], Callable[[], Awaitable[str]]]] = [
            ((*all_of_it, f"/users?ids={anna.user_id}"), lambda: wrote(me, "PATCH", "/me", json=name)),
            (all_of_it, lambda: me.run(fit(900, kilometres=1), run)),
            ((*all_of_it, f"/activities?ids={run}"), lambda: wrote(me, "PATCH", f"/activities/{run}", json=TITLE)),
            (all_of_it, lambda: wrote(me, "PUT", f"/me/goals/{goal}", json=GOAL)),
            ((*all_of_it, f"/users?ids={ben.user_id}"), lambda: wrote(me, "PUT", follow)),
            (("/bootstrap", "/feed"), lambda: you.run(fit(901, kilometres=1), theirs, visibility="followers")),
            ((*all_of_it, f"/activities?ids={theirs}"), lambda: wrote(you, "PATCH", "/me", json=name)),
            (("/bootstrap", "/me/notifications"), lambda: wrote(cara, "PUT", f"/me/following/{anna.user_id}")),
            (("/bootstrap", "/me/notifications"), lambda: wrote(cara, "PATCH", "/me", json=name)),
            (all_of_it, lambda: wrote(me, "DELETE", f"/activities/{run}")),
            ((f"/activities?ids={theirs}", "/bootstrap", "/changes"), lambda: wrote(me, "DELETE", follow)),
        ]
        for paths, change in changes:
            before = {path: steady((await until_kept(world, anna, path)).json()) for path in paths}
            position = await change()
            for path in paths:
                expected = steady(await me.get(path, after=position))
                assert expected != before[path]
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while steady(await anna.get(path)) != expected:
                        await asyncio.sleep(0.02)


async def test_a_runner_who_was_unknown_and_comes_is_there(world: World, anna: Runner) -> None:
    other = uuid4()
    path = f"/users?ids={other}"
    assert (await until_kept(world, anna, path)).json() == {"items": []}
    body = {"email": f"{other}@example.com", "password": "correct horse", "display_name": "New", "user_id": str(other)}
    assert (await world.http.post("/v1/users", json=body)).status_code == 201
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await anna.get(path))["items"]:
            await asyncio.sleep(0.02)


async def test_activities_of_which_nobody_would_tell_that_they_can_be_seen_now_are_not_kept(
    world: World, anna: Runner, ben: Runner
) -> None:
    shown, hidden = uuid4(), uuid4()
    await ben.run(fit(902, kilometres=1), shown, visibility="public")
    position = await ben.run(fit(903, kilometres=2), hidden, visibility="private")
    for other in (hidden, uuid4()):
        before = await outcomes(world.http)
        for _ in range(4):
            world.parts.read_models.forget()
            await anna.get(f"/activities?ids={shown},{other}", after=position)
            await anna.get(f"/activities?ids={shown},{other}")
        assert await outcome(world.http, "process", "hit", before) == 0
    await until_kept(world, anna, f"/activities?ids={shown}")


async def test_no_device_gets_what_another_was_told(world: World, anna: Runner) -> None:
    phones = [{"Cairn-Client": f"ios/9.4; device={UUID(int=number, version=4)}"} for number in (1, 2)]
    kept = [(await until_kept(world, anna, "/bootstrap", headers=phone)).json() for phone in phones]
    assert kept[0]["config"]["polls"] != kept[1]["config"]["polls"]
    for phone, own in zip(phones, kept, strict=True):
        assert (await anna.get("/bootstrap", headers=phone))["config"] == own["config"]
    whole = await anna.get("/bootstrap")
    assert whole["config"] not in (kept[0]["config"], kept[1]["config"])
    for path in ("/bootstra%70", "/bootstrap"):  # another spelling of the path is the same to the routes
        assert (await anna.get(path, headers=phones[1]))["config"] == kept[1]["config"]
        assert (await anna.get(path, headers=phones[0]))["config"] == kept[0]["config"]
    long = {"Cairn-Client": f"ios/9.4; {'x' * 5_000}"}
    assert (await anna.get("/bootstrap", headers=long))["config"] == whole["config"]


async def test_what_operators_set_is_told_though_an_answer_is_kept(world: World, anna: Runner) -> None:
    before = (await until_kept(world, anna, "/bootstrap")).json()
    await told(world, ClientSettings(polls={Purpose.SYNC: 3_600}, switched_off=["live-tracking"]))
    after = await anna.get("/bootstrap")
    assert after["config"]["switched_off"] == ["live-tracking"]
    assert after["config"]["version"] == before["config"]["version"] + 1
    assert (await until_kept(world, anna, "/bootstrap")).json()["config"] == after["config"]
    await told(world, ClientSettings())
    assert (await anna.get("/bootstrap"))["config"]["switched_off"] == []


async def test_what_the_clock_changes_is_kept_until_then(world: World) -> None:
    now, untils = datetime.now(UTC), list[datetime | None]()
    app = create_app(replace(services_of(world.parts, world.settings), clock=lambda: now))

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        kept: Kept | None = scope.get(KEPT)
        untils.append(None if kept is None else kept.until)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(watched), base_url="http://cairn") as http:
        runner = await World(http, world.parts, world.settings, app).runner("Cara")
        goal = (await runner("PUT", f"/me/goals/{uuid4()}", json=GOAL)).headers["Cairn-Position"]
        now += timedelta(seconds=1)
        next_poll_at = datetime.fromisoformat((await runner.get("/bootstrap", after=goal))["next_poll_at"])
        midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
        assert untils[-1] == min(next_poll_at, midnight)
        await runner.get("/changes", after=goal)
        assert untils[-1] == midnight
        zone = await runner("PATCH", "/me", json={"time_zone": "Asia/Kathmandu"})
        await runner.get("/changes", after=zone.headers["Cairn-Position"])
        until = untils[-1]
        assert until is not None
        assert (until.astimezone(ZoneInfo("Asia/Kathmandu")).time(), until > now) == (time(), True)
        now = datetime.combine(until, time(), until.tzinfo) - timedelta(seconds=1)
        runner.tokens = (await http.post("/v1/sessions", json=_signing_in(runner))).json()
        told = await runner.get("/bootstrap", after=zone.headers["Cairn-Position"])
        assert untils[-1] == min(until, datetime.fromisoformat(told["next_poll_at"]))


def _signing_in(runner: Runner) -> dict[str, str]:
    return {"email": runner.email, "password": "correct horse"}
