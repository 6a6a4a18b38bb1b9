"""What the loop around ingest does with what is left over, and with what others are at."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from domain.measures import UserId
from domain.uploads import Fault, Verdict
from infra.bootstrap import Parts, now, open_parts
from tests.instance_settings import settings_of
from tests.uploads import ThreadReader, accept, waiting
from tests.workers.ingest.taking_in import RUN, ingest
from workers.ingest import loop
from workers.ingest.loop import IngestLoop


@pytest.fixture
async def parts(database_url: str, tmp_path: Path) -> AsyncIterator[Parts]:
    """Without a queue: the sweeps do it all."""
    async with open_parts(settings_of(tmp_path, database_url, "redis://127.0.0.1:1")) as opened:
        yield opened


def looping(parts: Parts, later: timedelta = timedelta()) -> IngestLoop:
    """One upload at a time, in the order in which sweeps find them."""
    taking_in = ingest(parts, ThreadReader())
    return IngestLoop(taking_in, parts.inbox, parts.queue, clock=lambda: now() + later, at_once=1)


async def swept(parts: Parts, later: timedelta) -> None:
    """Until the loop, by such a clock, has been through all that waits. The second upload comes in once the first has
    its verdict: it is found by a later sweep, so what the first was found with is through before it.
    """
    running = asyncio.create_task(looping(parts, later).run())
    async with asyncio.timeout(30):
        for _ in range(2):
            manifest = await accept(parts.inbox, RUN)
            while await parts.inbox.verdict(manifest.activity_id) is None:
                await asyncio.sleep(0.01)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_bytes_that_nothing_is_known_of_are_kept_for_a_day(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of an upload whose manifest is still on its way, or will never come."""
    monkeypatch.setattr(loop, "_SWEEP_SECONDS", 0.04)
    orphan = (await accept(parts.inbox, RUN)).activity_id
    (manifest,) = (tmp_path / "manifests").rglob(str(orphan))
    manifest.unlink()
    for hours, waits in ((23, True), (25, False)):
        await swept(parts, timedelta(hours=hours))
        assert (orphan in await waiting(parts.inbox)) is waits


async def test_what_another_worker_is_at_is_looked_at_again_soon_however_often_it_was(parts: Parts) -> None:
    """It did not fail: the pauses after failures are up to two minutes."""
    manifest, taking_in = await accept(parts.inbox, RUN), looping(parts)
    pauses = []
    async with parts.attempts.alone(manifest.activity_id):
        for _ in range(7):
            assert not await taking_in._try(manifest.activity_id)
            pause, look_at = taking_in._looks[manifest.activity_id]
            assert look_at <= time.monotonic() + pause
            pauses.append(pause)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert taking_in._failures == {}
    assert await taking_in._try(manifest.activity_id)
    assert taking_in._looks == {}


@pytest.mark.parametrize("without_queue", [True, False])
async def test_what_waits_for_another_upload_needs_no_sweep(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, without_queue: bool
) -> None:
    """The same bytes came twice at once: the second's hint is used up before the first has its verdict."""
    for seconds in ("_SWEEP_SECONDS", "_BUSY_SWEEP_SECONDS"):
        monkeypatch.setattr(loop, seconds, 3600.0)
    if not without_queue:
        monkeypatch.setattr(loop, "_WAIT_SECONDS", 3600.0)  # for the next hint
    server = "redis://127.0.0.1:1" if without_queue else redis_url
    async with open_parts(settings_of(tmp_path, database_url, server)) as parts:
        runner = UserId(uuid4())
        first, second = [await accept(parts.inbox, RUN, user_id=runner) for _ in range(2)]
        await parts.claims.claim(runner, first.sha256, first.activity_id)
        taking_in = looping(parts)
        assert not await taking_in._try(second.activity_id)
        running = asyncio.create_task(taking_in.run())
        await parts.inbox.close(first, Verdict(status="failed", fault=Fault("processing-failed", "it failed")))
        async with asyncio.timeout(30):
            while (verdict := await parts.inbox.verdict(second.activity_id)) is None:
                await asyncio.sleep(0.01)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert verdict.status == "ready"
