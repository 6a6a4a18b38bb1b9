from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from domain.measures import ActivityId
from domain.uploads import Hint
from infra.queue import IngestQueue

STREAM = "cairn:{ingest}:queue"


@pytest.fixture
async def valkey(redis_url: str) -> AsyncIterator[Redis]:
    """A database of its own: workers of other tests may be listening."""
    async with Redis.from_url(redis_url, protocol=2, db=7) as opened:
        await opened.delete(STREAM)
        yield opened


async def taken(queue: IngestQueue) -> Hint | None:
    """The next hint; the first look at an empty Valkey only makes the group."""
    return await queue.take(0.01) or await queue.take(0.01)


async def test_a_hint_is_taken_once_and_is_gone_when_done(valkey: Redis) -> None:
    one, other = IngestQueue(valkey, "one"), IngestQueue(valkey, "other")
    activity_id = ActivityId(uuid4())
    await one.add(activity_id)
    found = await taken(one)
    assert found is not None
    assert found.activity_id == activity_id
    assert await taken(other) is None
    await one.done(found.entry)
    assert await valkey.xlen(STREAM) == 0


async def test_hints_go_on_after_valkey_lost_everything(valkey: Redis) -> None:
    queue = IngestQueue(valkey, "one")
    assert await taken(queue) is None
    await valkey.delete(STREAM)
    activity_id = ActivityId(uuid4())
    await queue.add(activity_id)
    found = await taken(queue)
    assert found is not None
    assert found.activity_id == activity_id


@pytest.mark.parametrize("first", [True, False])
async def test_a_hint_says_whether_nobody_can_have_tried_the_upload(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch, *, first: bool
) -> None:
    monkeypatch.setattr("infra.queue._ABANDONED_MS", 0)
    dying, other = IngestQueue(valkey, "dying"), IngestQueue(valkey, "other")
    await dying.add(ActivityId(uuid4()), first=first)
    found = await taken(dying)
    assert found is not None
    assert found.first is first
    again = await taken(other)
    assert again is not None
    assert again.entry == found.entry
    assert not again.first


@pytest.mark.parametrize("left_by_another", [False, True])
@pytest.mark.parametrize("foreign", [{"foo": "bar"}, {"id": "no-uuid"}, {"id": b"\xff\xfe"}])
async def test_what_is_no_hint_is_taken_away_and_the_next_one_is_taken(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch, foreign: Any, *, left_by_another: bool
) -> None:
    queue = IngestQueue(valkey, "one")
    assert await taken(queue) is None
    entry = await valkey.xadd(STREAM, foreign)
    if left_by_another:
        await valkey.xreadgroup("ingest", "dead", {STREAM: ">"}, count=1)
        monkeypatch.setattr("infra.queue._ABANDONED_MS", 0)
        queue = IngestQueue(valkey, "other")
    assert await queue.take(0.01) is None
    assert await valkey.xrange(STREAM, entry, entry) == []
    assert (await valkey.xpending(STREAM, "ingest"))["pending"] == 0
    activity_id = ActivityId(uuid4())
    await queue.add(activity_id)
    found = await taken(queue)
    assert found is not None
    assert found.activity_id == activity_id
