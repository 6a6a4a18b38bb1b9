"""The user of Valkey's that the operators' guide gives: all that is asked is allowed, and no more."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from domain.measures import ActivityId
from infra.embedded.valkey import EmbeddedValkey
from infra.limits import ValkeyLimits
from infra.object_store import FolderObjects
from infra.queue import IngestQueue
from infra.server_checks import ServerChecks
from infra.shared_reads import Changes, SharedReads
from infra.vault import Vault
from infra.wakeup import Bell, Ear
from tests.servers import running
from workers.cli.addresses import require_valkey

GUIDE = Path(__file__).parents[2] / "docs/operators/README.md"
OPTIONS = "db=3&client_name=cairn&health_check_interval=1"


def rules() -> list[str]:
    """Of the user that the guide makes."""
    found = re.search(r"ACL SETUSER cairn on >PASSWORD ((?:.|\n)*?)\n\n", GUIDE.read_text())
    assert found is not None
    return found[1].split()


async def use_queue(redis: AsyncRedis) -> None:
    queue = IngestQueue(redis, "one")
    await queue.add(ActivityId(uuid4()))
    hint = await queue.take(0.01) or await queue.take(0.01)
    assert hint is not None
    assert await queue.length() == (1, 1)
    await queue.done(hint.entry)
    assert await queue.length() == (0, 0)


@asynccontextmanager
async def heard(reads: SharedReads) -> AsyncIterator[asyncio.Queue[int]]:
    """The positions of the news."""
    opened, news = asyncio.Event(), asyncio.Queue[int]()
    listening = asyncio.create_task(
        reads.listen(lambda _, position: news.put_nowait(position), opened.set, lambda: None)
    )
    await asyncio.wait_for(opened.wait(), 20)
    yield news
    listening.cancel()
    await asyncio.wait((listening,))


async def use_reads(redis: AsyncRedis, changes: Changes) -> None:
    reads, anna = SharedReads(redis), uuid4()
    async with heard(reads) as news:
        for position in (12, 11):
            changes.tell([anna], position)
        while await asyncio.wait_for(news.get(), 20) != 11:
            pass
        reads.keep(anna, "feed", b"page", [anna], 12, 60.0)
        async with asyncio.timeout(20):
            while await reads.find(anna, "feed") is None:
                await asyncio.sleep(0.02)
        assert await reads.level([anna]) == 12


async def use_bell(redis: AsyncRedis, ear: Ear) -> None:
    bell = Bell(redis)
    await asyncio.to_thread(ear.wait, 0.01)
    waiting = asyncio.create_task(asyncio.to_thread(ear.wait, 600.0))
    async with asyncio.timeout(30):
        while not waiting.done():
            bell.ring()
            await asyncio.sleep(0.02)


async def use_limits(redis: AsyncRedis) -> None:
    limits = ValkeyLimits(redis)
    assert await limits.take([(f"cairn:{{{uuid4().hex}}}:0", 1_000, 20_000)]) is not None
    limits.close()


async def test_all_that_is_asked_is_allowed_and_no_more(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", 30.0)  # others use this machine too
    monkeypatch.setattr("infra.shared_reads._DEADLINE_SECONDS", 30.0)
    allowed = rules()
    with running(EmbeddedValkey, tmp_path) as server, Redis.from_url(server.url) as operator:
        operator.execute_command("ACL", "SETUSER", "cairn", "on", ">secret", *allowed)
        url = f"{server.url.replace('unix://', 'unix://cairn:secret@')}?{OPTIONS}"
        require_valkey(url)
        async with AsyncRedis.from_url(url, protocol=2) as redis:
            with Redis.from_url(url, protocol=2) as waiting:
                await use_queue(redis)
                await use_reads(redis, Changes(waiting))
                await use_bell(redis, Ear(waiting))
                await use_limits(redis)
            checks = ServerChecks(database_url, redis, Vault([b"m" * 32]), FolderObjects(tmp_path / "objects"))
            await checks.look()
            assert "valkey" not in checks.missing()
        assert operator.execute_command("ACL", "LOG") == []
        asked: Any = operator.info("commandstats")
    commands = {rule.removeprefix("+") for rule in allowed if rule.startswith("+")}
    assert commands - {name.removeprefix("cmdstat_") for name in asked} == set()
