"""Reads that are kept, over real parts: asked again they cost no query, and nobody gets what was before a change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis as AsyncRedis

from api.app import create_app
from api.front.cache import Asked
from api.front.reading import _key
from api.main import services_of
from infra.shared_reads import SharedReads
from tests.api.conftest import Runner, World
from tests.infra.test_shared_reads import told
from tests.recordings import fit

GOAL = {"metric": "distance", "target": 100_000, "period": "month", "starts_on": "2026-01-01"}
READS = (
    "/feed", "/me", "/me/goals", "/me/summaries?period=week", "/users/{user}", "/users/{user}/activities", "/bootstrap",
    "/changes", "/me/notifications", "/users?ids={user},11111111-1111-4111-8111-111111111111", "/activities?ids={user}",
)  # fmt: skip


Outcomes = dict[tuple[str, str, str], float]


async def outcomes(http: httpx.AsyncClient) -> Outcomes:
    """How often reads had which outcome, by route, tier and outcome."""
    families = text_string_to_metric_families((await http.get("/metrics")).text)
    return {
        (sample.labels["route"], sample.labels["tier"], sample.labels["outcome"]): sample.value
        for family in families
        if family.name == "cairn_cache_reads"
        for sample in family.samples
    }


async def outcome(http: httpx.AsyncClient, tier: str, wanted: str, before: Outcomes | None = None) -> float:
    """How often, since then, a read had this outcome."""
    since = before or {}
    return sum(n - since.get(key, 0) for key, n in (await outcomes(http)).items() if key[1:] == (tier, wanted))


@pytest.fixture
async def settled(world: World, anna: Runner) -> Runner:
    """Has a run and a goal, which the read models know; what is asked is kept from now on."""
    goal = await anna("PUT", f"/me/goals/{uuid4()}", json=GOAL)
    position = await anna.run(fit(300), anna.user_id)  # under the same id, so that READS need only one
    await anna.get("/me/goals", after=goal.headers["Cairn-Position"])
    await anna.get("/feed", after=position)
    for path in READS:
        await until_kept(world, anna, path.format(user=anna.user_id))
    return anna


async def until_kept(world: World, runner: Runner, path: str, **more: Any) -> httpx.Response:
    """Ask until it is answered from what is kept: a look at the positions may be a second old."""
    for _ in range(200):
        world.parts.read_models.forget()
        await runner("GET", path, **more)
        before = await outcomes(runner.http)
        answer = await runner("GET", path, **more)
        assert answer.status_code == 200, answer.text
        if await outcome(runner.http, "process", "hit", before):
            return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} is never kept")


async def test_what_is_kept_is_answered_like_what_is_not(world: World, settled: Runner) -> None:
    app = create_app(services_of(world.parts, world.settings))  # keeps nothing: nobody tells it what changes
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cairn") as http:
        other = Runner(http, settled.user_id, settled.email, settled.tokens)
        for path in READS:
            for coding in ("identity", "gzip", "zstd", "gzip, zstd;q=0.5", ""):
                headers = {"Accept-Encoding": coding}
                kept = await settled("GET", path.format(user=settled.user_id), headers=headers)
                fresh = await other("GET", path.format(user=settled.user_id), headers=headers)
                assert (kept.status_code, kept.content) == (fresh.status_code, fresh.content)
                assert kept.headers.keys() == fresh.headers.keys()
                left = {"ratelimit": fresh.headers["RateLimit"]}  # one less each time
                assert {**kept.headers, **left} == dict(fresh.headers)
                tag = {"If-None-Match": kept.headers["ETag"], **headers}
                for asking in (settled, other):
                    again = await asking("GET", path.format(user=settled.user_id), headers=tag)
                    assert (again.status_code, again.content) == (304, b"")
                    assert again.headers["ETag"] == kept.headers["ETag"]


async def test_ones_own_profile_is_kept_though_nobody_asks_for_anything_else(
    second: httpx.AsyncClient, anna: Runner
) -> None:
    alone = Runner(second, anna.user_id, anna.email, anna.tokens)
    async with asyncio.timeout(60):
        before = await outcomes(second)
        while not await outcome(second, "process", "hit", before):
            assert (await alone("GET", "/me")).status_code == 200
            await asyncio.sleep(0.05)


async def test_a_kept_answer_is_known_by_heart_as_the_app_would_send_it(world: World, settled: Runner) -> None:
    token = f"Bearer {settled.tokens['access_token']}".encode()
    for path in READS:
        asked = path.format(user=settled.user_id)
        for more in ({"Accept-Encoding": "identity"}, {"Accept-Encoding": "zstd"}, {"If-None-Match": "*"}):
            headers = {"Accept-Encoding": "zstd", **more}
            sent = await settled("GET", asked, headers=headers)
            lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            known = world.app.at_once(f"/v1{asked}".encode(), [(b"authorization", token), *lines])
            assert known is not None
            status, head, body = known
            assert status.startswith(str(sent.status_code).encode())
            told = [line.partition(b": ")[::2] for line in head.removesuffix(b"\r\n\r\n").split(b"\r\n")]
            left = {b"ratelimit": sent.headers["RateLimit"].encode()}  # one less each time
            assert {**dict(told), **left} == dict(sent.headers.raw)
            assert len(told) == len(sent.headers.raw)
            assert httpx.Response(200, headers=sent.headers, content=body).content == sent.content


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer forged"},
        {"Cairn-Min-Position": "forged"},
        {"Accept-Encoding": "identity;q=0, gzip;q=0.7"},  # nobody has asked for it so
    ],
)
async def test_what_is_not_ready_is_not_known_by_heart(world: World, settled: Runner, headers: dict[str, str]) -> None:
    signed = {"Authorization": f"Bearer {settled.tokens['access_token']}"} if headers else {}
    lines = [(name.lower().encode(), value.encode()) for name, value in {**signed, **headers}.items()]
    assert world.app.at_once(b"/v1/me", lines) is None


async def test_a_kept_answer_costs_no_query(world: World, settled: Runner) -> None:
    async with world.parts.read_models.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
    await world.parts.client_settings.look()  # which is done every five seconds
    before = await outcomes(world.http)
    pool = world.parts.read_models._pool
    used = pool.get_stats()["requests_num"]
    for path in READS:
        asked = path.format(user=settled.user_id)
        answer = await settled("GET", asked)
        assert (await settled("GET", asked, headers={"If-None-Match": answer.headers["ETag"]})).status_code == 304
    looked = pool.get_stats()["requests_num"] - used
    assert looked == 0
    for wanted in ("hit", "not_modified"):
        assert await outcome(world.http, "process", wanted, before) == len(READS)


async def test_a_change_is_seen_by_the_next_read_that_asks_for_its_position(settled: Runner) -> None:
    answer = await settled("PATCH", "/me", json={"display_name": "Anna the Second"})
    assert (await settled.get("/me"))["display_name"] == "Anna the Second"
    position = answer.headers["Cairn-Position"]
    feed = await settled.get("/feed", after=position)
    assert {item["display_name"] for item in feed["items"]} == {"Anna the Second"}


async def test_news_of_a_change_drop_what_tells_of_it_from_others_too(world: World, anna: Runner, ben: Runner) -> None:
    activity_id = uuid4()
    await anna.run(fit(301), activity_id, visibility="public")
    follows = await ben("PUT", f"/me/following/{anna.user_id}")
    await ben.get("/feed", after=follows.headers["Cairn-Position"])
    for path in ("/feed", f"/activities/{activity_id}", f"/users/{anna.user_id}/activities"):
        await until_kept(world, ben, path)
    edited = await anna("PATCH", f"/activities/{activity_id}", json={"title": "Another title"})
    assert edited.status_code == 204
    for path in ("/feed", f"/users/{anna.user_id}/activities"):
        async with asyncio.timeout(30):  # without a position: as soon as the projector has told of it
            while (await ben.get(path))["items"][0]["title"] != "Another title":
                await asyncio.sleep(0.02)
    hidden = await anna("PATCH", f"/activities/{activity_id}", json={"visibility": "private"})
    position = hidden.headers["Cairn-Position"]
    assert (await ben.later(f"/activities/{activity_id}", position)).status_code == 404
    assert (await ben("GET", f"/activities/{activity_id}")).status_code == 404
    assert (await ben.get("/feed"))["items"] == []


async def test_of_many_who_ask_the_same_at_once_one_is_answered_by_the_database(world: World, settled: Runner) -> None:
    position = (await settled("PATCH", "/me", json={"units": "imperial"})).headers["Cairn-Position"]
    await settled.get("/feed", after=position)
    path = "/me/summaries?period=month"
    before = await outcomes(world.http)
    answers = await asyncio.gather(*(settled("GET", path) for _ in range(40)))
    assert len({answer.content for answer in answers}) == 1
    wanted = ("miss", "bypassed", "coalesced", "hit")
    found = {one: await outcome(world.http, "process", one, before) for one in wanted}
    assert sum(found.values()) == 40
    assert 1 <= found["miss"] + found["bypassed"] <= 3  # again, where late news of the change drop the first answer


@asynccontextmanager
async def another_process(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Another API process."""
    redis = AsyncRedis.from_url(world.settings.redis_url, protocol=2)
    app = create_app(replace(services_of(world.parts, world.settings), shared_reads=SharedReads(redis)))
    listening = asyncio.create_task(app.listen())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cairn") as http:
        yield http
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await redis.aclose()


@pytest.fixture
async def second(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with another_process(world) as http:
        yield http


async def test_another_process_takes_it_from_valkey(world: World, settled: Runner, second: httpx.AsyncClient) -> None:
    there = Runner(second, settled.user_id, settled.email, settled.tokens)
    for limit in range(1, 60):
        path = f"/users/{settled.user_id}/activities?limit={limit}"
        kept = await until_kept(world, settled, path)
        assert (await there("GET", path)).content == kept.content
        if await outcome(second, "valkey", "hit"):
            return
    raise AssertionError("nothing was taken from Valkey")


@pytest.mark.parametrize("changed", ["one's own rows", "another's"])
async def test_what_changed_before_a_process_began_to_listen_is_not_told_by_it_as_it_was(
    world: World, anna: Runner, ben: Runner, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setattr("infra.shared_reads._DEADLINE_SECONDS", 30.0)  # others use this machine too
    changes = told(world.settings.redis_url)
    await ben.run(fit(302), visibility="public")
    follows = await anna("PUT", f"/me/following/{ben.user_id}")
    await anna.get("/feed", after=follows.headers["Cairn-Position"])
    for limit in range(2, 60):
        await until_kept(world, anna, f"/feed?limit={limit}")
        asked = Asked(anna.user_id.int, b"/v1/feed", b"limit=%d" % limit)
        if await world.parts.shared_reads.find(anna.user_id, _key(asked)) is not None:
            break
    else:
        raise AssertionError("nothing was kept in Valkey")
    last = world.parts.read_models.position(follows.headers["Cairn-Position"])
    changes.tell([(anna if changed == "one's own rows" else ben).user_id], last + 1_000)
    async with another_process(world) as http:
        there = Runner(http, anna.user_id, anna.email, anna.tokens)
        await until_kept(world, there, "/feed?limit=1")  # now it knows that feeds are kept
        before = await outcomes(http)
        assert (await there("GET", f"/feed?limit={limit}")).status_code == 200
        found = {one: await outcome(http, "valkey", one, before) for one in ("hit", "miss")}
    assert found == {"hit": 0, "miss": 1}


@pytest.mark.parametrize("left", [b"", b"\xc1", (1, "builds"), (1, "", b"15 bytes are no id", 0.0, "", {}, b"")])
async def test_what_other_code_has_kept_there_is_as_good_as_nothing(
    world: World, settled: Runner, second: httpx.AsyncClient, left: Any
) -> None:
    there = Runner(second, settled.user_id, settled.email, settled.tokens)
    stored = left if isinstance(left, bytes) else msgspec.msgpack.encode(left)
    async with AsyncRedis.from_url(world.settings.redis_url, protocol=2) as redis:
        for limit in range(1, 10):
            path = f"/users/{settled.user_id}/activities?limit={limit}"
            kept = await until_kept(world, settled, path)
            async for key in redis.scan_iter(f"cairn:read:{{{settled.user_id.hex}}}:*"):
                await redis.set(key, stored)
            assert (await there("GET", path)).content == kept.content


async def test_what_depends_on_the_device_another_process_takes_for_the_same_one(
    world: World, settled: Runner, second: httpx.AsyncClient
) -> None:
    there, polls = Runner(second, settled.user_id, settled.email, settled.tokens), list[Any]()
    for number in range(1, 60):
        phone = {"Cairn-Client": f"ios/9.4; device={UUID(int=number, version=4)}"}
        kept = (await until_kept(world, settled, "/bootstrap", headers=phone)).json()
        assert (await there("GET", "/bootstrap", headers=phone)).json() == kept
        assert kept["config"]["polls"] not in polls
        polls.append(kept["config"]["polls"])
        if number > 1 and await outcome(second, "valkey", "hit"):
            return
    raise AssertionError("nothing was taken from Valkey")


async def test_who_is_signed_out_gets_nothing_that_is_kept(settled: Runner) -> None:
    assert (await settled("GET", "/feed")).status_code == 200
    assert (await settled("DELETE", "/sessions")).status_code == 204
    assert (await settled("GET", "/feed")).status_code == 401


async def test_a_position_that_is_none_is_refused_though_an_answer_is_kept(settled: Runner) -> None:
    for token in ("latest", "p1-", "p2-1", "p1-7fffffffffffffffff"):
        assert (await settled("GET", "/feed", headers={"Cairn-Min-Position": token})).status_code == 400
