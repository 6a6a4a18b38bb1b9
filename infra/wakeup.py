"""Telling projectors that something was appended: a hint through Valkey, so that they need not wait for their poll."""

import asyncio
import contextlib
import time
from typing import Final

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.client import PubSub
from redis.exceptions import RedisError

_CHANNEL: Final = "cairn:appended"
_RECONNECT_SECONDS: Final = 1.0
_APART_SECONDS: Final = 0.01


class Bell:
    """Rung after each append. The first ring is heard at once, of those that follow it closely one each 10 ms: each
    costs as much as a command, and whoever hears it reads all that is there.
    """

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis
        self._ringing: asyncio.Task[None] | None = None
        self._again = False

    def ring(self) -> None:
        """Say so, without waiting and without failing. Called in the event loop."""
        self._again = True
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.get_running_loop().create_task(self._ring())

    async def _ring(self) -> None:
        while self._again:
            self._again = False
            with contextlib.suppress(RedisError, OSError):
                await self._redis.publish(_CHANNEL, b"")
            await asyncio.sleep(_APART_SECONDS)


class Ear:
    """Waits for the bell, and no longer than a poll would."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._heard: PubSub | None = None
        self._connect_at = 0.0

    def wait(self, seconds: float) -> None:
        """Return when something was appended, or after this time."""
        until = time.monotonic() + seconds
        try:
            self._listen()
            if self._heard is not None and self._heard.get_message(timeout=seconds):
                return
        except (RedisError, OSError):
            self._heard, self._connect_at = None, time.monotonic() + _RECONNECT_SECONDS
        time.sleep(max(0.0, until - time.monotonic()))

    def _listen(self) -> None:
        if self._heard is None and time.monotonic() >= self._connect_at:
            self._heard = PubSub(self._redis.connection_pool, ignore_subscribe_messages=True)
            self._heard.subscribe(_CHANNEL)
