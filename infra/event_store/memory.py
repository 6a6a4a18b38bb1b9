"""A log and keys in memory, for tests of rules and of HTTP: fast, and gone with the process."""

from collections.abc import Sequence
from uuid import UUID

from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.popo import POPOApplicationRecorder
from msgspec.structs import replace

from domain.streams import OwnerErased
from infra.event_store.rows import KeptReply, ReplyKept, Row, Save, VersionTaken
from infra.keys import UserCipher


class MemoryLog:
    """The library's recorder in memory as a log. Implements `infra.event_store.streams.Log`."""

    def __init__(self) -> None:
        self._recorder = POPOApplicationRecorder()
        self._positions: dict[tuple[UUID, int], int] = {}
        self._owners: dict[UUID, UUID] = {}
        self._replies: dict[bytes, KeptReply] = {}
        self._snapshots: dict[tuple[UUID, str], Row] = {}

    async def append(self, save: Save) -> int:
        """See `infra.event_store.streams.Log`."""
        if save.reply is not None and save.reply.key_hash in self._replies:
            raise ReplyKept
        versions = range(save.first_version, save.first_version + len(save.events))
        stored = [
            StoredEvent(save.stream_id, version, topic, state)
            for version, (topic, state) in zip(versions, save.events, strict=True)
        ]
        try:
            positions = self._recorder.insert_events(stored) or []
        except IntegrityError:
            raise VersionTaken from None
        self._owners[save.stream_id] = save.owner_id
        self._positions |= {(save.stream_id, version): at for version, at in zip(versions, positions, strict=True)}
        position = positions[-1] if positions else 0
        if save.reply is not None:
            position = position or save.reply.position
            self._replies[save.reply.key_hash] = replace(save.reply, position=position)
        return position

    async def load(self, stream_id: UUID, after: int = 0, state_topic: str = "") -> Sequence[Row]:
        """See `infra.event_store.streams.Log`."""
        snapshot = self._snapshots.get((stream_id, state_topic))
        summed = [snapshot] if snapshot is not None and snapshot.version > after else []
        if summed:
            after = summed[0].version
        stored = self._recorder.select_events(stream_id, gt=after)
        return summed + [
            Row(
                self._positions[stream_id, event.originator_version],
                stream_id,
                event.originator_version,
                event.topic,
                event.state,
                self._owners[stream_id],
            )
            for event in stored
        ]

    async def reply(self, key_hash: bytes) -> KeptReply | None:
        """See `infra.event_store.streams.Log`."""
        return self._replies.get(key_hash)

    async def forget(self, reply: KeptReply) -> None:
        """See `infra.event_store.streams.Log`."""
        if self._replies.get(reply.key_hash) == reply:
            del self._replies[reply.key_hash]

    async def last(self) -> int:
        """See `infra.event_store.streams.Log`."""
        return max(self._positions.values(), default=0)

    async def snapshot(self, row: Row) -> None:
        """See `infra.event_store.streams.Log`."""
        self._snapshots[row.stream_id, row.topic] = row

    async def close(self) -> None:
        """Nothing to let go of."""


class MemoryKeys:
    """Implements `infra.event_store.streams.Keys`."""

    def __init__(self) -> None:
        self._keys: dict[UUID, UserCipher | None] = {}

    async def to_seal(self, owner_id: UUID) -> UserCipher:
        """See `infra.event_store.streams.Keys`."""
        cipher = self._keys.setdefault(owner_id, UserCipher(owner_id.bytes * 2))
        if cipher is None:
            raise OwnerErased
        return cipher

    async def to_open(self, owner_id: UUID) -> UserCipher | None:
        """See `infra.event_store.streams.Keys`."""
        return self._keys.get(owner_id)

    async def destroy(self, owner_id: UUID) -> None:
        """Make all that the owner's key sealed unreadable."""
        self._keys[owner_id] = None
