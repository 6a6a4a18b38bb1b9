"""The bell is heard, and rung seldom where there is much to tell."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from infra.wakeup import Bell, Ear


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, protocol=2) as client:
        yield client


async def test_of_rings_that_follow_closely_few_are_heard_and_the_last_is(redis: Redis) -> None:
    bell, rung, count = Bell(redis), 0, 0
    async with redis.pubsub(ignore_subscribe_messages=True) as heard:
        await heard.subscribe("cairn:appended")
        await heard.get_message(timeout=5)  # that it is subscribed
        for _ in range(5):
            for _ in range(200):
                bell.ring()
                rung += 1
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
        while await heard.get_message(timeout=0.3) is not None:
            count += 1
        assert 2 <= count <= rung / 20
        bell.ring()
        assert await heard.get_message(timeout=5) is not None


async def test_whoever_waits_hears_a_ring(redis: Redis, redis_url: str) -> None:
    bell = Bell(redis)
    with SyncRedis.from_url(redis_url) as listening:
        ear = Ear(listening)
        await asyncio.to_thread(ear.wait, 0.01)  # from now on it hears
        waiting = asyncio.create_task(asyncio.to_thread(ear.wait, 600.0))
        async with asyncio.timeout(30):
            while not waiting.done():
                bell.ring()
                await asyncio.sleep(0.02)
