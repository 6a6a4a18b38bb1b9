"""A stored sample of every event ever written is decoded here for ever: samples are added, never changed."""

import base64
import json
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec.structs import replace

from domain.events import EVENTS
from domain.events.activity import ActivityEdited
from domain.events.event import Event
from domain.events.user import UserRegistered
from domain.streams import Aggregate
from infra.event_store.mapper import MAPPER, Mapper, UndecodableEvent, associated, is_sealed
from infra.event_store.rows import Row
from infra.keys import UserCipher
from tests.infra.event_store import samples
from tests.scenarios import MAY_1

SAMPLES = sorted((samples.FOLDER / "events").glob("*.json"))


def test_every_event_has_a_topic_of_its_own_and_a_stored_sample() -> None:
    topics = [kind.TOPIC for kind in EVENTS]
    assert len(set(topics)) == len(topics)
    assert {sample.stem for sample in SAMPLES} >= set(topics)


TOPICS = {kind.TOPIC for kind in EVENTS}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_what_was_stored_once_still_decodes_and_encodes_the_same(sample: Path) -> None:
    """In today's topic the same bytes; what an older topic was brought to is stored under today's."""
    state = sample.read_bytes().strip()
    event = MAPPER.decode(sample.stem, state)
    topic, stored = MAPPER.encode(event)
    assert topic == type(event).TOPIC
    assert MAPPER.decode(topic, stored) == event
    if sample.stem in TOPICS:
        assert (topic, stored) == (sample.stem, state)


def test_an_edit_from_before_there_were_notes_has_none() -> None:
    event = MAPPER.decode("activity.edited@1", (samples.FOLDER / "events" / "activity.edited@1.json").read_bytes())
    assert isinstance(event, ActivityEdited)
    assert (event.title, event.notes) == ("Race", "")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_fields_of_later_versions_of_the_code_do_no_harm(sample: Path) -> None:
    state = msgspec.json.decode(sample.read_bytes())
    assert MAPPER.decode(sample.stem, msgspec.json.encode({**state, "of_tomorrow": 1})) == MAPPER.decode(
        sample.stem, sample.read_bytes()
    )


def test_an_unknown_topic_says_what_to_do() -> None:
    with pytest.raises(UndecodableEvent, match=r"unknown topic 'activity\.teleported@9'.*deploy"):
        MAPPER.decode("activity.teleported@9", b"{}")


def test_a_state_that_does_not_fit_names_its_topic() -> None:
    with pytest.raises(UndecodableEvent, match=r"activity\.deleted@1"):
        MAPPER.decode("activity.deleted@1", b'{"at": 5}')


@pytest.mark.parametrize(("name", "kind"), samples.NAMES.items(), ids=samples.NAMES)
def test_a_stored_shape_changes_only_with_a_new_version(name: str, kind: type[Event] | type[Aggregate]) -> None:
    """When this fails: give the class a new name `…@N`, and an upcast or nothing for a state; docs/contributors."""
    stored = json.loads((samples.FOLDER / "shapes" / f"{name}.json").read_text())
    assert json.loads(json.dumps(samples.shape(kind))) == stored, f"{name} is stored in another shape than before"


def test_the_check_sees_a_changed_type_default_and_privacy() -> None:
    class Before(Event, frozen=True, kw_only=True):
        TOPIC: ClassVar[str] = "run.timed@1"
        seconds: float = 0.0

    class OtherType(Event, frozen=True, kw_only=True):
        TOPIC: ClassVar[str] = "run.timed@1"
        seconds: int = 0

    class OtherDefault(Event, frozen=True, kw_only=True):
        TOPIC: ClassVar[str] = "run.timed@1"
        seconds: float = 1.0

    class Private(Before, frozen=True, kw_only=True):
        PRIVATE: ClassVar[frozenset[str]] = frozenset({"seconds"})

    shapes = [
        json.dumps(samples.shape(kind)).replace(kind.__name__, "")
        for kind in (Before, OtherType, OtherDefault, Private)
    ]
    assert len(set(shapes)) == 4


SEALED = sorted((samples.FOLDER / "sealed").glob("*.json"))


def test_every_event_with_private_fields_has_a_sealed_sample() -> None:
    assert {path.stem for path in SEALED} >= {kind.TOPIC for kind in EVENTS if kind.PRIVATE}


@pytest.mark.parametrize("path", SEALED, ids=lambda path: path.stem)
def test_what_was_sealed_once_still_opens_and_without_its_key_is_redacted(path: Path) -> None:
    sample = json.loads(path.read_text())
    key, state = UserCipher(base64.b64decode(sample["key"])), sample["state"].encode()
    place = associated(UUID(sample["owner_id"]), UUID(sample["stream_id"]), sample["version"])
    event = MAPPER.open(path.stem, state, key, place)
    clear = MAPPER.decode(path.stem, (samples.FOLDER / "events" / path.name).read_bytes())
    assert event == clear
    redacted = MAPPER.open(path.stem, state, None, place)
    for field in msgspec.structs.fields(type(event)):
        value = getattr(redacted, field.name)
        if field.name in event.PRIVATE:
            assert value == field.default or value == field.default_factory  # noqa: PLR1714 - a factory is no value
        else:
            assert value == getattr(event, field.name)


def test_private_values_are_nowhere_in_the_stored_bytes() -> None:
    for kind in EVENTS:
        if kind.PRIVATE:
            clear = (samples.FOLDER / "events" / f"{kind.TOPIC}.json").read_bytes()
            event = MAPPER.decode(kind.TOPIC, clear)
            _, state = MAPPER.encode(event, UserCipher(samples.KEY), b"place")
            fields = json.loads(state)
            assert not kind.PRIVATE & fields.keys()
            assert list(fields)[-1] == "sealed"


@pytest.mark.parametrize("changed", ["owner", "stream", "version", "key", "bytes", "cut", "base64"])
def test_sealed_bytes_open_only_where_they_were_sealed(changed: str) -> None:
    owner, stream, cipher = uuid4(), uuid4(), UserCipher(samples.KEY)
    event = UserRegistered(display_name="Anna", at=MAY_1)
    topic, state = MAPPER.encode(event, cipher, associated(owner, stream, 3))
    row = Row(9, stream, 3, topic, state, owner)
    assert MAPPER.event(row, cipher) == event
    damaged = {
        "owner": replace(row, owner_id=uuid4()),
        "stream": replace(row, stream_id=uuid4()),
        "version": replace(row, version=4),
        "key": row,
        "bytes": replace(row, state=state[:-6] + (b"A" if state[-6:-5] != b"A" else b"B") + state[-5:]),
        "cut": replace(row, state=state[:-60] + b'"}'),
        "base64": replace(row, state=state[:-3] + b'?"}'),
    }[changed]
    key = UserCipher(b"another key, 32 bytes as it must") if changed == "key" else cipher
    with pytest.raises(UndecodableEvent, match=f"stream {damaged.stream_id} version {damaged.version}.*does not open"):
        MAPPER.event(damaged, key)


class Timed(Event, frozen=True, kw_only=True):
    """What `run.timed@1` (minutes, no runner) and `run.timed@2` (seconds) have become."""

    TOPIC: ClassVar[str] = "run.timed@3"
    PRIVATE: ClassVar[frozenset[str]] = frozenset({"note"})
    seconds: float
    runner: str = "unknown"
    note: str = ""


def in_seconds(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "seconds": fields.pop("minutes") * 60.0}


def with_note(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "note": fields.pop("remark", "")}


OLD = Mapper([Timed], {"run.timed@1": ("run.timed@2", in_seconds), "run.timed@2": ("run.timed@3", with_note)})


def test_old_versions_are_brought_to_todays_shape_when_they_are_read() -> None:
    at = '"at":"2026-05-01T08:00:00Z"'
    assert OLD.decode("run.timed@1", f'{{{at},"minutes":2}}'.encode()) == Timed(seconds=120.0, at=MAY_1)
    second = f'{{{at},"seconds":90,"remark":"windy"}}'.encode()
    assert OLD.decode("run.timed@2", second) == Timed(seconds=90.0, note="windy", at=MAY_1)


def test_old_versions_with_sealed_fields_are_opened_and_then_brought_to_todays_shape() -> None:
    cipher = UserCipher(samples.KEY)
    box = base64.b64encode(cipher.seal(b'{"remark":"windy"}', b"place")).decode()
    state = f'{{"at":"2026-05-01T08:00:00Z","seconds":90,"sealed":"{box}"}}'.encode()
    assert OLD.open("run.timed@2", state, cipher, b"place") == Timed(seconds=90.0, note="windy", at=MAY_1)
    assert OLD.open("run.timed@2", state, None, b"place") == Timed(seconds=90.0, at=MAY_1)


def test_an_old_version_that_does_not_fit_names_its_own_topic() -> None:
    with pytest.raises(UndecodableEvent, match=r"run\.timed@1"):
        OLD.decode("run.timed@1", b'{"at":"2026-05-01T08:00:00Z"}')


def test_a_text_that_looks_like_a_sealed_part_is_a_text() -> None:
    event = UserRegistered(display_name='x","sealed":"AAAA', at=MAY_1)
    topic, state = MAPPER.encode(event)
    assert not is_sealed(state)
    assert MAPPER.open(topic, state, UserCipher(samples.KEY), b"") == event


def test_private_fields_have_defaults_to_be_redacted_to() -> None:
    for kind in EVENTS:
        required = {field.name for field in msgspec.structs.fields(kind) if field.required}
        assert set(kind.__struct_fields__) >= kind.PRIVATE
        assert not kind.PRIVATE & required
