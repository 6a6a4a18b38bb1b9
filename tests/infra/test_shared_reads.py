"""Kept answers in a real Valkey, and the news of what makes them old."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Collection
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from api.front.cache import LIFE_SECONDS
from infra.embedded.valkey import EmbeddedValkey
from infra.shared_reads import Changes, SharedReads
from tests.servers import running, start, stop


class Process:
    """An API process, as far as this goes."""

    def __init__(self, url: str) -> None:
        self.redis = AsyncRedis.from_url(url, protocol=2, retry=AsyncRetry(NoBackoff(), 1))
        self.lost = asyncio.Event()
        self.reads = SharedReads(self.redis, self.lost.set)
        self.open = asyncio.Event()
        self.news: asyncio.Queue[tuple[Collection[UUID], int]] = asyncio.Queue()
        self.listening = asyncio.create_task(
            self.reads.listen(
                lambda users, position: self.news.put_nowait((users, position)), self.open.set, self.open.clear
            )
        )

    async def ready(self) -> "Process":
        await asyncio.wait_for(self.open.wait(), 20)
        return self

    async def close(self) -> None:
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)
        await self.redis.aclose()

    async def find(self, owner: UUID, key: str) -> tuple[bytes, int] | None:
        """What is there, once it is: `keep` does not wait, and on a busy machine Valkey may be late."""
        for _ in range(500):
            found = await self.reads.find(owner, key)
            if found is not None:
                return found
            await asyncio.sleep(0.02)
        return None


async def heard(process: Process, users: Collection[UUID], level: int) -> None:
    """Wait until the level of these is known, and see that it is this one."""
    while (found := await process.reads.level(users)) is None:
        await asyncio.sleep(0.02)
    assert found == level


@pytest.fixture
async def one(redis_url: str, changes: Changes) -> AsyncIterator[Process]:
    assert changes is not None  # whose first words come before anything is kept
    process = await Process(redis_url).ready()
    yield process
    await process.close()


@pytest.fixture
async def other(redis_url: str, changes: Changes) -> AsyncIterator[Process]:
    assert changes is not None  # whose first words come before anything is kept
    process = await Process(redis_url).ready()
    yield process
    await process.close()


@pytest.fixture
def changes(redis_url: str) -> Changes:
    return told(redis_url)


def told(url: str) -> Changes:
    made = Changes(Redis.from_url(url, protocol=2, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)))
    made.tell([], 0)  # what a new one says first: that all is old
    return made


async def test_an_answer_is_there_for_all_processes(one: Process, other: Process) -> None:
    anna = uuid4()
    one.reads.keep(anna, "feed", b"page", [anna], 10, 60.0)
    assert await other.find(anna, "feed") == (b"page", 10)


async def test_a_change_raises_the_level_and_is_heard_by_all(one: Process, other: Process, changes: Changes) -> None:
    anna, ben = uuid4(), uuid4()
    one.reads.keep(anna, "feed", b"page", [anna, ben], 10, 60.0)
    await other.find(anna, "feed")
    changes.tell([ben, anna], 12)
    for process in (one, other):
        while (news := await asyncio.wait_for(process.news.get(), 20))[1] != 12:
            pass
        assert set(news[0]) == {anna, ben}
    assert await other.find(anna, "feed") == (b"page", 12)
    await heard(other, [anna, ben], 12)


async def test_levels_only_rise(one: Process, changes: Changes) -> None:
    anna = uuid4()
    changes.tell([anna], 20)
    changes.tell([anna], 15)  # by a build that is behind
    await heard(one, [anna], 20)
    one.reads.keep(anna, "feed", b"old", [anna], 18, 60.0)
    assert await one.find(anna, "feed") == (b"old", 20)


async def test_of_whom_nothing_is_known_no_level_is_told(one: Process, changes: Changes) -> None:
    anna = uuid4()
    changes.tell([anna], 20)
    assert await one.reads.level([anna, uuid4()]) is None


@pytest.mark.parametrize("foreign", [b"abc", b"", b"\xff"])
async def test_a_level_that_is_no_number_is_not_known_until_a_change_raises_it(
    one: Process, changes: Changes, foreign: bytes
) -> None:
    anna, ben = uuid4(), uuid4()
    changes.tell([anna, ben], 10)
    one.reads.keep(anna, "feed", b"page", [anna], 10, 60.0)
    assert await one.find(anna, "feed") == (b"page", 10)
    await one.redis.set(f"cairn:level:{{{anna.hex}}}", foreign)
    assert await one.reads.find(anna, "feed") is None
    assert await one.reads.level([ben, anna]) is None
    changes.tell([anna], 12)
    assert await one.reads.find(anna, "feed") == (b"page", 12)
    assert await one.reads.level([ben, anna]) == 12


async def test_an_epoch_that_is_no_text_is_one_for_all_processes(redis_url: str, changes: Changes) -> None:
    anna, url = uuid4(), redis_url
    async with AsyncRedis.from_url(url, protocol=2) as redis:
        await redis.set("cairn:reads:epoch", b"\xff\xfe")
    one, other = await Process(url).ready(), await Process(url).ready()
    one.reads.keep(anna, "feed", b"page", [anna], 10, 60.0)
    assert await other.find(anna, "feed") == (b"page", 10)
    changes.all_of_it()
    while (await asyncio.wait_for(other.news.get(), 20))[0]:
        pass
    assert await other.reads.find(anna, "feed") is None
    await one.close()
    await other.close()


@pytest.mark.parametrize("at_first", [True, False])
async def test_whoever_cannot_say_what_changed_makes_all_of_it_old(
    one: Process, changes: Changes, redis_url: str, *, at_first: bool
) -> None:
    anna = uuid4()
    one.reads.keep(anna, "feed", b"page", [anna], 10, 60.0)
    assert await one.find(anna, "feed") is not None
    if at_first:
        told(redis_url)  # whoever told of changes before may have died before all was told
    else:
        changes.all_of_it()  # at once, and not only with the next news
    while (await asyncio.wait_for(one.news.get(), 20))[0]:
        pass
    assert await one.reads.find(anna, "feed") is None


async def test_answers_go_by_themselves_and_levels_outlive_them(one: Process) -> None:
    anna = uuid4()
    one.reads.keep(anna, "feed", b"page", [anna], 10, LIFE_SECONDS)
    assert await one.find(anna, "feed") is not None
    place, level = one.reads._place(anna, "feed"), f"cairn:level:{{{anna.hex}}}"
    left = [await one.redis.pttl(key) / 1000 for key in (place, level)]
    assert 0 < left[0] <= LIFE_SECONDS
    assert left[1] > 2 * LIFE_SECONDS


async def test_what_has_less_than_a_second_to_live_is_not_kept(one: Process) -> None:
    one.reads.keep(uuid4(), "feed", b"page", [], 10, 0.9)
    assert not one.reads._writing
    assert await one.reads.level([]) == -1  # nothing went wrong: Valkey is asked


async def test_an_answer_whose_owners_level_is_gone_is_not_there(one: Process) -> None:
    anna = uuid4()
    one.reads.keep(anna, "feed", b"page", [anna], 10, 60.0)
    assert await one.find(anna, "feed") is not None
    await one.redis.delete(f"cairn:level:{{{anna.hex}}}")
    assert await one.reads.find(anna, "feed") is None


async def test_a_silent_valkey_is_waited_for_once_and_then_left_alone_for_a_while(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[object]()

    async def silent(*keys: object) -> None:
        asked.append(keys)
        await asyncio.sleep(600)

    monkeypatch.setattr("infra.shared_reads._DEADLINE_SECONDS", 0.01)
    monkeypatch.setattr("infra.shared_reads._PAUSE_SECONDS", 600.0)
    monkeypatch.setattr(one.redis, "mget", silent)
    assert [await one.reads.find(uuid4(), "feed") for _ in range(3)] == [None, None, None]
    assert len(asked) == 1


def test_what_tells_of_changes_does_not_wait_for_a_lost_valkey_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[object]()

    def refused(*_: object, **__: object) -> None:
        asked.append(_)
        raise OSError("refused")

    redis = Redis(port=1, retry=Retry(NoBackoff(), 0))
    monkeypatch.setattr("infra.shared_reads._PAUSE_SECONDS", 600.0)
    monkeypatch.setattr(redis, "pipeline", refused)
    changes = Changes(redis)
    for position in range(3):
        changes.tell([uuid4()], position)
    assert len(asked) == 1


async def test_an_answer_from_before_all_was_made_old_is_not_there_after_it(one: Process) -> None:
    anna = uuid4()
    one.reads.keep(anna, "feed", b"page", [anna], 10, 60.0)
    one.reads._epoch = "the next one"  # heard before the answer is on its way
    await asyncio.gather(*one.reads._writing)
    assert await one.reads.find(anna, "feed") is None


async def test_news_that_cannot_be_read_make_all_of_it_old_and_the_next_ones_are_heard(
    one: Process, changes: Changes, redis_url: str
) -> None:
    anna, epoch = uuid4(), "of-newer-code"
    one.reads.keep(anna, "feed", b"page", [anna], 10, 60.0)
    assert await one.find(anna, "feed") is not None
    with Redis.from_url(redis_url) as newer:
        for news in ((11, epoch, b"", "a field more"), (11, epoch, b"a user in 15 B")):
            newer.set("cairn:reads:epoch", epoch)
            newer.publish("cairn:changed", msgspec.msgpack.encode(news))
            while await asyncio.wait_for(one.news.get(), 20) != ([], -1):
                pass
            assert await one.reads.find(anna, "feed") is None
    changes.tell([anna], 12)
    assert await asyncio.wait_for(one.news.get(), 20) == ([anna], 12)
    assert not one.lost.is_set()


async def test_a_valkey_that_was_emptied_has_nothing_and_goes_on(one: Process) -> None:
    anna = uuid4()
    one.reads.keep(anna, "feed", b"page", [anna], 10, 60.0)
    await one.find(anna, "feed")
    await one.redis.flushall()
    assert await one.reads.find(anna, "feed") is None
    one.reads.keep(anna, "feed", b"again", [anna], 11, 60.0)
    assert await one.find(anna, "feed") == (b"again", 11)


async def test_a_valkey_that_stands_still_is_seen_to_and_nothing_is_kept_meanwhile(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.shared_reads._ALIVE_SECONDS", 0.1)
    server = EmbeddedValkey(tmp_path)
    process = start(server)
    api = await Process(server.url).ready()
    monkeypatch.setattr("infra.shared_reads._PAUSE_SECONDS", 30.0)  # what was kept is let go before that
    process.send_signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            await api.lost.wait()
            while api.open.is_set():
                await asyncio.sleep(0.01)
    finally:
        process.send_signal(signal.SIGCONT)
        stop(server, process)
    await api.close()


async def test_an_answer_that_comes_late_is_not_the_next_one_s(
    one: Process, redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.shared_reads._PAUSE_SECONDS", 0.0)
    anna, ben = uuid4(), uuid4()
    for user, position in ((anna, 5), (ben, 9)):
        one.reads.keep(user, "feed", b"answer", [user], position, 30)
        await one.find(user, "feed")
    with Redis.from_url(redis_url) as admin:
        admin.execute_command("CLIENT", "PAUSE", 300, "ALL")
    assert await one.reads.level([anna]) is None
    one.reads.keep(anna, "other", b"other", [anna], 5, 30)
    for _ in range(4):
        assert await one.reads.level([ben]) in (None, 9)
    assert await one.find(ben, "feed") == (b"answer", 9)
    assert await one.reads.level([ben]) == 9
    assert "could not be asked for" not in caplog.text


async def test_while_valkey_is_away_nothing_is_kept_and_nothing_fails(tmp_path: Any) -> None:
    server = EmbeddedValkey(tmp_path)
    process = start(server)
    api = await Process(server.url).ready()
    changes, anna = told(server.url), uuid4()
    while (await asyncio.wait_for(api.news.get(), 20))[0]:  # what it said first
        pass
    stop(server, process)
    while api.open.is_set():
        await asyncio.sleep(0.02)
    assert api.lost.is_set()
    api.reads.keep(anna, "feed", b"page", [anna], 10, 60.0)
    assert await api.reads.find(anna, "feed") is None
    assert await api.reads.level([anna]) is None
    changes.tell([anna], 11)
    with running(EmbeddedValkey, tmp_path):
        await api.ready()
        for _ in range(100):  # what could not be told makes all old, as soon as it can be told again
            changes.tell([], 12)
            if not api.news.empty():
                break
            await asyncio.sleep(0.05)
        assert api.news.get_nowait()[0] == []
        await api.close()


async def test_who_is_told_to_end_while_something_comes_ends(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    async def goes_on(_pubsub: PubSub, **_: Any) -> None:
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):  # as `asyncio.wait_for` of Python 3.11 does
            await asyncio.sleep(0.01)

    monkeypatch.setattr(PubSub, "get_message", goes_on)
    monkeypatch.setattr(PubSub, "ping", goes_on)
    process = Process(redis_url)
    await asked.wait()
    process.listening.cancel()
    done, _ = await asyncio.wait([process.listening], timeout=10)
    assert [task.cancelled() for task in done] == [True]
    await process.redis.aclose()
