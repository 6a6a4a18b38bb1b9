"""The ingest queue: a Valkey stream of activity ids. Only a hint: the inbox knows what is pending."""

import logging
from typing import Any, Final
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from domain.errors import StoreUnavailable
from domain.measures import ActivityId

_log = logging.getLogger(__name__)

_STREAM: Final = "cairn:{ingest}:queue"  # the braces keep one queue in one cluster slot
_GROUP: Final = "ingest"
_ABANDONED_MS: Final = 30_000  # a worker that said nothing for so long is dead
_LENGTH: Final = 100_000  # hints beyond this are dropped: the sweeper finds the uploads


class IngestQueue:
    """Hints to ingest workers. Nothing here raises for a Valkey that is away: it answers with nothing."""

    def __init__(self, redis: Redis, consumer: str) -> None:
        self._redis = redis
        self._consumer = consumer

    async def add(self, activity_id: ActivityId) -> None:
        """Say that an upload waits."""
        try:
            await self._redis.xadd(_STREAM, {"id": str(activity_id)}, maxlen=_LENGTH, approximate=True)
        except (RedisError, OSError) as error:
            _log.warning("queue unreachable, the sweeper will find the upload: %s", error)

    async def take(self, wait_seconds: float) -> tuple[bytes, ActivityId] | None:
        """The next hint, or one that a dead worker left; None when none comes in time.

        `StoreUnavailable` while Valkey is away.
        """
        try:
            return await self._take(wait_seconds)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    async def _take(self, wait_seconds: float) -> tuple[bytes, ActivityId] | None:
        await self._make_group()
        _, abandoned, *_ = await self._redis.xautoclaim(_STREAM, _GROUP, self._consumer, _ABANDONED_MS, count=1)
        entries = abandoned
        if not entries:
            fresh: Any = await self._redis.xreadgroup(
                _GROUP, self._consumer, {_STREAM: ">"}, count=1, block=max(1, int(wait_seconds * 1000))
            )
            entries = fresh[0][1] if fresh else []
        for entry, fields in entries:
            return entry, ActivityId(UUID(fields[b"id"].decode()))
        return None

    async def done(self, entry: bytes) -> None:
        """Take the hint away. Lost answers do no harm: a hint may come again."""
        try:
            await self._redis.xack(_STREAM, _GROUP, entry)
            await self._redis.xdel(_STREAM, entry)
        except (RedisError, OSError) as error:
            _log.warning("queue unreachable: %s", error)

    async def length(self) -> tuple[int, int]:
        """How many hints there are, and how many of them a worker holds. `StoreUnavailable`."""
        try:
            await self._make_group()
            count = await self._redis.xlen(_STREAM)
            held: Any = await self._redis.xpending(_STREAM, _GROUP)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return int(count), int(held["pending"])

    async def _make_group(self) -> None:
        try:
            await self._redis.xgroup_create(_STREAM, _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
