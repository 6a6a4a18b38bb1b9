"""The ingest loop: hints from the queue first; in its pauses a sweep over what the inbox says is pending."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from domain.errors import StoreUnavailable
from domain.measures import ActivityId
from domain.recordings.reading import ReaderFailed
from domain.uploads import Inbox
from workers.ingest.ingest import Ingest
from workers.ingest.ports import Queue

_log = logging.getLogger(__name__)

_WAIT_SECONDS: Final = 1.0  # for a hint, before a sweep
_SWEEP_SECONDS: Final = 2.0  # between sweeps in quiet times
_BUSY_SWEEP_SECONDS: Final = 30.0  # between sweeps while hints keep coming
_SETTLED: Final = timedelta(seconds=2)  # younger uploads have a hint on its way
_ORPHANED: Final = timedelta(days=1)  # a mark without a manifest: an upload that was never acked
_RETRY_SECONDS: Final = (1.0, 5.0, 30.0, 120.0)


class IngestLoop:
    """Runs until it is cancelled. Several may run at once: they do some work twice, and nothing doubly."""

    def __init__(self, ingest: Ingest, inbox: Inbox, queue: Queue, clock: Callable[[], datetime]) -> None:
        self._ingest = ingest
        self._inbox = inbox
        self._queue = queue
        self._clock = clock
        self._swept_at = 0.0
        self._failures: dict[ActivityId, tuple[int, float]] = {}  # how often, and when to try again

    async def run(self) -> None:
        """For ever: what waits is taken in, what fails is tried again later, what is down is waited for."""
        while True:
            try:
                await self._turn()
            except StoreUnavailable:
                _log.warning("a server is away: what waits stays in the inbox until it is back")
                await asyncio.sleep(_WAIT_SECONDS)

    async def _turn(self) -> None:
        hint = await self._hint()
        if hint is not None:
            entry, activity_id = hint
            await self._try(activity_id)
            await self._queue.done(entry)
        pause = _SWEEP_SECONDS if hint is None else _BUSY_SWEEP_SECONDS
        if time.monotonic() - self._swept_at >= pause:
            await self._sweep()

    async def _hint(self) -> tuple[bytes, ActivityId] | None:
        try:
            return await self._queue.take(_WAIT_SECONDS)
        except StoreUnavailable:  # without the queue, the sweeps do it all
            await asyncio.sleep(_WAIT_SECONDS)
            return None

    async def _sweep(self) -> None:
        """What the queue lost, what a dead worker left, and what failed before."""
        async for activity_id, accepted_at in self._inbox.pending():
            age = self._clock() - accepted_at
            if age < _SETTLED or self._failures.get(activity_id, (0, 0.0))[1] > time.monotonic():
                continue
            if await self._try(activity_id) and age > _ORPHANED:
                await self._inbox.forget(activity_id)
        self._swept_at = time.monotonic()

    async def _try(self, activity_id: ActivityId) -> bool:
        """Whether there is nothing left to do; a failure is tried again later."""
        try:
            await self._ingest.process(activity_id)
        except StoreUnavailable:
            raise
        except Exception as failure:  # noqa: BLE001 - one upload's fault, of whatever kind, must not stop the others
            times = self._failures.get(activity_id, (0, 0.0))[0] + 1
            pause = _RETRY_SECONDS[min(times, len(_RETRY_SECONDS)) - 1]
            self._failures[activity_id] = (times, time.monotonic() + pause)
            trace = None if isinstance(failure, ReaderFailed) else failure
            _log.warning("%s failed for the %d. time: %s", activity_id, times, failure, exc_info=trace)
            return False
        self._failures.pop(activity_id, None)
        return True
