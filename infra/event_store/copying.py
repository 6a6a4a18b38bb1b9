"""Rows of the log out of a binary COPY (PostgreSQL manual, COPY, "Binary Format").

Lines are taken apart here: psycopg's general way takes longer than the server needs to send them.
"""

import struct
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final
from uuid import UUID, SafeUUID

import msgspec
import psycopg
from cryptography.exceptions import InvalidTag
from msgspec import Struct
from psycopg import Connection
from psycopg.errors import error_from_result
from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGresult
from psycopg.sql import Composed

from domain.events.event import Event, Recorded
from domain.measures import UserId
from infra.event_store.mapper import HEAD, SEALED, Decode, one_map
from infra.event_store.rows import Row
from infra.keys import UserCipher

# A line: the number of fields, then each with its length. This is position, stream and version, and the topic's length;
# behind it come the topic, the state with its length, and the owner with its.
_HEAD: Final = struct.Struct("!6xq4x16s4xqi")
_VERSION: Final = slice(38, 46)
# From where the topic ends: behind the state's length the head of a sealed one, its kind and a length of 24 bits. What
# `mapper.in_the_clear` does with a state is done out of the line itself: an event opened takes a twentieth less.
_SEALED: Final = struct.Struct("!4xI")
_KIND: Final = 24
_LENGTH: Final = (1 << _KIND) - 1
_TOPIC_SIZE: Final = 46  # where the topic's length is
_UNDECODABLE: Final = (KeyError, IndexError, msgspec.DecodeError, ValueError, TypeError, RecursionError, InvalidTag)
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # with flags and no extension, before the first line
_AT_ONCE: Final = 128  # lines: so many events stay in a core's cache until they are folded, and freed
_OWNERS: Final = 100_000  # whose ids are kept
_UUIDS: Final = msgspec.msgpack.Decoder(list[UUID])


class Events(Struct, frozen=True):
    """Of some lines the events, as far as they are decoded, and the rows of the others. The position of the last."""

    events: Sequence[Recorded]
    left: Sequence[Row]
    last: int


def rows_of(connection: Connection, statement: Composed, owners: "Ids") -> Sequence[Row]:
    """What the statement copies. Its columns are those of a row."""
    unpack, head, topics, rows = _HEAD.unpack_from, _HEAD.size, _Topics(), list[Row]()
    for line in chain.from_iterable(Lines(connection, statement)):
        position, stream, version, size = unpack(line)
        begin = head + size
        topic, owner = topics[line[head:begin]], owners[line[-16:]]
        rows.append(Row(position, _id(stream), version, topic, line[begin + 4 : -20], owner))
    return rows


class Lines(Iterator[Sequence[bytes]]):
    """What a statement copies, some lines at once, as they come: the server goes on while they are worked on.

    From the first of them until all have come, the connection takes nothing else. `rest` waits for that.
    """

    def __init__(self, connection: Connection, statement: Composed) -> None:
        self._coming = _coming(connection, statement)
        self._here = deque[Sequence[bytes]]()
        self._last: Sequence[bytes] = ()

    def __next__(self) -> Sequence[bytes]:
        self._last = self._here.popleft() if self._here else next(self._coming)
        return self._last

    def rest(self) -> Iterator[bytes]:
        """Those that were given last, and all that are still to be given, which have come now."""
        self._here.extend(self._coming)
        return chain(self._last, *self._here)

    def close(self) -> None:
        """Leave what has not come: the connection is free again."""
        self._coming.close()


def _coming(connection: Connection, statement: Composed) -> Generator[Sequence[bytes]]:
    lines, least = list[bytes](), _HEAD.size
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        received = connection.pgconn.get_copy_data
        line = bytes(copy.read()).removeprefix(_SIGNATURE)  # which comes with the first line
        while len(line) >= least:  # else it is the end mark
            lines.append(line)
            if len(lines) == _AT_ONCE:
                yield lines
                lines = []
            size, data = received(1)
            if size < 0:
                raise _fault_of(list(iter(connection.pgconn.get_result, None)))  # all, which frees the connection
            line = bytes(data if size else copy.read())  # which waits for more
        copy.read()
    if lines:
        yield lines


def _fault_of(results: Sequence[PGresult]) -> psycopg.Error:
    """Why the server sends no more. Without a code it is gone."""
    if results and results[0].error_field(DiagnosticField.SQLSTATE):
        return error_from_result(results[0])
    return psycopg.OperationalError(results[0].get_error_message() if results else "the server ended the copy")


def owners_of(lines: Iterable[bytes], topics: Collection[bytes]) -> set[bytes]:
    """Whose the events of these topics are, as bytes of ids."""
    topic = tuple(len(topic).to_bytes(4) + topic for topic in topics)
    return {line[-16:] for line in lines if line.startswith(topic, _TOPIC_SIZE)}


def events_of(
    lines: Sequence[bytes],
    owners: "Ids",
    decoders: Mapping[bytes, Decode],
    opened: Collection[bytes],
    ciphers: Mapping[bytes, UserCipher | None],
) -> Events:
    """The events of some lines. Rows without a decoder and rows that do not decode are left.

    What is sealed is opened for topics in `opened`, by the owners' ciphers; None: the key is destroyed. Values are
    gathered in columns, from which ids and events are then made together.
    """
    unpack, sealed, head, position = _HEAD.unpack_from, _SEALED.unpack_from, _HEAD.size, 0
    events, streams, versions, positions, whose = list[Event](), list[bytes](), list[int](), list[int](), list[UserId]()
    left = list[Row]()
    for line in lines:
        position, stream, version, size = unpack(line)
        begin = head + size
        topic, owner = line[head:begin], line[-16:]
        try:
            if topic in opened and (sealed_head := sealed(line, begin)[0]) >> _KIND == SEALED:
                ends = begin + 4 + HEAD + (sealed_head & _LENGTH)
                state = line[begin + 4 + HEAD : ends]
                if (cipher := ciphers[owner]) is not None:
                    state = one_map(state, cipher.open(line[ends:-20], owner + stream + line[_VERSION]))
            else:
                state = line[begin + 4 : -20]
            events.append(decoders[topic](state))
        except _UNDECODABLE:
            state = line[begin + 4 : -20]
            left.append(Row(position, _id(stream), version, topic.decode(), state, owners[owner]))
            continue
        streams.append(stream)
        versions.append(version)
        positions.append(position)
        whose.append(owners[owner])
    return Events(list(map(Recorded, events, _ids(streams), versions, positions, whose)), left, position)


def _ids(data: Sequence[bytes]) -> list[UUID]:
    """What `UUID(bytes=…)` gives, in an eighth of the time: as MessagePack has them, an array of bytes of 16."""
    if not data:
        return []
    return _UUIDS.decode(b"\xdd" + len(data).to_bytes(4) + b"\xc4\x10" + b"\xc4\x10".join(data))


def _id(data: bytes) -> UUID:
    """One id, in half the time."""
    made = object.__new__(UUID)
    object.__setattr__(made, "int", int.from_bytes(data))
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


class Ids(dict[bytes, UserId]):
    """Ids by their bytes, each made when it is first asked for: owners come again and again."""

    def __missing__(self, data: bytes) -> UserId:
        if len(self) >= _OWNERS:
            self.clear()
        made = self[data] = UserId(_id(data))
        return made


class _Topics(dict[bytes, str]):
    """Topics by their bytes."""

    def __missing__(self, data: bytes) -> str:
        made = self[data] = data.decode()
        return made
