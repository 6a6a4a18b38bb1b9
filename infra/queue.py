"""The ingest queue: a Valkey stream of activity ids. Only a hint: the inbox knows what is pending."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from domain.errors import StoreUnavailable
from domain.measures import ActivityId
from domain.uploads import Hint

_log = logging.getLogger(__name__)

_STREAM: Final = "cairn:{ingest}:queue"  # the braces keep one queue in one cluster slot
_GROUP: Final = "ingest"
_ABANDONED_MS: Final = 30_000  # a worker that said nothing for so long is dead
_LOOK_SECONDS: Final = 5.0
_ADD_SECONDS: Final = 0.25
_PAUSE_SECONDS: Final = 1.0
_LENGTH_SECONDS: Final = 0.5
_TOLD: Final = 200  # characters of what is no hint, in the log
_LENGTH: Final = 100_000  # hints beyond this are dropped: the sweeper finds the uploads


Entries = Sequence[tuple[bytes, dict[bytes, bytes]]]


class IngestQueue:
    """Hints to ingest workers. Nothing here raises for a Valkey that is away: it answers with nothing."""

    def __init__(self, redis: Redis, consumer: str) -> None:
        self._redis = redis
        self._consumer = consumer
        self._look_at = 0.0  # for what dead workers left
        self._add_at = 0.0

    async def add(self, activity_id: ActivityId, *, first: bool = False) -> None:
        """Say that an upload waits; `first`: that nobody can have tried it.

        A phone waits for this: Valkey has a moment, and is left alone for a while if that was not enough.
        """
        if time.monotonic() < self._add_at:
            return
        try:
            async with asyncio.timeout(_ADD_SECONDS):
                fields: Any = {"id": str(activity_id), **({"first": "1"} if first else {})}
                await self._redis.xadd(_STREAM, fields, maxlen=_LENGTH, approximate=True)
        except (RedisError, OSError, TimeoutError) as error:
            self._add_at = time.monotonic() + _PAUSE_SECONDS
            _log.warning("queue unreachable, the sweeper will find the uploads: %s", str(error) or "no answer")

    async def take(self, wait_seconds: float) -> Hint | None:
        """The next hint, or one that a dead worker left; None when none comes in time.

        `StoreUnavailable` while Valkey is away.
        """
        try:
            return await self._take(wait_seconds)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    async def _take(self, wait_seconds: float) -> Hint | None:
        try:
            abandoned = await self._abandoned()
            entries = abandoned or await self._fresh(wait_seconds)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            await self._make_group()  # for the first time, or of a Valkey that was emptied
            return None
        for entry, fields in entries:
            hint = _hint(entry, fields, fresh=not abandoned)
            if hint is None:  # of other code, or of nobody: whoever takes it would be given it again and again
                _log.warning("an entry of the queue is no hint, and taken away: %s", str(fields)[:_TOLD])
                await self.done(entry)
            return hint
        return None

    async def _abandoned(self) -> Entries:
        """Looked for now and then only: it is a request of its own."""
        if time.monotonic() < self._look_at:
            return []
        _, found, *_ = await self._redis.xautoclaim(_STREAM, _GROUP, self._consumer, _ABANDONED_MS, count=1)
        if not found:
            self._look_at = time.monotonic() + _LOOK_SECONDS
        return cast(Entries, found)

    async def _fresh(self, wait_seconds: float) -> Entries:
        milliseconds = max(1, int(wait_seconds * 1000))
        found: Any = await self._redis.xreadgroup(_GROUP, self._consumer, {_STREAM: ">"}, count=1, block=milliseconds)
        return found[0][1] if found else []

    async def done(self, entry: bytes) -> None:
        """Take the hint away. Lost answers do no harm: a hint may come again."""
        try:
            async with self._redis.pipeline(transaction=False) as both:
                both.xack(_STREAM, _GROUP, entry)
                both.xdel(_STREAM, entry)
                await both.execute()
        except (RedisError, OSError) as error:
            _log.warning("queue unreachable: %s", error)

    async def length(self) -> tuple[int, int]:
        """How many hints there are, and how many of them a worker holds. `StoreUnavailable`."""
        try:
            async with asyncio.timeout(_LENGTH_SECONDS):
                await self._make_group()
                count = await self._redis.xlen(_STREAM)
                held: Any = await self._redis.xpending(_STREAM, _GROUP)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable from error
        return int(count), int(held["pending"])

    async def _make_group(self) -> None:
        try:
            await self._redis.xgroup_create(_STREAM, _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


def _hint(entry: bytes, fields: Mapping[bytes, bytes], *, fresh: bool) -> Hint | None:
    """What an entry says; None: it is no hint of ours."""
    try:
        activity_id = ActivityId(UUID(fields[b"id"].decode()))
    except (KeyError, ValueError):
        return None
    return Hint(entry, activity_id, first=fresh and b"first" in fields)
