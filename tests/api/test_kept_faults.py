"""What is wrong with what is kept harms no read."""

import pytest
from redis.asyncio import Redis as AsyncRedis

from tests.api.conftest import Runner, World
from tests.api.test_kept_reads import another_process, until_kept


async def test_a_level_that_is_no_number_keeps_nobody_from_reading(world: World, anna: Runner) -> None:
    kept = await until_kept(world, anna, "/feed")
    async with another_process(world) as http, AsyncRedis.from_url(world.settings.redis_url, protocol=2) as redis:
        there = Runner(http, anna.user_id, anna.email, anna.tokens)
        await until_kept(world, there, "/feed?limit=7")
        await redis.set(f"cairn:level:{{{anna.user_id.hex}}}", b"abc", ex=60)
        answer = await there("GET", "/feed")
    assert (answer.status_code, answer.content) == (200, kept.content)


async def test_a_fault_of_what_is_kept_is_answered_as_any_other(
    world: World, anna: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await until_kept(world, anna, "/feed")
    monkeypatch.setattr(world.parts.shared_reads, "find", lambda *_: 1 / 0)
    answer = await anna("GET", "/feed?limit=7")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "/v1/feed failed" in caplog.text
    monkeypatch.undo()
    assert (await anna("GET", "/feed?limit=7")).status_code == 200
