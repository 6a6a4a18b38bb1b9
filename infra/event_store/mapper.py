"""Events to stored bytes and back: MessagePack, its private fields sealed under the owner's key.

The first byte of a state says what it is:

- 0x80 to 0x8f: a MessagePack map of all fields. That of what is sealed, cut off, is one too: private fields then have
  their defaults.
- 2: the length of the map of the public fields (24 bits, big-endian), that map, and that of the private ones, sealed.
- `{`: JSON, as states were before; where it has a sealed part, that is the last field, in base64.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
import pybase64
from cryptography.exceptions import InvalidTag

from domain.events import EVENTS, UPCASTS
from domain.events.event import Event
from infra.event_store.rows import Row

SEALED: Final = 2  # the first byte of a state with a sealed part
HEAD: Final = 4  # bytes: that one, and the length of what is public
_JSON: Final = 0x7B  # that of JSON, a brace
JSON_SEALED: Final = b',"sealed":"'  # the last field; quotes within strings are escaped, so it stands nowhere else
_MOST_FIELDS: Final = 15  # of a map whose head is one byte, 0x80 and the number of fields
_BYTES: Final = tuple(bytes((value,)) for value in range(256))
_ENCODER: Final = msgspec.msgpack.Encoder(uuid_format="bytes")

Decode = Callable[[bytes], Event]
Upcasts = Mapping[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]]


class Cipher(Protocol):
    """An owner's key."""

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        """Encrypt; what is given as associated must be given again to open it."""
        ...

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """What was sealed; `InvalidTag` when the bytes, the key or what is associated are others."""
        ...


class UndecodableEvent(Exception):
    """A stored event has an unknown topic, its state does not fit the topic, or what is sealed does not open.

    Raised for a row, it names the row's stream, version and position.
    """


def associated(owner_id: UUID, stream_id: UUID, version: int) -> bytes:
    """What binds sealed bytes to their place: moved to another row, they do not open."""
    return ((owner_id.int << 128 | stream_id.int) << 64 | version).to_bytes(40)  # the three as bytes, at half the time


def is_sealed(state: bytes) -> bool:
    """Whether the state has a sealed part."""
    kind = state[0] if state else None
    return kind == SEALED or (kind == _JSON and state.rfind(JSON_SEALED) >= 0)


class Mapper:
    """Cached decoders for each topic, for the current one and those that came before it."""

    def __init__(self, events: Sequence[type[Event]], upcasts: Upcasts) -> None:
        self._kinds = {kind.TOPIC: kind for kind in events}
        self._upcasts = upcasts
        self.decoders: Final[Mapping[str, Decode]] = {  # of maps of MessagePack
            **{kind.TOPIC: msgspec.msgpack.Decoder(kind, strict=True).decode for kind in events},
            **{topic: self._decoder_of_old(topic, msgspec.msgpack.decode) for topic in upcasts},
        }
        self._json_decoders: Mapping[str, Decode] = {
            **{kind.TOPIC: msgspec.json.Decoder(kind, strict=True).decode for kind in events},
            **{topic: self._decoder_of_old(topic, msgspec.json.decode) for topic in upcasts},
        }
        for kind in events:
            if len(kind.__struct_fields__) > _MOST_FIELDS:
                raise ValueError(f"{kind.TOPIC} has more than {_MOST_FIELDS} fields: put some together in one")

    def _decoder_of_old(self, topic: str, fields_of: Callable[[bytes], Any]) -> Decode:
        steps = []
        while topic in self._upcasts:
            topic, step = self._upcasts[topic]
            steps.append(step)
        kind = self._kinds[topic]

        def decode(state: bytes) -> Event:
            fields: dict[str, Any] = fields_of(state)
            for step in steps:
                fields = step(fields)
            return msgspec.convert(fields, kind)

        return decode

    def topics_of(self, events: Iterable[type[Event]]) -> set[str]:
        """Under which topics such events are stored: their own, and those that are brought to it."""
        found = {event.TOPIC for event in events}
        while older := {topic for topic, (next_topic, _) in self._upcasts.items() if next_topic in found} - found:
            found |= older
        return found

    def encode(self, event: Event, cipher: Cipher | None = None, place: bytes = b"") -> tuple[str, bytes]:
        """The topic and the state of an event. Its stream, version and position are not repeated in the state.

        With a cipher, its private fields are sealed for the place that `associated` gives. `TypeError` for an event
        that is not listed, which nobody could read again.
        """
        if self._kinds.get(event.TOPIC) is not type(event):
            raise TypeError(f"{type(event).__name__} is not listed in EVENTS (domain/events/__init__.py)")
        if cipher is None or not event.PRIVATE:
            return event.TOPIC, _ENCODER.encode(event)
        private = {name: getattr(event, name) for name in event.PRIVATE}
        public = _ENCODER.encode(msgspec.structs.replace(event, **dict.fromkeys(event.PRIVATE, msgspec.UNSET)))
        head = _BYTES[SEALED] + len(public).to_bytes(HEAD - 1)
        return event.TOPIC, head + public + cipher.seal(_ENCODER.encode(private), place)

    def decode(self, topic: str, state: bytes) -> Event:
        """The event of a stored topic and state. Private fields that are sealed have their defaults: redacted.

        `UndecodableEvent` when this code does not know the topic, or the state does not fit it.
        """
        try:
            kind = state[0] if state else None
            if kind == SEALED:
                state = state[HEAD : HEAD + int.from_bytes(state[1:HEAD])]
            elif kind == _JSON:
                return self._json_decoders[topic](state)
            return self.decoders[topic](state)
        except KeyError:
            raise UndecodableEvent(f"unknown topic {topic!r}: newer code wrote it; deploy that code here too") from None
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
            raise UndecodableEvent(f"state of topic {topic!r} does not decode: {error}") from error

    def open(self, topic: str, state: bytes, cipher: Cipher | None, place: bytes) -> Event:
        """As `decode`, with the sealed fields opened; without a cipher (the key is destroyed) they stay redacted."""
        if cipher is None or not is_sealed(state):
            return self.decode(topic, state)
        return self.decode(topic, _opened(topic, state, cipher, place))

    def misfit(self, topic: str, state: bytes) -> str:
        """Why a state that decodes is none that was stored under this topic; empty when nothing speaks against it.

        What a decoder ignores or has a default for: fields of another topic, private fields that are not sealed or not
        there. States of older topics and in JSON are not looked at.
        """
        kind, first = self._kinds.get(topic), state[0] if state else _JSON
        if kind is None or first == _JSON:
            return ""
        if bool(kind.PRIVATE) is not (first == SEALED):
            had = "a sealed part, and this state has none" if kind.PRIVATE else "no sealed part, and this state has one"
            return f"topic {topic!r} has {had}: another topic was stored"
        public = state[HEAD : HEAD + int.from_bytes(state[1:HEAD])] if first == SEALED else state
        unknown = msgspec.msgpack.decode(public).keys() - {*kind.__struct_encode_fields__}
        return f"topic {topic!r} has no {', '.join(sorted(unknown))}: another topic was stored" if unknown else ""

    def event(self, row: Row, cipher: Cipher | None) -> Event:
        """The event of a row, opened. `UndecodableEvent` names the row."""
        try:
            if cipher is None:
                return self.decode(row.topic, row.state)
            return self.open(row.topic, row.state, cipher, associated(row.owner_id, row.stream_id, row.version))
        except UndecodableEvent as fault:
            raise UndecodableEvent(f"{place_of(row)}: {fault}") from fault.__cause__


def _opened(topic: str, state: bytes, cipher: Cipher, place: bytes) -> bytes:
    """The state with its sealed part in the clear."""
    try:
        if state[0] == SEALED:
            return in_the_clear(state, cipher, place)
        begin = state.rfind(JSON_SEALED)
        box = pybase64.b64decode(state[begin + len(JSON_SEALED) : -2], validate=True)
        return state[:begin] + b"," + cipher.open(box, place)[1:]
    except (InvalidTag, IndexError, ValueError):
        raise UndecodableEvent(
            f"the sealed part of topic {topic!r} does not open: its bytes, its place or its key were changed"
        ) from None


def in_the_clear(state: bytes, cipher: Cipher, place: bytes) -> bytes:
    """A state that begins with `SEALED` as one map. `InvalidTag`, `IndexError`, `ValueError`: it does not open."""
    ends = HEAD + int.from_bytes(state[1:HEAD])
    return one_map(state[HEAD:ends], cipher.open(state[ends:], place))


def one_map(public: bytes, private: bytes) -> bytes:
    """Of two maps, each of up to 15 fields. `IndexError`: one is empty."""
    return _BYTES[public[0] + private[0] - 0x80] + public[1:] + private[1:]


def place_of(row: Row) -> str:
    """Where a row is, for messages."""
    return f"stream {row.stream_id} version {row.version} (position {row.position})"


MAPPER: Final = Mapper(EVENTS, UPCASTS)
