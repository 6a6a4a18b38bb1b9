"""The write port: load, decide, append, and decide again on a conflict: the one place that retries."""

import asyncio
import contextlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from msgspec import Struct

from domain.errors import DomainError
from domain.events.event import Event
from domain.measures import UserId
from domain.streams import (
    Aggregate,
    Decision,
    OwnerErased,
    Replied,
    Request,
    RequestDiffers,
    StreamContended,
    StreamUnreadable,
)
from infra.event_store.mapper import MAPPER, Cipher, UndecodableEvent, associated, is_sealed
from infra.event_store.rows import KeptReply, ReplyKept, Row, Save, VersionTaken
from infra.positions import from_token, to_token

_log = logging.getLogger(__name__)

_ATTEMPTS: Final = 8  # of one decision against others on the same stream
_JITTER_SECONDS: Final = 0.01  # before the second attempt, at most; twice that before each next one
_CACHED: Final = 10_000
_LIFETIME_SECONDS: Final = 300.0  # a cached state holds private data in the clear: no longer than their key is held
_SNAPSHOT_EVENTS: Final = 200  # of a stream since its last snapshot

A = TypeVar("A", bound=Aggregate)


class Log(Protocol):
    """Where rows are. `VersionTaken`, `ReplyKept`, `StoreUnavailable`."""

    async def append(self, save: Save) -> int:
        """The position of the save's last event, durable."""
        ...

    async def load(self, stream_id: UUID, after: int = 0, state_topic: str = "") -> Sequence[Row]:
        """The stream's rows after a version, in order; its snapshot of this topic in the place of what it sums up."""
        ...

    async def reply(self, key_hash: bytes) -> KeptReply | None:
        """The kept reply of a request."""
        ...

    async def forget(self, reply: KeptReply) -> None:
        """Drop a kept reply, unless another is in its place by now."""
        ...

    async def last(self) -> int:
        """A position that covers everything whose append has returned, in whatever process."""
        ...

    async def snapshot(self, row: Row) -> None:
        """Keep a stream's state, unless a later one is there."""
        ...

    async def close(self) -> None:
        """Finish what is under way."""
        ...


class Keys(Protocol):
    """The users' keys."""

    async def to_seal(self, owner_id: UUID) -> Cipher:
        """The owner's key, made for a new owner. `OwnerErased`, `StreamUnreadable` (it is lost, or cannot be used)."""
        ...

    async def to_open(self, owner_id: UUID) -> Cipher | None:
        """The owner's key; None when it was destroyed."""
        ...


class _Held(Struct, Generic[A], frozen=True):
    """A state, and the place in the stream and in the log up to which it was folded."""

    state: A
    version: int = 0
    position: int = 0
    summed: int = 0  # the version of the last snapshot
    held_at: float = 0.0


class EventStore:
    """Implements `domain.streams.Streams`.

    States are cached. One may be behind what other processes appended: then the append is refused by its version, and
    what was decided without an append is decided again on what is stored.
    """

    def __init__(self, log: Log, keys: Keys, *, appended: Callable[[], None] = lambda: None) -> None:
        self._log = log
        self._keys = keys
        self._appended = appended
        self._cache: OrderedDict[tuple[type, int], _Held[Any]] = OrderedDict()  # by numbers, which hash in C
        self._summing: set[asyncio.Task[None]] = set()

    async def load(self, aggregate: type[A], stream_id: UUID) -> A:
        """The state now; the empty state when the stream has no events."""
        return (await self._fresh(aggregate, stream_id)).state

    async def transact(self, aggregate: type[A], stream_id: UUID, owner_id: UserId, decide: Decision[A]) -> str:
        """See `domain.streams.Streams`."""
        return to_token(await self._transact(aggregate, stream_id, owner_id, decide, None))

    async def transact_once(
        self,
        aggregate: type[A],
        stream_id: UUID,
        owner_id: UserId,
        decide: Decision[A],
        request: Request,
        reply: bytes,
    ) -> Replied:
        """See `domain.streams.Streams`. Of the same request in several processes, one is first; all get its reply."""
        keep = await self._sealed(owner_id, request, reply)
        for _ in range(_ATTEMPTS):
            kept = await self.replied(request)
            if kept is not None:
                return kept
            with contextlib.suppress(ReplyKept):  # or one that stood before it did: then nothing is kept yet
                position = await self._transact(aggregate, stream_id, owner_id, decide, keep)
                return Replied(reply, to_token(position), again=False)
        raise StreamContended

    async def keep(self, owner_id: UserId, request: Request, reply: bytes) -> Replied:
        """See `domain.streams.Streams`. A save without events: its stream is one that nothing is ever in."""
        save = Save(UUID(bytes=request.key_hash[:16]), owner_id, 1, (), await self._sealed(owner_id, request, reply))
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(ReplyKept):
                return Replied(reply, to_token(await self._log.append(save)), again=False)
            kept = await self.replied(request)
            if kept is not None:
                return kept
        raise StreamContended

    async def position(self) -> str:
        """See `domain.streams.Streams`."""
        return to_token(await self._log.last())

    def latest(self, positions: Sequence[str]) -> str:
        """See `domain.streams.Streams`."""
        return max(positions, key=from_token)

    async def _sealed(self, owner_id: UserId, request: Request, reply: bytes) -> KeptReply:
        sealed = (await self._keys.to_seal(owner_id)).seal(reply, request.key_hash)
        return KeptReply(request.key_hash, request.fingerprint, owner_id, sealed)

    async def replied(self, request: Request) -> Replied | None:
        """See `domain.streams.Streams`."""
        kept = await self._log.reply(request.key_hash)
        if kept is None:
            return None
        if kept.fingerprint != request.fingerprint:
            raise RequestDiffers
        cipher = await self._keys.to_open(kept.owner_id)
        if cipher is None:
            return None  # the user is erased, and the reply with them
        try:
            reply = cipher.open(kept.sealed, kept.key_hash)
        except InvalidTag:
            # Whatever stands behind a key has its effect once, also when its reply is kept no longer.
            _log.warning("a reply kept for user %s is damaged: it is dropped, its request decided anew", kept.owner_id)
            await self._log.forget(kept)
            return None
        return Replied(reply, to_token(kept.position), again=True)

    async def close(self) -> None:
        """Finish what is under way, and let go of the connections."""
        await asyncio.gather(*self._summing)
        await self._log.close()

    async def _transact(
        self, aggregate: type[A], stream_id: UUID, owner_id: UserId, decide: Decision[A], keep: KeptReply | None
    ) -> int:
        for attempt in range(_ATTEMPTS):
            held, events = await self._decided(aggregate, stream_id, decide, guess=attempt == 0)
            if not events:
                # What made this decide nothing may be old: a read that waits for this must see later writes, too.
                held = msgspec.structs.replace(held, position=max(held.position, await self._log.last()))
                if keep is None:
                    return held.position
            try:
                position = await self._log.append(await self._save(held, stream_id, owner_id, events, keep))
            except (OwnerErased, StreamUnreadable):
                if attempt:
                    raise
                continue  # it may have been a guess, and nothing to write
            except VersionTaken:
                if self._cache.pop((aggregate, stream_id.int), None) is not None or attempt:
                    await asyncio.sleep(random.uniform(0, _JITTER_SECONDS * 2**attempt))  # noqa: S311 - no secret
                continue
            self._keep(aggregate, stream_id, owner_id, _folded(held, events, position))
            self._appended()
            return position
        raise StreamContended

    async def _decided(
        self, aggregate: type[A], stream_id: UUID, decide: Decision[A], *, guess: bool
    ) -> tuple[_Held[A], Sequence[Event]]:
        """What is decided, and on what. Only what will be checked by an append is decided on a cached state, or on the
        guess that a stream that is not cached is a new one, which spares most new ones a round trip.
        """
        known = self._cached(aggregate, stream_id) or (_Held(aggregate()) if guess else None)
        if known is not None:
            try:
                events = decide(known.state)
            except DomainError:
                events = ()
            if events:
                return known, events
        held = await self._fresh(aggregate, stream_id)
        return held, decide(held.state)

    async def _save(
        self, held: _Held[A], stream_id: UUID, owner_id: UserId, events: Sequence[Event], keep: KeptReply | None
    ) -> Save:
        cipher = await self._keys.to_seal(owner_id) if any(event.PRIVATE for event in events) else None
        states = [
            MAPPER.encode(event, cipher, associated(owner_id, stream_id, version))
            for version, event in enumerate(events, held.version + 1)
        ]
        reply = None if keep is None else msgspec.structs.replace(keep, position=held.position)
        return Save(stream_id, owner_id, held.version + 1, tuple(states), reply)

    def _cached(self, aggregate: type[A], stream_id: UUID) -> _Held[A] | None:
        held = self._cache.get((aggregate, stream_id.int))
        return held if held is not None and held.held_at > time.monotonic() - _LIFETIME_SECONDS else None

    async def _fresh(self, aggregate: type[A], stream_id: UUID) -> _Held[A]:
        """The state now: a cached one, or the snapshot, and what came after it."""
        held = self._cached(aggregate, stream_id) or _Held(aggregate())
        rows = await self._log.load(stream_id, held.version, aggregate.STATE)
        if not rows:
            return held
        owner_id = UserId(rows[0].owner_id)
        try:
            sealed = any(is_sealed(row.state) or row.topic == aggregate.STATE for row in rows)
            cipher = await self._keys.to_open(owner_id) if sealed else None
            if rows[0].topic == aggregate.STATE:
                snapshot, rows = _opened(aggregate, rows[0], cipher), rows[1:]
                if snapshot is None:
                    rows = await self._log.load(stream_id, held.version)
                else:
                    held = snapshot
            state = held.state
            for row in rows:
                state = state.evolve(MAPPER.event(row, cipher))
        except UndecodableEvent as fault:
            _log.exception("a stream cannot be read")
            raise StreamUnreadable from fault
        if rows:
            held = msgspec.structs.replace(held, state=state, version=rows[-1].version, position=rows[-1].position)
        self._keep(aggregate, stream_id, owner_id, held)
        return held

    def _keep(self, aggregate: type[A], stream_id: UUID, owner_id: UserId, held: _Held[A]) -> None:
        key = aggregate, stream_id.int
        due = held.version - held.summed >= _SNAPSHOT_EVENTS
        summed = held.version if due else held.summed
        self._cache[key] = _Held(held.state, held.version, held.position, summed, time.monotonic())
        self._cache.move_to_end(key)
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)  # the one that was not used for longest
        if due:
            task = asyncio.create_task(self._sum_up(aggregate, stream_id, owner_id, held))
            self._summing.add(task)
            task.add_done_callback(self._summing.discard)

    async def _sum_up(self, aggregate: type[A], stream_id: UUID, owner_id: UserId, held: _Held[A]) -> None:
        """Write a snapshot, beside the request that made it due. Without it the stream is only slower to load."""
        with contextlib.suppress(DomainError):
            cipher = await self._keys.to_seal(owner_id)
            place = associated(owner_id, stream_id, held.version)
            state = cipher.seal(msgspec.json.encode(held.state), place)
            await self._log.snapshot(Row(held.position, stream_id, held.version, aggregate.STATE, state, owner_id))


def _opened(aggregate: type[A], row: Row, cipher: Cipher | None) -> _Held[A] | None:
    """The state of a snapshot; None when its key is destroyed or its bytes are damaged: the events tell it all."""
    if cipher is None:
        return None
    try:
        plain = cipher.open(row.state, associated(row.owner_id, row.stream_id, row.version))
        state = msgspec.json.decode(plain, type=aggregate)
    except (InvalidTag, msgspec.DecodeError):
        _log.warning("the snapshot of stream %s at version %d is damaged", row.stream_id, row.version)
        return None
    return _Held(state, row.version, row.position, summed=row.version)


def _folded(held: _Held[A], events: Sequence[Event], position: int) -> _Held[A]:
    state = held.state
    for event in events:
        state = state.evolve(event)
    return _Held(state, held.version + len(events), max(position, held.position), held.summed, held.held_at)
