"""The loop around ingest: what the queue hints at, what a sweep of the inbox finds, and what failed before."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from domain.errors import StoreUnavailable
from domain.measures import ActivityId
from domain.recordings.reading import ReaderFailed
from domain.uploads import Hint, Inbox, Waiting
from workers.ingest.ingest import Ingest, UnderWay
from workers.ingest.ports import Queue

_log = logging.getLogger(__name__)

_WAIT_SECONDS: Final = 1.0  # for a hint, before a look at what a sweep found
_SWEEP_SECONDS: Final = 2.0  # between sweeps in quiet times
_BUSY_SWEEP_SECONDS: Final = 30.0  # between sweeps while hints keep coming
_SETTLED: Final = timedelta(seconds=2)  # younger uploads have a hint on its way
_ORPHANED: Final = timedelta(days=1)  # bytes that nothing needs: of an upload that was never acked, or came twice
_FIRST_LOOK_SECONDS: Final = 0.2  # until another look at what another upload or worker decides, mostly at once
_LOOK_SECONDS: Final = 5.0  # between later looks, at most
_RETRY_SECONDS: Final = (1.0, 5.0, 30.0, 120.0)


class IngestLoop:
    """Runs until it is cancelled. Several may run at once: what one is at, the others leave out."""

    def __init__(
        self, ingest: Ingest, inbox: Inbox, queue: Queue, clock: Callable[[], datetime], at_once: int = 2
    ) -> None:
        self._ingest = ingest
        self._inbox = inbox
        self._queue = queue
        self._clock = clock
        self._at_once = at_once
        self._found: asyncio.Queue[Waiting] = asyncio.Queue(at_once)
        self._under_way: set[ActivityId] = set()
        self._hinted_at = 0.0
        self._missed = False  # something, since the last sweep began: a server was away
        self._failures: dict[ActivityId, tuple[int, float]] = {}  # how often, and when to try again
        self._looks: dict[ActivityId, tuple[float, float]] = {}  # at what others decide: after which pause, and when

    async def run(self) -> None:
        """For ever: what waits is taken in, what fails is tried again later, what is down is waited for."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self._sweep))
            for _ in range(self._at_once):
                tasks.create_task(self._repeat(self._turn))

    async def _repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.current_task()
        while task is not None and not task.cancelling():  # the client of the queue may swallow it while it connects
            try:
                await work()
            except StoreUnavailable as away:
                self._missed = True
                why = str(away.__cause__ or away).strip().partition("\n")[0] or "it does not answer"
                _log.warning("a server is away: what waits stays in the inbox until it is back (%s)", why)
                await asyncio.sleep(_WAIT_SECONDS)

    async def _turn(self) -> None:
        """One of each, so that none waits for all of another kind."""
        look_at, activity_id = self._next_look()
        if activity_id is not None and look_at <= time.monotonic():
            await self._try(activity_id)
        if not self._found.empty():
            left = self._found.get_nowait()
            if await self._try(left.activity_id) and self._clock() - left.since > _ORPHANED:
                await self._inbox.forget(left)
        elif (hint := await self._hint()) is not None:
            self._hinted_at = time.monotonic()
            await self._try(hint.activity_id, first=hint.first)
            await self._queue.done(hint.entry)

    def _next_look(self) -> tuple[float, ActivityId | None]:
        """When another look is due at what others decide, and at what."""
        return min(((at, one) for one, (_, at) in self._looks.items()), default=(math.inf, None))

    async def _hint(self) -> Hint | None:
        """None when none comes before something else is to be done."""
        look_at, _ = self._next_look()
        try:
            return await self._queue.take(max(0.0, min(look_at - time.monotonic(), _WAIT_SECONDS)))
        except StoreUnavailable:  # without the queue, the sweeps do it all
            self._missed = True
            await asyncio.sleep(_WAIT_SECONDS / 4)
            return None

    async def _sweep(self) -> None:
        """What the queue lost, what a dead worker left, and what failed before."""
        self._missed, there = False, set[ActivityId]()
        async for left in self._inbox.waiting():
            there.add(left.activity_id)
            again_at = self._failures.get(left.activity_id, (0, 0.0))[1]
            ready = again_at <= time.monotonic() and left.activity_id not in self._looks
            if ready and self._clock() - left.since >= _SETTLED:
                await self._found.put(left)
        self._failures = {one: known for one, known in self._failures.items() if one in there}
        began = time.monotonic()
        while time.monotonic() - began < (_BUSY_SWEEP_SECONDS if self._relies_on_hints() else _SWEEP_SECONDS):
            await asyncio.sleep(_SWEEP_SECONDS / 4)

    def _relies_on_hints(self) -> bool:
        return not self._missed and time.monotonic() - self._hinted_at < _SWEEP_SECONDS

    async def _try(self, activity_id: ActivityId, *, first: bool = False) -> bool:
        """Whether there is nothing left to do; a failure is tried again later."""
        if activity_id in self._under_way:
            return False
        self._under_way.add(activity_id)
        pause, _ = self._looks.pop(activity_id, (0.0, 0.0))  # a server that is away then is for the sweeps
        try:
            await self._ingest.process(activity_id, first=first)
        except StoreUnavailable:
            raise
        except UnderWay:
            pause = min(max(_FIRST_LOOK_SECONDS, 2 * pause), _LOOK_SECONDS)
            self._looks[activity_id] = (pause, time.monotonic() + pause)
            return False
        except Exception as failure:  # noqa: BLE001 - one upload's fault, of whatever kind, must not stop the others
            times = self._failures.get(activity_id, (0, 0.0))[0] + 1
            pause = _RETRY_SECONDS[min(times, len(_RETRY_SECONDS)) - 1]
            self._failures[activity_id] = (times, time.monotonic() + pause)
            trace = None if isinstance(failure, ReaderFailed) else failure
            _log.warning("%s failed for the %d. time: %s", activity_id, times, failure, exc_info=trace)
            return False
        finally:
            self._under_way.discard(activity_id)
        self._failures.pop(activity_id, None)
        return True
