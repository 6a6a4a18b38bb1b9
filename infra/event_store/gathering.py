"""Group commit, as databases do it for their own log: what comes while a flush is under way goes out with the next.

Nothing waits for a timer: with one caller each item is a flush of its own, with many the flushes grow by themselves.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from domain.errors import StoreUnavailable

I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")


class Gatherer(Generic[I, R]):
    """Hands items to `flush` in the order they came, at most `flushers` lists at once.

    `flush` gives for each item a result or the exception that its caller shall have. `StoreUnavailable` for an item
    beyond `places`: waiting longer would help nobody.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[I]], Awaitable[Sequence[R | Exception]]],
        *,
        flushers: int,
        at_once: int,
        places: int,
    ) -> None:
        self._flush = flush
        self._flushers = flushers
        self._at_once = at_once
        self._places = places
        self._waiting: deque[tuple[I, asyncio.Future[R]]] = deque()
        self._flushing = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, item: I) -> asyncio.Future[R]:
        """The item's result, to be awaited. Giving up on it takes nothing back."""
        if len(self._waiting) >= self._places:
            raise StoreUnavailable
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._flushing < self._flushers:
            self._flushing += 1
            task = asyncio.create_task(self._drain())  # begins once everything that is ready to put has put
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return result

    async def _drain(self) -> None:
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(self._at_once, len(self._waiting)))]
            try:
                results = await self._flush([item for item, _ in taken])
            except Exception as fault:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                results = [fault] * len(taken)
            for (_, future), result in zip(taken, results, strict=True):
                _settle(future, result)
        self._flushing -= 1  # here, not when the task is done: whoever puts in between would wait for nobody

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._tasks)


def _settle(future: asyncio.Future[R], result: R | Exception) -> None:
    if future.done():  # its caller has gone
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
