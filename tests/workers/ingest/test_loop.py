"""What the loop around ingest does with what is left over, and with what others are at."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from infra.bootstrap import Parts, now, open_parts
from tests.instance_settings import settings_of
from tests.recordings import fit
from tests.uploads import ThreadReader, accept, waiting
from workers.ingest import loop
from workers.ingest.ingest import Ingest
from workers.ingest.loop import IngestLoop

RUN = fit(1, kilometres=1)


@pytest.fixture
async def parts(database_url: str, tmp_path: Path) -> AsyncIterator[Parts]:
    """Without a queue: the sweeps do it all."""
    async with open_parts(settings_of(tmp_path, database_url, "redis://127.0.0.1:1")) as opened:
        yield opened


def looping(parts: Parts, later: timedelta = timedelta()) -> IngestLoop:
    """One upload at a time, in the order in which sweeps find them."""
    served = parts.tracks, parts.claims, parts.attempts, parts.sessions
    taking_in = Ingest(parts.inbox, parts.streams, ThreadReader(), *served, clock=now)
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
    async with parts.attempts.alone(manifest.activity_id):
        for _ in range(4):
            assert not await taking_in._try(manifest.activity_id)
    times, again_at = taking_in._failures[manifest.activity_id]
    assert (times, again_at <= time.monotonic() + 5.0) == (0, True)
    assert await taking_in._try(manifest.activity_id)
