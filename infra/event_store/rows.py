"""What is stored: rows of the log, saves of several rows, and the replies that are kept with them."""

from typing import Final
from uuid import UUID

from msgspec import Struct

PARTITIONS: Final = 256  # a fixed hash of the owner: the key for sharded projectors, and for a distributed Postgres


def partition_of(owner_id: UUID) -> int:
    """Stable over processes and releases: the last byte of a UUID is as good as a hash of it."""
    return owner_id.int % PARTITIONS


class Row(Struct, frozen=True, gc=False):
    """One event as stored. `position` orders the log, `version` the stream, from 1.

    Rows and events hold plain values, never each other: out of the collector's sight a replay is twice as fast.
    """

    position: int
    stream_id: UUID
    version: int
    topic: str
    state: bytes
    owner_id: UUID


class KeptReply(Struct, frozen=True):
    """The reply to a request, for its repeats. `sealed` under the owner's key; both hashes are of 32 bytes."""

    key_hash: bytes
    fingerprint: bytes  # of the request's content: another content under the same key is refused
    owner_id: UUID
    sealed: bytes
    position: int = 0  # of the last event saved with it; 0: it was decided that nothing happens


class Save(Struct, frozen=True):
    """Events of one stream that are appended together or not at all, with the reply to the request behind them."""

    stream_id: UUID
    owner_id: UUID
    first_version: int
    events: tuple[tuple[str, bytes], ...]  # topic and state
    reply: KeptReply | None = None


class VersionTaken(Exception):
    """Another save has one of the versions: decide again on what is there now. Nothing of this save was stored."""


class ReplyKept(Exception):
    """Another save has the request's key: its reply is the answer. Nothing of this save was stored."""
