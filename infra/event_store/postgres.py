"""The log in Postgres, for those who write: appends by group commit, loads gathered alike, any number of processes."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final
from uuid import UUID

import psycopg
from psycopg.errors import LockNotAvailable, UniqueViolation
from psycopg.pq.abc import PGresult

from domain.errors import StoreUnavailable
from infra.away import ANSWER_SECONDS, AWAY
from infra.channels import Channel, Channels, number_of, value_of
from infra.event_store import arrays
from infra.event_store.gathering import Gatherer, Landed
from infra.event_store.rows import KeptReply, ReplyKept, Row, Save, VersionTaken, partition_of
from infra.event_store.statements import READING, WRITING

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 500  # saves in a transaction: beyond that the gain is small, and so is the patience of the first
_PLACES: Final = 8_192  # waiting saves or loads; beyond this, waiting longer helps nobody
_RACES: Final = 4  # that several saves may lose together before each is tried alone
_IN_VAIN: Final = 2  # saves tried alone that wait for others to the end
_PAUSES: Final = (0.0, 0.1, 0.4, 1.0)  # before looks for what became of a save: a restart takes about a second
_LOOK_SECONDS: Final = 5.0  # for all of them, or for each alone: with the answer that did not come, ten

Outcome = int | Exception  # the position of a save's last event, or why there is none


class PostgresLog:
    """Connects when it is first needed. Waits in no thread, and runs nothing while nothing is asked of it."""

    def __init__(self, database_url: str, *, writers: int = 2, loaders: int = 2) -> None:
        self._channels = Channels(database_url, WRITING)
        self._reads = Channels(database_url, READING)  # of their own: they go on while commits hang
        self._appends = Gatherer(self._append, flushers=writers, at_once=_AT_ONCE, places=_PLACES, begin=self._begin)
        self._unsettled: set[asyncio.Task[None]] = set()
        self._loads = Gatherer(self._load, flushers=loaders, at_once=_AT_ONCE, places=_PLACES)
        self._replies = Gatherer(self._find_replies, flushers=1, at_once=_AT_ONCE, places=_PLACES)
        self._lasts = Gatherer(self._last, flushers=1, at_once=_PLACES, places=_PLACES)
        self._snapshots = Gatherer(self._put_snapshots, flushers=1, at_once=1, places=_PLACES)

    async def append(self, save: Save) -> int:
        """The position of the save's last event, durable; 0 when it has none.

        `VersionTaken`, `ReplyKept`: nothing of it was stored. `StoreUnavailable`: perhaps it was; asking again is safe.
        """
        return await self._appends.put(save)

    async def load(self, stream_id: UUID, after: int = 0, state_topic: str = "") -> Sequence[Row]:
        """The stream's rows after a version, in order; its snapshot of this topic in the place of what it sums up."""
        return await self._loads.put((stream_id, after, state_topic))

    async def reply(self, key_hash: bytes) -> KeptReply | None:
        """The kept reply of a request."""
        return await self._replies.put(key_hash)

    async def forget(self, reply: KeptReply) -> None:
        """Drop a kept reply, unless another is in its place by now."""
        await self._ask(self._channels, b"forget", [reply.key_hash, reply.sealed])

    async def last(self) -> int:
        """A position that covers everything whose append has returned, in whatever process."""
        return await self._lasts.put(None)

    async def snapshot(self, row: Row) -> None:
        """Keep a stream's state, unless a later one is there."""
        await self._snapshots.put(row)

    async def close(self) -> None:
        """Finish what is under way, and let go of the connections."""
        for gatherer in (self._appends, self._loads, self._replies, self._lasts, self._snapshots):
            await gatherer.close()
        self._channels.close()
        self._reads.close()

    async def _ask(self, channels: Channels, statement: bytes, values: Sequence[bytes]) -> PGresult:
        """Run what may be run twice: once more on a new connection when the first was lost."""
        try:
            async with channels.one() as channel:
                return await channel.run(statement, values, ANSWER_SECONDS)
        except LockNotAvailable as error:
            raise StoreUnavailable from error
        except AWAY:
            pass
        try:
            async with channels.one() as channel:
                return await channel.run(statement, values, ANSWER_SECONDS)
        except psycopg.Error as error:
            raise StoreUnavailable from error

    async def _load(self, wanted: Sequence[tuple[UUID, int, str]]) -> Sequence[Sequence[Row]]:
        streams, afters, topics = zip(*wanted, strict=True)
        values = [arrays.uuids(streams), arrays.int8s(afters), arrays.texts(topics)]
        found = await self._ask(self._reads, b"load", values)
        rows: list[list[Row]] = [[] for _ in wanted]
        for at in range(found.ntuples):
            rows[number_of(found, at, 6) - 1].append(_row(found, at))
        return rows

    async def _find_replies(self, key_hashes: Sequence[bytes]) -> Sequence[KeptReply | None]:
        found = _replies(await self._ask(self._reads, b"replies", [arrays.byteas(key_hashes)]))
        return [found.get(key_hash) for key_hash in key_hashes]

    async def _last(self, asked: Sequence[None]) -> Sequence[int]:
        """One look for all who wait: it begins after they asked."""
        return [number_of(await self._ask(self._reads, b"last", []), 0, 0)] * len(asked)

    async def _put_snapshots(self, rows: Sequence[Row]) -> Sequence[None]:
        for row in rows:
            state = row.version.to_bytes(8), row.topic.encode(), row.state
            values = row.stream_id.bytes, *state, row.position.to_bytes(8), row.owner_id.bytes
            await self._ask(self._channels, b"snapshot", values)
        return [None] * len(rows)

    def _begin(self, save: Save, landed: Landed[int]) -> bool:
        """Begin a save of one event at once, on a connection that is there."""
        channel = self._channels.idle() if _is_single(save) else None
        if channel is None:
            return False
        told = partial(self._told, channel, save, landed)
        channel.begin(b"append_one", _single(save), ANSWER_SECONDS, told)
        return True

    def _told(self, channel: Channel, save: Save, landed: Landed[int], found: PGresult | psycopg.Error) -> None:
        self._channels.give_back(channel)
        if isinstance(found, LockNotAvailable):
            landed(_locked(found))
        elif isinstance(found, psycopg.Error):
            task = asyncio.create_task(self._go_on(save, landed, unsure=isinstance(found, psycopg.OperationalError)))
            self._unsettled.add(task)
            task.add_done_callback(self._unsettled.discard)
        else:
            landed(_outcome_of_one(found))

    async def _go_on(self, save: Save, landed: Landed[int], *, unsure: bool) -> None:
        """What `_begin` began was refused, or lost on its way."""
        try:
            found = await self._look_for({0: save}) if unsure else await self._append([save])
            outcome = found[0]
        except Exception as fault:  # noqa: BLE001 - whatever it is, who waits must hear of it
            outcome = fault
        landed(outcome)

    async def _append(self, saves: Sequence[Save]) -> Sequence[Outcome]:
        """Saves win or lose alone. Of several that go for the same stream or request, the first to come is tried."""
        outcomes: dict[int, Outcome] = {}
        todo = _first_of_each(saves, outcomes)
        for _ in range(_RACES):
            try:
                async with self._channels.one() as channel:
                    outcomes |= await self._insert(channel, todo)
                    break
            except UniqueViolation:
                pass  # another process was faster by a hair: the next look sees its rows, and leaves out who lost
            except LockNotAvailable as error:
                if len(todo) == 1:
                    raise _locked(error) from error
                outcomes |= await self._append_each(todo)  # which of them it was nobody says
                break
            except psycopg.OperationalError as error:
                _log.warning("the outcome of %d saves is unknown, they are looked for: %s", len(todo), error)
                outcomes |= await self._look_for(todo)
                break
            except psycopg.Error as error:
                _log.exception("the log refuses an append")
                raise StoreUnavailable from error
        else:
            outcomes |= await self._append_each(todo)
        return [outcomes[number] for number in range(len(saves))]

    async def _look_for(self, saves: Mapping[int, Save]) -> dict[int, Outcome]:
        """What became of saves that may be there already. Those that are not are tried again, each time only after a
        look; a save of which nothing is certain in time is `StoreUnavailable`.
        """
        certain: dict[int, Outcome] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                for pause in _PAUSES:
                    await asyncio.sleep(pause)
                    if await self._look(saves, certain):
                        break
        return certain | _unknown(saves, certain)

    async def _look(self, saves: Mapping[int, Save], certain: dict[int, Outcome]) -> bool:
        """Whether to look again would be in vain."""
        todo = {number: save for number, save in saves.items() if number not in certain}
        try:
            async with self._channels.one() as channel:
                todo = await self._settle(channel, todo, certain)
                tried = await self._insert(channel, todo)
                beaten = {number: todo[number] for number, found in tried.items() if not isinstance(found, int)}
                certain |= {number: found for number, found in tried.items() if number not in beaten}
                # the transaction whose answer was lost may have ended in between
                await self._settle(channel, beaten, tried)
                certain |= tried
        except LockNotAvailable as error:  # for a transaction that does not end: it may be the save's own
            _log.warning("the outcome of %d saves stays unknown: %s", len(todo), error)
            return True
        except (UniqueViolation, StoreUnavailable):
            return False
        except psycopg.OperationalError as error:
            _log.warning("the outcome of %d saves is still unknown: %s", len(todo), error)
            return False
        except psycopg.Error:
            _log.exception("the log refuses an append")
            return True
        return True

    async def _append_each(self, saves: Mapping[int, Save]) -> dict[int, Outcome]:
        """Until too many of them wait in vain: then it is not their streams that are held, but all of the log."""
        certain: dict[int, Outcome] = {}
        in_vain = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                for number, save in saves.items():
                    certain[number] = await self._append_alone(save)
                    in_vain += isinstance(certain[number], StoreUnavailable)
                    if in_vain == _IN_VAIN:
                        break
        return certain | _unknown(saves, certain)

    async def _append_alone(self, save: Save) -> Outcome:
        """For a save whose companions kept losing races, or of which one has to wait: its own loss is its own."""
        try:
            async with self._channels.one() as channel:
                return (await self._insert(channel, {0: save}))[0]
        except UniqueViolation as race:
            return ReplyKept() if race.diag.table_name == "kept_replies" else VersionTaken()
        except LockNotAvailable as error:
            return _locked(error)
        except AWAY:
            return StoreUnavailable()

    async def _insert(self, channel: Channel, todo: Mapping[int, Save]) -> dict[int, Outcome]:
        """One statement, which is one transaction: durable when it answers."""
        if not todo:
            return {}
        if len(todo) == 1:
            ((number, save),) = todo.items()
            if _is_single(save):
                return {number: _outcome_of_one(await channel.run(b"append_one", _single(save), ANSWER_SECONDS))}
        # In one order everywhere: otherwise two processes that want the same streams could wait for each other.
        todo = dict(sorted(todo.items(), key=lambda item: item[1].stream_id.int))
        events = [(save, topic, state, i) for save in todo.values() for i, (topic, state) in enumerate(save.events)]
        if all(map(_is_single, todo.values())):
            found = await channel.run(b"append_single", _event_arrays(events), ANSWER_SECONDS)
            positions = {save.stream_id.int: _VERSION_TAKEN for save in todo.values()}
        else:
            values = [*_event_arrays(events), *_reply_arrays(todo.values())]
            found = await channel.run(b"append", values, ANSWER_SECONDS)
            positions = {save.stream_id.int: save.reply.position if save.reply else 0 for save in todo.values()}
        for at in range(found.ntuples):
            stream, position = int.from_bytes(value_of(found, at, 0)), number_of(found, at, 1)
            positions[stream] = position if position >= 0 else min(position, positions[stream])
        return {number: _outcome(positions[save.stream_id.int]) for number, save in todo.items()}

    async def _settle(
        self, channel: Channel, todo: Mapping[int, Save], outcomes: dict[int, Outcome]
    ) -> dict[int, Save]:
        """Read back what an answer that was lost may have said. Saves that are there are done; the others are left.

        A row with our very bytes is ours, for they hold the time or a nonce; and a save is there whole or not at all.
        """
        lasts = {number: (save.stream_id, save.first_version + len(save.events) - 1) for number, save in todo.items()}
        asked = [arrays.uuids(stream for stream, _ in lasts.values()), arrays.int8s(last for _, last in lasts.values())]
        found = await channel.run(b"at_versions", asked, ANSWER_SECONDS)
        stored = {(row.stream_id, row.version): row for row in (_row(found, at) for at in range(found.ntuples))}
        left = {}
        for number, save in todo.items():
            row = stored.get(lasts[number])
            if save.events and row is not None and (row.topic, row.state) == save.events[-1]:
                outcomes[number] = row.position
            elif not save.events and save.reply is not None and await self._is_kept(channel, save.reply):
                outcomes[number] = save.reply.position
            else:
                left[number] = save
        return left

    async def _is_kept(self, channel: Channel, reply: KeptReply) -> bool:
        found = _replies(await channel.run(b"replies", [arrays.byteas([reply.key_hash])], ANSWER_SECONDS))
        return reply.key_hash in found and found[reply.key_hash].sealed == reply.sealed


def _unknown(saves: Iterable[int], certain: Mapping[int, Outcome]) -> dict[int, Outcome]:
    return {number: StoreUnavailable() for number in saves if number not in certain}


def _locked(error: LockNotAvailable) -> StoreUnavailable:
    _log.warning("a save waited too long for others in Postgres, and was not stored: %s", error)
    return StoreUnavailable()


def _is_single(save: Save) -> bool:
    return len(save.events) == 1 and save.reply is None


def _single(save: Save) -> Sequence[bytes]:
    """The values of a save of one event, which waits for nobody else's row to be packed."""
    ((topic, state),) = save.events
    owner = save.owner_id.bytes
    version, partition = save.first_version.to_bytes(8), partition_of(save.owner_id).to_bytes(2)
    return [save.stream_id.bytes, version, topic.encode(), state, owner, partition]


def _outcome_of_one(found: PGresult) -> Outcome:
    return number_of(found, 0, 0) if found.ntuples else VersionTaken()


def _event_arrays(events: Sequence[tuple[Save, str, bytes, int]]) -> list[bytes]:
    return [
        arrays.uuids([save.stream_id for save, _, _, _ in events]),
        arrays.int8s([save.first_version + i for save, _, _, i in events]),
        arrays.texts([topic for _, topic, _, _ in events]),
        arrays.byteas([state for _, _, state, _ in events]),
        arrays.uuids([save.owner_id for save, _, _, _ in events]),
        arrays.int2s([partition_of(save.owner_id) for save, _, _, _ in events]),
    ]


def _reply_arrays(saves: Iterable[Save]) -> list[bytes]:
    kept = [(save.stream_id, save.reply) for save in saves if save.reply is not None]
    return [
        arrays.uuids(stream_id for stream_id, _ in kept),
        arrays.byteas(reply.key_hash for _, reply in kept),
        arrays.byteas(reply.fingerprint for _, reply in kept),
        arrays.uuids(reply.owner_id for _, reply in kept),
        arrays.byteas(reply.sealed for _, reply in kept),
        arrays.int8s(reply.position for _, reply in kept),
    ]


def _first_of_each(saves: Sequence[Save], outcomes: dict[int, Outcome]) -> dict[int, Save]:
    """The saves to try; the outcomes of the others, which lose to one before them."""
    if len(saves) == 1:
        return {0: saves[0]}
    first: dict[int, Save] = {}
    streams: set[int] = set()
    keys: set[bytes] = set()
    for number, save in enumerate(saves):
        key = save.reply.key_hash if save.reply else None
        if key in keys:
            outcomes[number] = ReplyKept()
        elif save.stream_id.int in streams:
            outcomes[number] = VersionTaken()
        else:
            first[number] = save
            streams.add(save.stream_id.int)
            if key is not None:
                keys.add(key)
    return first


def _outcome(position: int) -> Outcome:
    if position == _REPLY_KEPT:
        return ReplyKept()
    return VersionTaken() if position == _VERSION_TAKEN else position


def _row(found: PGresult, at: int) -> Row:
    return Row(
        position=number_of(found, at, 0),
        stream_id=UUID(bytes=value_of(found, at, 1)),
        version=number_of(found, at, 2),
        topic=value_of(found, at, 3).decode(),
        state=value_of(found, at, 4),
        owner_id=UUID(bytes=value_of(found, at, 5)),
    )


def _replies(found: PGresult) -> Mapping[bytes, KeptReply]:
    replies = [
        KeptReply(
            key_hash=value_of(found, at, 0),
            fingerprint=value_of(found, at, 1),
            owner_id=UUID(bytes=value_of(found, at, 2)),
            sealed=value_of(found, at, 3),
            position=number_of(found, at, 4),
        )
        for at in range(found.ntuples)
    ]
    return {reply.key_hash: reply for reply in replies}


_VERSION_TAKEN: Final = -1
_REPLY_KEPT: Final = -2
