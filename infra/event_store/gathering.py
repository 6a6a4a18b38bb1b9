"""Group commit, as databases do it for their own log: what comes while a flush is under way goes out with the next.

Nothing waits for a timer: with one caller each item is a flush of its own, with many the flushes grow by themselves.
An item that comes alone, as the one before it did, may be begun at once: a task and its turns of the event loop would
take a fifth of the time of a save.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import Final, Generic, TypeVar

from domain.errors import StoreUnavailable
from infra.away import ANSWER_SECONDS
from infra.futures import settle

I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")
_PATIENCE_SECONDS: Final = ANSWER_SECONDS + 0.5  # who waited behind a host that died goes out to its successor
Landed = Callable[[R | Exception], None]


def _never(_item: object, _landed: object) -> bool:
    return False


class Gatherer(Generic[I, R]):
    """Hands items to `flush` in the order they came, at most `flushers` lists at once.

    `flush` gives for each item a result or the exception that its caller shall have. `StoreUnavailable` for an item
    beyond `places`, and for one that had waited for too long when its turn came: waiting longer would help nobody.
    `begin` may begin an item that is alone, and then sees to it that the second argument is called with its result,
    once; if it says no, the item is flushed like others.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[I]], Awaitable[Sequence[R | Exception]]],
        *,
        flushers: int,
        at_once: int,
        places: int,
        begin: Callable[[I, Landed[R]], bool] = _never,
    ) -> None:
        self._flush = flush
        self._begin = begin
        self._flushers = flushers
        self._at_once = at_once
        self._places = places
        self._waiting: deque[tuple[I, asyncio.Future[R], float]] = deque()
        self._flushing = 0
        self._alone = True  # whether the last flush had one item
        self._ended: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, item: I) -> asyncio.Future[R]:
        """The item's result, to be awaited. Giving up on it takes nothing back."""
        if len(self._waiting) >= self._places:
            raise StoreUnavailable
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if self._flushing >= self._flushers:
            self._waiting.append((item, result, monotonic()))
            return result
        self._flushing += 1
        try:
            begun = self._alone and not self._waiting and self._begin(item, partial(self._landed, result))
        except BaseException:
            self._end()
            raise
        if not begun:
            self._waiting.append((item, result, monotonic()))
            self._start()
        return result

    def _landed(self, result: asyncio.Future[R], found: R | Exception) -> None:
        settle(result, found)
        if self._waiting:
            self._start()
        else:
            self._end()

    def _start(self) -> None:
        task = asyncio.create_task(self._drain())  # begins once everything that is ready to put has put
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        while taken := self._taken():
            self._alone = len(taken) == 1
            try:
                results = await self._flush([item for item, _, _ in taken])
            except Exception as fault:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                results = [fault] * len(taken)
            for (_, future, _), result in zip(taken, results, strict=True):
                settle(future, result)
        self._end()  # here, not when the task is done: whoever puts in between would wait for nobody

    def _taken(self) -> Sequence[tuple[I, asyncio.Future[R], float]]:
        late = monotonic() - _PATIENCE_SECONDS
        while self._waiting and self._waiting[0][2] < late:
            _, future, _ = self._waiting.popleft()
            settle(future, StoreUnavailable())
        return [self._waiting.popleft() for _ in range(min(self._at_once, len(self._waiting)))]

    def _end(self) -> None:
        self._flushing -= 1
        if self._ended is not None and not self._flushing and not self._ended.done():
            self._ended.set_result(None)

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._flushing:
            if self._ended is None or self._ended.done():
                self._ended = asyncio.get_running_loop().create_future()
            await self._ended
