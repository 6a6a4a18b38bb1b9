"""Rows of the log out of a binary COPY (PostgreSQL manual, COPY, "Binary Format").

Lines are taken apart here: psycopg's general way takes longer than the server needs to send them.
"""

import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final
from uuid import UUID, SafeUUID

import msgspec
import psycopg
from cryptography.exceptions import InvalidTag
from msgspec import Struct
from psycopg import Connection
from psycopg.sql import Composed

from domain.events.event import Event, Recorded
from domain.measures import UserId
from infra.event_store.mapper import SEALED, Decode, in_the_clear
from infra.event_store.rows import Row
from infra.keys import KeyUnusable, UserCipher

# A line: the number of fields, then each with its length. This is up to the length of the topic; behind it come the
# topic, the state with its length, and the owner with its.
_HEAD: Final = struct.Struct("!hiqi16siqi")
_UNDECODABLE: Final = (KeyError, IndexError, msgspec.DecodeError, ValueError, TypeError, RecursionError, InvalidTag)
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # with flags and no extension, before the first line
_OWNERS: Final = 100_000  # whose ids are kept
_UUIDS: Final = msgspec.msgpack.Decoder(list[UUID])


class Page(Struct, frozen=True):
    """Events of a page, as far as they are decoded, and the rows of the others. Where it ends; how long it is."""

    events: Sequence[Recorded]
    left: Sequence[Row]
    count: int
    last: int


def rows_of(connection: Connection, statement: Composed, owners: "Ids") -> Sequence[Row]:
    """What the statement copies. Its columns are those of a row."""
    unpack, head, topics, rows = _HEAD.unpack_from, _HEAD.size, _Topics(), list[Row]()
    for line in _lines(connection, statement):
        _, _, position, _, stream, _, version, size = unpack(line)
        begin = head + size
        topic, owner = topics[line[head:begin]], owners[line[-16:]]
        rows.append(Row(position, _id(stream), version, topic, line[begin + 4 : -20], owner))
    return rows


_Sealed = tuple[int, bytes, int, bytes, bytes, bytes]  # position, stream, version, topic, state, owner


class Opening(Struct, frozen=True):
    """Topics whose sealed part is opened, and how the keys of a page's owners are found."""

    topics: Collection[bytes]
    keys: Callable[[Collection[UUID]], Mapping[UUID, UserCipher | KeyUnusable | None]]


def page_of(
    connection: Connection, statement: Composed, owners: "Ids", decoders: Mapping[bytes, Decode], opening: Opening
) -> Page:
    """What the statement copies, decoded at once. Rows without a decoder and rows that do not decode are left.

    Values are gathered in columns, from which ids and events are then made by the page. What is to be opened waits for
    its keys, which are asked for when all lines are there.
    """
    unpack, head, opened = _HEAD.unpack_from, _HEAD.size, opening.topics
    events, streams, versions, positions, whose = list[Event](), list[bytes](), list[int](), list[int](), list[UserId]()
    left, sealed, position = list[Row](), list[_Sealed](), 0
    for line in _lines(connection, statement):
        _, _, position, _, stream, _, version, size = unpack(line)
        begin = head + size
        topic, state = line[head:begin], line[begin + 4 : -20]
        if topic in opened and state[:1] == SEALED:
            sealed.append((position, stream, version, topic, state, line[-16:]))
            continue
        owner, decode = owners[line[-16:]], decoders.get(topic)
        try:
            event = None if decode is None else decode(state)
        except _UNDECODABLE:
            event = None
        if event is None:
            left.append(Row(position, _id(stream), version, topic.decode(), state, owner))
            continue
        events.append(event)
        streams.append(stream)
        versions.append(version)
        positions.append(position)
        whose.append(owner)
    found = list(map(Recorded, events, _ids(streams), versions, positions, whose))
    if sealed:
        found = sorted([*found, *_opened(sealed, owners, decoders, opening, left)], key=attrgetter("position"))
    return Page(found, left, len(found) + len(left), position)


def _opened(
    lines: Sequence[_Sealed], owners: "Ids", decoders: Mapping[bytes, Decode], opening: Opening, left: list[Row]
) -> Iterator[Recorded]:
    """The events of lines with a sealed part, opened. Rows that do not open are left."""
    keys = opening.keys({owners[owner] for *_, owner in lines})
    streams = _ids([stream for _, stream, *_ in lines])
    for (position, stream, version, topic, state, owner_bytes), stream_id in zip(lines, streams, strict=True):
        owner, place = owners[owner_bytes], owner_bytes + stream + version.to_bytes(8)  # as `associated` has it
        key = keys[owner]
        try:
            event = decoders[topic](in_the_clear(state, key, place)) if isinstance(key, UserCipher) else None
        except _UNDECODABLE:
            event = None
        if event is None:
            left.append(Row(position, stream_id, version, topic.decode(), state, owner))
        else:
            yield Recorded(event, stream_id, version, position, owner)


def _lines(connection: Connection, statement: Composed) -> Iterator[bytes]:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        received, least, begun = connection.pgconn.get_copy_data, _HEAD.size, False
        while True:
            size, data = received(1)
            if size > least and begun:
                yield bytes(data)
                continue
            if size < 0:
                ended = connection.pgconn.get_result()
                raise psycopg.OperationalError(ended.get_error_message() if ended else "the server ended the copy")
            line = bytes(data) if size else bytes(copy.read())  # which waits for more
            if len(line) < least:  # the end mark
                copy.read()
                return
            yield line if begun else line.removeprefix(_SIGNATURE)
            begun = True


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
