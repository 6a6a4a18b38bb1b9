"""Whatever is sent with POST may be sent again: all routes there are, and those that will be."""

import asyncio
import random
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.idempotency import Idempotency, MalformedIdempotencyKey, key_of
from api.main import services_of
from domain.errors import StoreUnavailable
from domain.streams import StreamContended
from tests.api.conftest import Runner, World
from tests.commands import RECIPES, UNKEYED, Command, Stage, commands_of

KEYED = sorted(route for route in RECIPES if route.startswith("POST ") and route not in UNKEYED)
IOS = {"Cairn-Client": "ios/9.4.1"}


def stage_of(world: World, anna: Runner, ben: Runner) -> Stage:
    return Stage(world.http, anna.tokens, ben.user_id, random.Random(1))


async def send(stage: Stage, command: Command, key: str | None = None, **more: Any) -> httpx.Response:
    headers = stage.headers(signed_in=command.signed_in, key=key or command.key)
    json = more.get("json", command.json)
    return await stage.http.request(command.method, f"/v1{command.path}", json=json, headers={**headers, **IOS})


def test_every_command_has_a_recipe(world: World) -> None:
    found = set(commands_of(create_app(services_of(world.parts, world.settings))))
    assert found - set(RECIPES) == set(), "say in tests/commands.py how an app sends it, and what it does"
    assert set(RECIPES) - found == set(), "there are no such routes any more"


async def test_every_post_says_that_it_takes_a_key(world: World) -> None:
    document = (await world.http.get("/openapi.json")).json()
    posts = {
        f"POST {path}": operations["post"] for path, operations in document["paths"].items() if "post" in operations
    }
    taking = {
        route
        for route, operation in posts.items()
        if any(one.get("name", "").lower() == "idempotency-key" for one in operation.get("parameters", ()))
    }
    assert taking == set(posts) - set(UNKEYED), "let it ask for `Once` (api/once.py)"


@pytest.mark.parametrize("route", KEYED)
async def test_the_same_key_gets_the_same_answer_and_nothing_happens_twice(
    world: World, anna: Runner, ben: Runner, route: str
) -> None:
    stage = stage_of(world, anna, ben)
    command = await RECIPES[route](stage)
    assert isinstance(command.json, dict)
    first = await send(stage, command)
    assert first.status_code in command.statuses, first.text
    again = await send(stage, command, f'"{command.key}"', json=dict(reversed(command.json.items())))
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert first.headers["Cache-Control"] == "no-store"
    same = ("content-type", "location", "cairn-position", "cache-control")
    assert [again.status_code, again.content, *map(again.headers.get, same)] == [
        first.status_code,
        first.content,
        *map(first.headers.get, same),
    ]
    other = await send(stage, command, json=_changed(command.json))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    for malformed in ('""', "x" * 256, "x" * 300, "a\tb"):
        answer = await send(stage, command, malformed)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed-idempotency-key")


@pytest.mark.parametrize("route", KEYED)
async def test_a_kept_answer_that_was_damaged_is_made_anew_and_nothing_happens_twice(
    world: World, anna: Runner, ben: Runner, route: str
) -> None:
    stage = stage_of(world, anna, ben)
    command = await RECIPES[route](stage)
    before = happened(world, anna)
    first = await send(stage, command)
    with psycopg.connect(world.settings.database_url) as connection:
        assert connection.execute(_DAMAGE_LAST).rowcount == 1
    anew = await send(stage, command)
    assert (anew.status_code, anew.headers.get("Location")) == (first.status_code, first.headers.get("Location"))
    assert "Idempotency-Replayed" not in anew.headers
    again = await send(stage, command)
    assert (again.content, again.headers["Idempotency-Replayed"]) == (anew.content, "true")
    assert happened(world, anna) - before <= Counter(command.effects)  # a recording may still be on its way


def happened(world: World, runner: Runner) -> Counter[str]:
    """The events of a runner, and registrations, by topic: others' recordings of other tests may come in meanwhile."""
    with psycopg.connect(world.settings.database_url) as connection:
        return Counter(dict(connection.execute(_EVENTS, (runner.user_id,)).fetchall()))


_EVENTS = """
    SELECT topic, count(*) FROM stored_events WHERE owner_id = %s OR topic LIKE 'user.registered@%%' GROUP BY topic
"""
_DAMAGE_LAST = """
    UPDATE kept_replies SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)
    WHERE created_at = (SELECT max(created_at) FROM kept_replies)
"""


def _changed(body: dict[str, Any]) -> dict[str, Any]:
    """Another request that could be meant as well."""
    if "items" in body:
        return {"items": [*body["items"], *body["items"]]}
    name = "display_name" if "display_name" in body else "title"
    return {**body, name: "Something else"}


@pytest.mark.parametrize("header", ["", " ", '""', "x" * 256, f'"{"x" * 256}"', "schlüssel", "a\x7f", '"a"b"'])
def test_a_key_is_1_to_255_printable_characters(header: str) -> None:
    with pytest.raises(MalformedIdempotencyKey):
        key_of(header)
    assert key_of('"x"') == key_of("x")
    assert key_of('"') == '"'  # as the document's pattern has it
    assert key_of("x" * 255) == key_of(f'"{"x" * 255}"')


async def test_a_key_is_its_users_own(world: World, anna: Runner, ben: Runner) -> None:
    stages = [stage_of(world, anna, ben), stage_of(world, ben, anna)]
    entry = stages[0].entry()
    answers = [
        await stage.do("POST", "/activities", 201, json=entry, headers={"Idempotency-Key": "a"}) for stage in stages
    ]
    assert answers[0].content != answers[1].content
    assert all("Idempotency-Replayed" not in answer.headers for answer in answers)


async def test_a_key_is_its_routes_own(world: World, anna: Runner, ben: Runner) -> None:
    stage = stage_of(world, anna, ben)
    several = {"items": [stage.entry(activity_id=str(uuid4()))]}
    for path, status, body in (("/activities", 201, stage.entry()), ("/activities/batch", 200, several)):
        answer = await stage.do("POST", path, status, json=body, headers={"Idempotency-Key": "a"})
        assert "Idempotency-Replayed" not in answer.headers


async def test_of_many_with_one_key_one_at_a_time_is_let_in() -> None:
    idempotency, inside, at_once = Idempotency(b"s" * 32), 0, list[int]()
    request = idempotency.request("a", "POST /v1/activities", "anna")

    async def come() -> None:
        nonlocal inside
        async with idempotency.alone(request):
            inside += 1
            at_once.append(inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(come() for _ in range(4)))
    assert at_once == [1] * 4


async def test_a_batch_of_which_some_may_be_sent_again_is_not_kept(
    world: World, anna: Runner, ben: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, transact = stage_of(world, anna, ben), world.parts.streams.transact
    command = await RECIPES["POST /v1/activities/batch"](stage)
    assert isinstance(command.json, dict)
    missed = UUID(command.json["items"][0]["activity_id"])

    async def contended_once(aggregate: Any, stream_id: UUID, *given: Any) -> str:
        if stream_id == missed:
            raise StreamContended
        return await transact(aggregate, stream_id, *given)

    with monkeypatch.context() as patch:
        patch.setattr(world.parts.streams, "transact", contended_once)
        first = await send(stage, command)
    assert (first.status_code, first.json()["items"][0]["problem"]["status"]) == (200, 503)
    again = await send(stage, command)
    assert again.json()["items"][0]["status"] == "created"
    assert "Idempotency-Replayed" not in again.headers


async def test_refusals_are_not_kept(world: World, anna: Runner, ben: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(world, anna, ben)
    command = await RECIPES["POST /v1/activities/batch"](stage)

    async def away(*_given: object) -> str:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(world.parts.streams, "transact", away)
        assert (await send(stage, command)).status_code == 503
    answer = await send(stage, command)
    assert {item["status"] for item in answer.json()["items"][:-1]} == {"created"}
    assert "Idempotency-Replayed" not in answer.headers


async def test_a_recording_is_finished_under_its_key_while_postgres_is_away(
    world: World, anna: Runner, ben: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_of(world, anna, ben)
    command = await RECIPES["POST /v1/activities/{activity_id}/finish"](stage)

    async def away(*_given: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(world.parts.streams, "replied", away)
        patch.setattr(world.parts.streams, "keep", away)
        answers = [await send(stage, command) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
    assert "Idempotency-Replayed" not in (await send(stage, command)).headers
    assert (await send(stage, command)).headers["Idempotency-Replayed"] == "true"


async def test_what_came_again_is_counted_by_app_and_version(world: World, anna: Runner, ben: Runner) -> None:
    def counted(metrics: str, route: str) -> dict[str, float]:
        return {
            sample.labels["outcome"]: sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if sample.name == "cairn_idempotent_requests_total"
            and (sample.labels["route"], sample.labels["client"]) == (route, "ios/9.9.9")
        }

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(services_of(world.parts, world.settings))),
        base_url="http://cairn",
        headers={"Cairn-Client": "ios/9.9.9; device=5f0c7a52-0000-4000-8000-000000000001"},
    ) as http:
        stage = Stage(http, anna.tokens, ben.user_id, random.Random(2))
        entry, path = stage.entry(), "/activities"
        key = {"Idempotency-Key": "a"}
        for _ in range(3):
            await stage.do("POST", path, 201, json=entry, headers=key)
        await stage.do("POST", path, 422, json=stage.entry(), headers=key)
        upload = await RECIPES["PUT /v1/activities/{activity_id}"](stage)
        chunk = await RECIPES["PUT /v1/activities/{activity_id}/chunks/{seq}"](stage)
        for command in (upload, upload, chunk, chunk):
            await stage.do(command.method, command.path, *command.statuses, content=command.content)
        metrics = (await http.get("/metrics")).text
    assert counted(metrics, "/v1/activities") == {"first": 1, "replayed": 2, "reused": 1}
    for route in ("/v1/activities/{activity_id}", "/v1/activities/{activity_id}/chunks/{seq}"):
        assert counted(metrics, route) == {"first": 1, "replayed": 1}


async def test_while_the_first_is_under_way_its_repeat_is_told_to_come_later(
    world: World, anna: Runner, ben: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, go, transact = stage_of(world, anna, ben), asyncio.Event(), world.parts.streams.transact_once

    async def slowly(*given: Any) -> Any:
        await go.wait()
        return await transact(*given)

    monkeypatch.setattr(world.parts.streams, "transact_once", slowly)
    command = await RECIPES["POST /v1/activities"](stage)
    first = asyncio.create_task(send(stage, command))
    await asyncio.sleep(0.05)
    again = await send(stage, command)
    assert (again.status_code, again.json()["code"], again.headers["Retry-After"]) == (409, "request-running", "1")
    go.set()
    assert (await first).status_code == 201
    assert (await send(stage, command)).content == (await first).content
