"""Rate limits that all API processes share, in Valkey: GCRA, one script for all limits of a request.

The same arithmetic as `api/admission/gcra.py`, in whole microseconds of Valkey's own clock. Many requests at the same
time are one round trip: what comes while one is under way goes with the next.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

T = TypeVar("T")

_log = logging.getLogger(__name__)

_DEADLINE_SECONDS: Final = 0.05
_FAILURES: Final = 3  # in a row, then nobody waits for Valkey until it answers again
_PROBE_SECONDS: Final = 1.0
_PROBED: Final = "cairn:{probe}"

# KEYS: of the limits, all in one slot. ARGV: how many requests were taken before this one and are not counted here, in
# how many microseconds; then for each limit, the microseconds between requests and those of a whole burst.
# Answers: the wait (0: taken, from every limit), now, and each limit's theoretical arrival time.
SCRIPT: Final = """
local time, owed, since = redis.call('TIME'), tonumber(ARGV[1]), tonumber(ARGV[2])
local now, wait = time[1] * 1000000 + time[2], 0
local tats = redis.call('MGET', unpack(KEYS))
for i = 1, #KEYS do
  local interval, depth = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  local tat = math.max(tonumber(tats[i] or 0), now - since) + owed * interval
  tats[i] = math.min(math.max(tat, now), now + depth)
  wait = math.max(wait, tats[i] + interval - depth - now)
end
if wait == 0 or owed > 0 then
  for i = 1, #KEYS do
    if wait == 0 then tats[i] = tats[i] + tonumber(ARGV[2 * i + 1]) end
    if tats[i] > now then
      redis.call('SET', KEYS[i], string.format('%.0f', tats[i]), 'PX', math.ceil((tats[i] - now) / 1000))
    end
  end
end
return {wait, now, unpack(tats)}
"""
_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

Claim = tuple[str, int, int]  # key, microseconds between requests, microseconds of a whole burst


class _Asked(NamedTuple):
    claims: Sequence[Claim]
    owed: int
    since: int
    answer: "asyncio.Future[Sequence[int] | None]"


def _settle(asked: _Asked, answer: Sequence[int] | None) -> None:
    if not asked.answer.done():  # its request may be gone, or was answered in doubt
        asked.answer.set_result(answer)


class ValkeyLimits:
    """Implements `api.admission.limiter.Limits`. Nothing here raises for a Valkey that is away, or waits for long."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._asked: list[_Asked] = []
        self._under_way: Sequence[_Asked] = ()
        self._asked_at = 0.0  # the first of them
        self._asking: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._failures = 0
        self._tasks: set[asyncio.Future[Any]] = set()  # the event loop alone would not keep them

    @property
    def answers(self) -> bool:
        """Whether Valkey is asked at present."""
        return self._failures < _FAILURES

    async def take(self, claims: Sequence[Claim], owed: int = 0, since: int = 0) -> Sequence[int] | None:
        """One request from each limit, if all of them have one left: wait, now and arrival times, in microseconds.

        `owed`: requests that were let in before, in so many microseconds. None, after 50 ms at most: Valkey has no say.
        """
        if not self.answers:
            return None
        asked = _Asked(claims, owed, since, asyncio.get_running_loop().create_future())
        if not self._asked:
            self._asked_at = time.monotonic()
        self._asked.append(asked)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await asked.answer

    def doubt(self) -> None:
        """Keep nobody waiting until a probe was answered: others have seen that Valkey is away."""
        if self.answers:
            self._failures = _FAILURES
            self._go_alone("it says nothing to who listens")
        for asked in (*self._under_way, *self._asked):
            _settle(asked, None)

    def close(self) -> None:
        """Ask no more."""
        for task in (self._asking, self._probing):
            if task is not None:
                task.cancel()

    async def _ask_all(self) -> None:
        try:
            while self._asked:
                page, self._asked = self._asked, []
                self._under_way = page
                answers: Sequence[Sequence[int] | None] = [None] * len(page)
                try:
                    answers = await self._answers(page)
                finally:
                    for asked, answer in zip(page, answers, strict=True):
                        _settle(asked, answer)
        finally:
            self._asking, self._under_way = None, ()

    async def _answers(self, page: Sequence[_Asked]) -> Sequence[Sequence[int] | None]:
        if not self.answers:
            return [None] * len(page)
        try:
            left = self._asked_at + _DEADLINE_SECONDS - time.monotonic()
            found = await self._within(left, self._run(page))
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return [None] * len(page)
        self._failures = 0
        return found

    async def _run(self, page: Sequence[_Asked]) -> Sequence[Sequence[int] | None]:
        found = await self._execute(page)
        if any(isinstance(answer, NoScriptError) for answer in found):  # Valkey was started anew
            await self._redis.script_load(SCRIPT)
            missed = [n for n, answer in enumerate(found) if isinstance(answer, NoScriptError)]
            for n, answer in zip(missed, await self._execute([page[n] for n in missed]), strict=True):
                found[n] = answer
        errors = [answer for answer in found if isinstance(answer, Exception)]
        if len(errors) == len(found):  # as when it may not write: full, or a replica
            raise errors[0]
        return [None if isinstance(answer, Exception) else answer for answer in found]

    async def _execute(self, page: Sequence[_Asked]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for asked in page:
                keys = [key for key, _, _ in asked.claims]
                numbers = [number for _, *both in asked.claims for number in both]
                pipe.evalsha(_SHA, len(keys), *keys, asked.owed, asked.since, *numbers)
            return list(await pipe.execute(raise_on_error=False))

    async def _within(self, seconds: float, work: Awaitable[T]) -> T:
        """What it gives, or `TimeoutError`. Its own end is not waited for: a connection may put it off for seconds."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait((task,), timeout=max(0.0, seconds))
            if not task.done():
                raise TimeoutError
            return task.result()
        finally:
            task.cancel()

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # or it would be logged, where nobody waited for it

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == _FAILURES:
            self._go_alone(str(error) or repr(error))

    def _go_alone(self, why: str) -> None:
        _log.warning("Valkey does not answer as it should; each API process limits by itself until it does: %s", why)
        if self._probing is None or self._probing.done():  # else it goes on: an answer on its way had ended the doubt
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Beside the requests, which wait for nothing meanwhile."""
        while not self.answers:
            await asyncio.sleep(_PROBE_SECONDS)
            try:
                # a new connection may need longer than a request waits
                await self._within(_PROBE_SECONDS, self._redis.script_load(SCRIPT))
                await self._within(_DEADLINE_SECONDS, self._redis.evalsha(_SHA, 1, _PROBED, 0, 0, 1, 1_000_000))
            except (RedisError, OSError, TimeoutError):
                continue
            self._failures = 0
        _log.warning("Valkey answers again: rate limits are shared")
