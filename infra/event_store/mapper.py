"""Events to stored bytes and back: JSON that can be read in psql, its private fields sealed under the owner's key."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
import pybase64
from cryptography.exceptions import InvalidTag

from domain.events import EVENTS, UPCASTS
from domain.events.event import Event
from infra.event_store.rows import Row

SEALED: Final = b',"sealed":"'  # the last field; quotes within strings are escaped, so it stands nowhere else
_ENCODER: Final = msgspec.json.Encoder()

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
    return owner_id.bytes + stream_id.bytes + version.to_bytes(8)


def is_sealed(state: bytes) -> bool:
    """Whether the state has a sealed part."""
    return state.rfind(SEALED) >= 0  # from the end, where it is: twice as fast


class Mapper:
    """One cached decoder for each topic, for the current one and those that came before it."""

    def __init__(self, events: Sequence[type[Event]], upcasts: Upcasts) -> None:
        decoders = {kind.TOPIC: msgspec.json.Decoder(kind, strict=True) for kind in events}
        self._kinds = {kind.TOPIC: kind for kind in events}
        self._upcasts = upcasts
        self.decoders: Final[Mapping[str, Decode]] = {
            **{topic: decoder.decode for topic, decoder in decoders.items()},
            **{topic: self._decoder_of_old(topic) for topic in upcasts},
        }

    def _decoder_of_old(self, topic: str) -> Callable[[bytes], Event]:
        steps = []
        while topic in self._upcasts:
            topic, step = self._upcasts[topic]
            steps.append(step)
        kind = self._kinds[topic]

        def decode(state: bytes) -> Event:
            fields: dict[str, Any] = msgspec.json.decode(state)
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

        With a cipher, its private fields are sealed for the place that `associated` gives.
        """
        if cipher is None or not event.PRIVATE:
            return event.TOPIC, _ENCODER.encode(event)
        private = {name: getattr(event, name) for name in event.PRIVATE}
        public = msgspec.structs.replace(event, **dict.fromkeys(event.PRIVATE, msgspec.UNSET))
        box = pybase64.b64encode(cipher.seal(_ENCODER.encode(private), place))
        return event.TOPIC, _ENCODER.encode(public)[:-1] + SEALED + box + b'"}'

    def decode(self, topic: str, state: bytes) -> Event:
        """The event of a stored topic and state. Private fields that are sealed have their defaults: redacted.

        `UndecodableEvent` when this code does not know the topic, or the state does not fit it.
        """
        try:
            return self.decoders[topic](state)
        except KeyError:
            raise UndecodableEvent(f"unknown topic {topic!r}: newer code wrote it; deploy that code here too") from None
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
            raise UndecodableEvent(f"state of topic {topic!r} does not decode: {error}") from error

    def open(self, topic: str, state: bytes, cipher: Cipher | None, place: bytes) -> Event:
        """As `decode`, with the sealed fields opened; without a cipher (the key is destroyed) they stay redacted."""
        begin = state.rfind(SEALED)
        if begin < 0 or cipher is None:
            return self.decode(topic, state)
        return self.decode(topic, _opened(topic, state, begin, cipher, place))

    def event(self, row: Row, cipher: Cipher | None) -> Event:
        """The event of a row, opened. `UndecodableEvent` names the row."""
        state = row.state
        try:
            if cipher is not None and (begin := state.rfind(SEALED)) >= 0:
                place = associated(row.owner_id, row.stream_id, row.version)
                state = _opened(row.topic, state, begin, cipher, place)
            return self.decode(row.topic, state)
        except UndecodableEvent as fault:
            raise UndecodableEvent(f"{place_of(row)}: {fault}") from fault.__cause__


def _opened(topic: str, state: bytes, begin: int, cipher: Cipher, place: bytes) -> bytes:
    """The state with its sealed part, which begins there, in the clear."""
    try:
        private = cipher.open(pybase64.b64decode(state[begin + len(SEALED) : -2], validate=True), place)
    except (InvalidTag, ValueError):
        raise UndecodableEvent(
            f"the sealed part of topic {topic!r} does not open: its bytes, its place or its key were changed"
        ) from None
    return state[:begin] + b"," + private[1:]


def place_of(row: Row) -> str:
    """Where a row is, for messages."""
    return f"stream {row.stream_id} version {row.version} (position {row.position})"


MAPPER: Final = Mapper(EVENTS, UPCASTS)
