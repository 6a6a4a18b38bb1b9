"""Exactly once in effect: several workers at the same uploads, cut off between any two steps, until all have an end."""

import asyncio
import hashlib
import inspect
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import StoreUnavailable
from domain.measures import ActivityId, UserId
from domain.uploads import Verdict
from infra.bootstrap import Parts, now, open_parts
from infra.inbox import ObjectInbox
from infra.keys import MasterKeys
from infra.settings import Settings
from infra.tracks import ObjectTracks
from tests.instance_settings import MASTER_KEY, settings_of
from tests.recordings import fit
from tests.uploads import ThreadReader, accept, waiting
from tests.workers.ingest.taking_in import ingest
from workers.ingest.ingest import MAX_ATTEMPTS, Ingest, UnderWay
from workers.ingest.loop import IngestLoop

SEEDS, WORKERS = int(os.environ.get("CAIRN_SEEDS", "40")), 3
RUN = fit(1, kilometres=0.3)


class Killed(BaseException):
    """No handler sees it, as none sees a kill -9."""


class Dice:
    """Decides when a step fails. So often at most that the upload is not given up."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._left = MAX_ATTEMPTS - 1

    def stumble(self) -> None:
        if self._left and self.random.random() < 0.08:
            self._left -= 1
            raise self.random.choice((StoreUnavailable, Killed))


class Stumbling:
    """A part whose every call may be cut off before it happens, or after it has without anybody hearing of it."""

    def __init__(self, part: object, dice: Dice) -> None:
        self._part, self._dice = part, dice

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name in ("alone", "draft"):
            return self._entering(found)
        if inspect.isasyncgenfunction(found):
            return self._iterating(found)
        return self._calling(found) if inspect.iscoroutinefunction(found) else found

    def _calling(self, found: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: object, **more: object) -> object:
            self._dice.stumble()
            result = await found(*arguments, **more)
            self._dice.stumble()
            return result

        return call

    def _iterating(self, found: Callable[..., Any]) -> Callable[..., Any]:
        async def iterate(*arguments: object) -> AsyncIterator[object]:
            async for item in found(*arguments):
                self._dice.stumble()
                yield item

        return iterate

    def _entering(self, found: Callable[..., Any]) -> Callable[..., Any]:
        @asynccontextmanager
        async def enter(*arguments: object) -> AsyncIterator[object]:
            self._dice.stumble()
            async with found(*arguments) as entered:
                yield Stumbling(entered, self._dice) if hasattr(entered, "commit") else entered
            self._dice.stumble()

        return enter


@pytest.fixture
def settings(fresh_database: Callable[[], str], redis_url: str, tmp_path: Path) -> Settings:
    return settings_of(tmp_path, fresh_database(), redis_url)


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    async with open_parts(settings) as opened:
        yield opened


def stumbling_ingest(parts: Parts, dice: Dice) -> Ingest:
    objects: Any = Stumbling(parts.objects, dice)
    keys: Any = Stumbling(parts.keys, dice)
    inbox, tracks = ObjectInbox(objects, MasterKeys([MASTER_KEY]), keys), ObjectTracks(objects, keys)
    four: list[Any] = [Stumbling(part, dice) for part in (parts.streams, parts.claims, parts.attempts, parts.sessions)]
    streams, claims, attempts, sessions = four
    return Ingest(inbox, streams, ThreadReader(), tracks, claims, attempts, sessions, clock=now)


async def work(taking_in: Ingest, uploads: Sequence[ActivityId], dice: Dice) -> dict[ActivityId, Verdict | None]:
    """What a worker, started again whenever it was killed, hears of each upload in the end."""
    heard = dict[ActivityId, Verdict | None]()
    while left := [upload for upload in uploads if upload not in heard]:
        upload = dice.random.choice(left)
        with suppress(Killed, StoreUnavailable, UnderWay):
            heard[upload] = await taking_in.process(upload, first=dice.random.random() < 0.3)
        await asyncio.sleep(0.01)
    return heard


async def count(parts: Parts, query: str, *values: object) -> int:
    async with parts.read_models.connection() as connection:
        row = await (await connection.execute(query, values)).fetchone()
    return int(row[0]) if row else 0


async def test_whatever_is_cut_off_an_upload_becomes_one_activity_and_its_bytes_are_kept(parts: Parts) -> None:
    for seed in range(SEEDS):
        dice, runner = Dice(seed), UserId(uuid4())
        uploads = [(await accept(parts.inbox, RUN, user_id=runner)).activity_id for _ in range(1 + seed % 2)]
        heard = await asyncio.gather(*(work(stumbling_ingest(parts, dice), uploads, dice) for _ in range(WORKERS)))

        verdicts = {upload: await parts.inbox.verdict(upload) for upload in uploads}
        assert heard == [verdicts] * WORKERS, seed
        by_status = {verdict.status: verdict for verdict in verdicts.values() if verdict is not None}
        ready = by_status["ready"]
        (activity_id,) = ready.activities
        if len(uploads) > 1:
            assert by_status["duplicate"].duplicate_of == activity_id, seed
        assert await count(parts, "SELECT count(*) FROM stored_events WHERE owner_id = %s", runner) == 1, seed
        assert await waiting(parts.inbox) == [], seed
        assert (
            b"".join([piece async for piece in parts.inbox.original(runner, hashlib.sha256(RUN).hexdigest())]) == RUN
        ), seed
        assert await parts.tracks.columns(runner, activity_id, None, None) is not None, seed
    assert await count(parts, "SELECT count(*) FROM ingest_attempts") == 0


async def test_many_workers_at_one_upload_do_not_count_as_failed_tries(
    parts: Parts, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an outage, when the sweeps of all of them find the same uploads in the same order."""
    uploads = [(await accept(parts.inbox, fit(seed, 0.3), user_id=UserId(uuid4()))).activity_id for seed in range(3)]
    workers = [asyncio.create_task(sweep(settings)) for _ in range(MAX_ATTEMPTS + 1)]
    try:
        while await waiting(parts.inbox):
            await asyncio.sleep(0.05)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    found = [await parts.inbox.verdict(upload) for upload in uploads]
    assert [verdict.status for verdict in found if verdict] == ["ready"] * 3, caplog.text


async def sweep(settings: Settings) -> None:
    """A worker with connections of its own."""
    async with open_parts(settings) as parts:
        await IngestLoop(ingest(parts, ThreadReader()), parts.inbox, parts.queue, clock=now).run()
