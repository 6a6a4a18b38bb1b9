"""What was stored once, for the tests to read for ever. Run as a module it adds what is missing, and changes nothing.

`.venv/bin/python -m tests.infra.event_store.samples` after an event or a state got a new version.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, Final
from uuid import uuid4

import msgspec
from msgspec.structs import FieldInfo

import domain
from domain.events import EVENTS, UPCASTS
from domain.events.event import Event
from domain.events.measured import Measured
from domain.events.packing import unpack_json
from domain.streams import Aggregate
from infra.event_store.mapper import MAPPER, associated
from infra.keys import UserCipher

FOLDER: Final = Path(__file__).parents[2] / "samples"
MODULES: Final = tuple(import_module(one.name) for one in walk_packages(domain.__path__, "domain."))
# Whatever has a `STATE` that may be kept as a snapshot.
AGGREGATES: Final[tuple[type[Aggregate], ...]] = tuple(
    found
    for module in MODULES
    for found in vars(module).values()
    if isinstance(found, type) and found.__module__ == module.__name__ and isinstance(vars(found).get("STATE"), str)
)
# Everything that has a stored shape, by the name and version under which it is stored.
NAMES: Final[Mapping[str, type[Event] | type[Aggregate]]] = {
    **{kind.TOPIC: kind for kind in EVENTS},
    **{kind.STATE: kind for kind in AGGREGATES},
}
# What fields hold that are handed on as bytes.
HELD: Final[Mapping[tuple[str, str], type]] = {("ActivityRecorded", "measured"): Measured}
KEY: Final = b"the key of the samples, 32 bytes"


def shape(kind: type[Event] | type[Aggregate]) -> Mapping[str, Any]:
    """Fields, their types, defaults and units of nested values; and what of it is private."""
    found: dict[str, Any] = _without_words(msgspec.json.schema(_decoded(kind)))
    return {**found, "private": sorted(getattr(kind, "PRIVATE", ()))}


def _decoded(kind: type[Any]) -> type[Any]:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    held = {name: HELD[kind.__name__, name] for name, field in fields.items() if field.type is bytes}
    if not held:
        return kind
    described = [
        (name, held[name], held[name]()) if name in held else (name, field.type, *_default(field))
        for name, field in fields.items()
    ]
    return msgspec.defstruct(kind.__name__, described, kw_only=True)


def _default(field: FieldInfo) -> Sequence[Any]:
    return () if field.required else (field.default,)


def _without_words(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_words(value) for name, value in schema.items() if name not in {"description", "title"}}
    return [_without_words(value) for value in schema] if isinstance(schema, list) else schema


def states(event: Event) -> Mapping[str, Any]:
    """The event as it is stored, in the clear and sealed, with what is needed to open it; in hexadecimal."""
    owner_id, stream_id, version = uuid4(), uuid4(), 7
    _, clear = MAPPER.encode(event)
    _, sealed = MAPPER.encode(event, UserCipher(KEY), associated(owner_id, stream_id, version))
    return {
        "key": base64.b64encode(KEY).decode(),
        "owner_id": str(owner_id),
        "stream_id": str(stream_id),
        "version": version,
        "clear": clear.hex(),
        "sealed": sealed.hex(),
    }


def told(event: Event) -> Mapping[str, Any]:
    """What an event says, for people to read; what is at its default is left out. What was measured is unpacked."""
    fields: dict[str, Any] = msgspec.to_builtins(event)
    if "measured" in fields:
        fields["measured"] = json.loads(unpack_json(getattr(event, "measured")))  # noqa: B009 - not all have it
    return {"topic": event.TOPIC, "fields": fields}


def add(path: Path, content: Mapping[str, Any]) -> None:
    """Write a sample that is not there yet."""
    if not path.exists():
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        print(f"added {path}")  # noqa: T201


if __name__ == "__main__":
    for name, kind in NAMES.items():
        add(FOLDER / "shapes" / f"{name}.json", shape(kind))
    for event_kind in EVENTS:
        example = MAPPER.decode(event_kind.TOPIC, (FOLDER / "events" / f"{event_kind.TOPIC}.json").read_bytes())
        add(FOLDER / "states" / f"{event_kind.TOPIC}.json", states(example))
    for topic in UPCASTS:
        was = MAPPER.decode(topic, (FOLDER / "events" / f"{topic}.json").read_bytes())
        add(FOLDER / "upcast" / f"{topic}.json", told(was))
