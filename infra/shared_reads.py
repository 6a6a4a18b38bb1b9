"""Kept answers in Valkey, for all processes, and the news that make them old.

An answer is kept with the position that it was made at; the level of a user is the position of the last page of the log
that changed rows of theirs. An answer is good while no level of those whom it tells of is above its own position, and
known. Levels only rise, so that it does not matter which of an answer and a level is written first. `tell_all` makes
everything old at once: when somebody may have changed rows and could not say so.

Valkey away or slow: nothing is kept and nothing raises.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

_log = logging.getLogger(__name__)

_CHANNEL: Final = "cairn:changed"
_EPOCH: Final = "cairn:reads:epoch"
_LEVEL_SECONDS: Final = 900  # longer than any answer is kept
_DEADLINE_SECONDS: Final = 0.05
_PAUSE_SECONDS: Final = 1.0  # after Valkey did not answer
_ALIVE_SECONDS: Final = 1.0  # a subscription that was silent for so long is asked whether it is there

# Levels only rise: a build that is behind may change rows of a user after one that is ahead. What is no number is none.
_RAISE: Final = """
if (tonumber(redis.call('GET', KEYS[1]) or '') or -1) < tonumber(ARGV[1]) then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
else
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""

T = TypeVar("T")

Changed = Callable[[Collection[UUID], int], None]
_Command = tuple[str | bytes | int, ...]


class SharedReads:
    """The API's side. Implements `api.services.SharedReads`. `lost` hears that Valkey does not answer."""

    def __init__(self, redis: AsyncRedis, lost: Callable[[], None] = lambda: None) -> None:
        self._redis = redis
        self._lost = lost
        self._epoch = ""
        self._pause_until = 0.0
        self._writing: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Future[Any]] = set()

    async def find(self, owner: UUID, key: str) -> tuple[bytes, int] | None:
        """A kept answer and its owner's level. None: there is none, or Valkey is away."""
        found = await self._asked(lambda: self._redis.mget(self._place(owner, key), _level(owner)))
        answer, told = found or (None, None)
        level = _number(told)
        return None if level is None or not isinstance(answer, bytes) else (answer, level)

    async def level(self, users: Collection[UUID]) -> int | None:
        """The highest of theirs; None when one is not known."""
        found = await self._asked(lambda: self._run([("GET", _level(user)) for user in users]))
        if found is None:
            return None
        levels = [level for level in map(_number, found) if level is not None]
        return None if len(levels) < len(found) else max(levels, default=-1)

    def keep(
        self, owner: UUID, key: str, answer: bytes, users: Collection[UUID], position: int, seconds: float
    ) -> None:
        """Keep an answer about these users for so long. Does not wait."""
        if time.monotonic() < self._pause_until or not self._epoch or seconds < 1:
            return
        place = self._place(owner, key)  # in the epoch of now: it is too old for the next one
        task = asyncio.get_running_loop().create_task(self._keep(place, answer, users, position, int(seconds)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _keep(self, place: str, answer: bytes, users: Collection[UUID], position: int, seconds: int) -> None:
        commands: list[_Command] = [("SET", _level(user), position, "EX", _LEVEL_SECONDS, "NX") for user in users]
        await self._asked(lambda: self._run([*commands, ("SET", place, answer, "EX", seconds)]))

    async def _run(self, commands: Sequence[_Command]) -> list[Any]:
        """In one round trip. The connection is given back when all is answered, though nobody may wait any more."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute()

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """What Valkey says within the deadline; None, for a while without asking, when it does not."""
        if time.monotonic() < self._pause_until or not self._epoch:
            return None
        asking = asyncio.ensure_future(ask())
        self._asking.add(asking)
        asking.add_done_callback(self._heard)
        await asyncio.wait((asking,), timeout=_DEADLINE_SECONDS)  # cut off, it would cost its connection
        if asking.done() and not asking.cancelled() and asking.exception() is None:
            return asking.result()
        self._pause_until = time.monotonic() + _PAUSE_SECONDS
        return None

    def _heard(self, asking: asyncio.Future[Any]) -> None:
        self._asking.discard(asking)
        error = None if asking.cancelled() else asking.exception()
        if error is not None and not isinstance(error, RedisError | OSError):
            _log.error("a kept read could not be asked for", exc_info=error)

    def _place(self, owner: UUID, key: str) -> str:
        return f"cairn:read:{{{owner.hex}}}:{self._epoch}:{key}"

    async def listen(self, changed: Changed, opened: Callable[[], None], closed: Callable[[], None]) -> None:
        """Hear of changes until cancelled. `opened`: from now on all are heard, and of earlier ones nothing is known;
        `closed`: no more. `changed` with nobody: of everybody.
        """
        while True:
            subscribed = self._redis.pubsub()
            try:
                await subscribed.subscribe(_CHANNEL)
                await self._hear(subscribed, changed, opened)
            except (RedisError, OSError, TimeoutError):
                self._lost()
            finally:
                self._epoch = ""
                closed()
                with contextlib.suppress(RedisError, OSError):
                    await subscribed.aclose()  # type: ignore[no-untyped-call]  # redis-py's own
            if _is_cancelled():
                raise asyncio.CancelledError
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _hear(self, subscribed: PubSub, changed: Changed, opened: Callable[[], None]) -> None:
        asked = False
        while not _is_cancelled():
            message: Any = await subscribed.get_message(timeout=_ALIVE_SECONDS)
            if message is None:
                if asked:
                    raise TimeoutError
                await subscribed.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "subscribe":
                await self._begin()
                opened()
            elif message["type"] == "message":
                try:
                    position, epoch, users = _told(message["data"])
                except (msgspec.DecodeError, ValueError) as error:
                    _log.warning("news of other code, after which all that is kept is taken for old: %s", error)
                    position, epoch, users = -1, "", []
                    await self._begin()  # it may have told of another epoch
                if epoch:
                    self._epoch = epoch
                changed(users, position)

    async def _begin(self) -> None:
        self._epoch = ""
        async with asyncio.timeout(1.0):
            await self._redis.set(_EPOCH, secrets.token_hex(8), nx=True)
            found = await self._redis.get(_EPOCH)
            self._epoch = found.decode("latin-1") if isinstance(found, bytes) else ""  # of whomever: all have the same
        self._pause_until = 0.0


class Changes:
    """The projectors' side: says whose rows have changed. Never fails: what could not be said makes all of it old."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._raise = redis.register_script(_RAISE)
        self._untold = True  # whoever was here before may have died between a commit and its news
        self._pause_until = 0.0

    def tell(self, users: Collection[UUID], position: int) -> None:
        """After the commit of a page of the log up to this position."""
        if not users and not self._untold:
            return
        if time.monotonic() < self._pause_until:
            return
        try:
            if self._untold:
                self._tell_all()
                self._untold = False
            self._tell(users, position)
        except (RedisError, OSError) as error:
            _log.warning("Valkey does not answer; kept reads are made old when it does: %s", error)
            self._untold, self._pause_until = True, time.monotonic() + _PAUSE_SECONDS

    def all_of_it(self) -> None:
        """Any rows may be others than they were."""
        self._untold = True
        self.tell([], -1)

    def _tell(self, ids: Collection[UUID], position: int) -> None:
        with self._redis.pipeline(transaction=False) as both:
            for user in ids:
                self._raise(keys=[_level(user)], args=[position, _LEVEL_SECONDS], client=both)
            if ids:
                both.publish(_CHANNEL, _news(position, "", ids))
            both.execute()

    def _tell_all(self) -> None:
        epoch = secrets.token_hex(8)
        with self._redis.pipeline(transaction=False) as both:
            both.set(_EPOCH, epoch)
            both.publish(_CHANNEL, _news(-1, epoch, []))
            both.execute()


def _is_cancelled() -> bool:
    """Whether it was told to end: redis-py sends by `asyncio.wait_for`, which may go on then (python/cpython#86296)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _news(position: int, epoch: str, ids: Collection[UUID]) -> bytes:
    return msgspec.msgpack.encode((position, epoch, b"".join(user.bytes for user in ids)))


def _told(news: bytes) -> tuple[int, str, list[UUID]]:
    """As `_news` was given them. `DecodeError`, `ValueError`: other code made them, or nobody did."""
    position, epoch, ids = msgspec.msgpack.decode(news, type=tuple[int, str, bytes])
    return position, epoch, [UUID(bytes=ids[at : at + 16]) for at in range(0, len(ids), 16)]


def _level(user: UUID) -> str:
    return f"cairn:level:{{{user.hex}}}"


def _number(level: bytes | str | None) -> int | None:
    """A level as it is stored; None: it is not known, or of nobody of ours."""
    try:
        return None if level is None else int(level)
    except ValueError:
        return None
