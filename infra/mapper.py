"""Events to stored bytes and back: JSON that can be read in psql, one cached decoder for each topic."""

from collections.abc import Mapping
from typing import Final

import msgspec

from domain.events import EVENTS
from domain.events.event import Event


class UndecodableEvent(Exception):
    """A stored event has an unknown topic, or its state does not fit the topic."""


_DECODERS: Final[Mapping[str, msgspec.json.Decoder[Event]]] = {
    kind.TOPIC: msgspec.json.Decoder(kind, strict=True) for kind in EVENTS
}
_ENCODER: Final = msgspec.json.Encoder()


def encode(event: Event) -> tuple[str, bytes]:
    """The topic and the state of an event. Its stream, version and position are not repeated in the state."""
    return event.TOPIC, _ENCODER.encode(event)


def decode(topic: str, state: bytes) -> Event:
    """The event of a stored topic and state; `UndecodableEvent` when this code does not know them."""
    try:
        return _DECODERS[topic].decode(state)
    except KeyError:
        raise UndecodableEvent(f"unknown topic {topic!r}: newer code wrote it; deploy that code here too") from None
    except msgspec.DecodeError as error:
        raise UndecodableEvent(f"state of topic {topic!r} does not decode: {error}") from error
