from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from domain.measures import ActivityId
from infra.queue import IngestQueue

STREAM = "cairn:{ingest}:queue"


@pytest.fixture
async def valkey(redis_url: str) -> AsyncIterator[Redis]:
    """A database of its own: workers of other tests may be listening."""
    async with Redis.from_url(redis_url, protocol=2, db=7) as opened:
        await opened.delete(STREAM)
        yield opened


async def taken(queue: IngestQueue) -> tuple[bytes, ActivityId] | None:
    """The next hint; the first look at an empty Valkey only makes the group."""
    return await queue.take(0.01) or await queue.take(0.01)


async def test_a_hint_is_taken_once_and_is_gone_when_done(valkey: Redis) -> None:
    one, other = IngestQueue(valkey, "one"), IngestQueue(valkey, "other")
    activity_id = ActivityId(uuid4())
    await one.add(activity_id)
    found = await taken(one)
    assert found is not None
    assert found[1] == activity_id
    assert await taken(other) is None
    await one.done(found[0])
    assert await valkey.xlen(STREAM) == 0


async def test_hints_go_on_after_valkey_lost_everything(valkey: Redis) -> None:
    queue = IngestQueue(valkey, "one")
    assert await taken(queue) is None
    await valkey.delete(STREAM)
    activity_id = ActivityId(uuid4())
    await queue.add(activity_id)
    found = await taken(queue)
    assert found is not None
    assert found[1] == activity_id
