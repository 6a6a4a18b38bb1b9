"""A stored sample of every event ever written is decoded here for ever: samples are added, never changed."""

import base64
import json
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec.structs import replace

from domain.events import EVENTS, UPCASTS
from domain.events.activity import ActivityEdited, ActivityRecorded, Tally
from domain.events.event import Event
from domain.events.packing import unpack_json
from domain.events.user import UserRegistered
from domain.measures import ActivityId, Sport, UserId, Visibility
from domain.streams import Aggregate
from infra.event_store.mapper import MAPPER, Mapper, UndecodableEvent, associated, is_sealed
from infra.event_store.rows import Row
from infra.keys import UserCipher
from tests.infra.event_store import samples
from tests.scenarios import MAY_1

JSON = sorted((samples.FOLDER / "events").glob("*.json"))  # as events were stored before; examples of later ones
JSON_SEALED = sorted((samples.FOLDER / "sealed").glob("*.json"))
STATES = sorted((samples.FOLDER / "states").glob("*.json"))
TOPICS = {kind.TOPIC for kind in EVENTS}


def test_every_event_has_a_topic_of_its_own_and_a_stored_sample() -> None:
    written = {kind for module in samples.MODULES for kind in vars(module).values() if _is_event(kind)}
    assert written == set(EVENTS), "list it in domain/events/__init__.py"
    assert len(TOPICS) == len(EVENTS)
    assert {path.stem for path in STATES} >= TOPICS


def _is_event(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Event) and kind is not Event


def test_every_aggregate_is_found() -> None:
    assert {kind.__name__ for kind in samples.AGGREGATES} >= {"Activity", "Follow", "Goal", "User"}


@pytest.mark.parametrize("path", JSON, ids=lambda path: path.stem)
def test_what_was_stored_as_json_still_decodes(path: Path) -> None:
    """What an older topic was brought to is stored under today's."""
    event = MAPPER.decode(path.stem, path.read_bytes().strip())
    topic, stored = MAPPER.encode(event)
    assert topic == type(event).TOPIC
    assert MAPPER.decode(topic, stored) == event


@pytest.mark.parametrize("topic", UPCASTS)
def test_what_is_of_an_older_topic_becomes_what_it_was_meant_to(topic: str) -> None:
    """When the upcast is new: look whether what `samples` wrote there is what you mean."""
    event = MAPPER.decode(topic, (samples.FOLDER / "events" / f"{topic}.json").read_bytes())
    assert samples.told(event) == json.loads((samples.FOLDER / "upcast" / f"{topic}.json").read_text())


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_what_was_stored_once_still_decodes_and_encodes_the_same(path: Path) -> None:
    """In today's topic the same bytes."""
    state = bytes.fromhex(json.loads(path.read_text())["clear"])
    event = MAPPER.decode(path.stem, state)
    assert event == MAPPER.decode(path.stem, (samples.FOLDER / "events" / path.name).read_bytes())
    topic, stored = MAPPER.encode(event)
    if path.stem in TOPICS:
        assert (topic, stored) == (path.stem, state)


def test_what_is_at_its_default_is_not_stored() -> None:
    user_id, activity_id = UserId(UUID(int=1)), ActivityId(UUID(int=2))
    tally = Tally(sport=Sport.RUNNING, local_date=MAY_1.date(), distance_m=5.0, elapsed_s=4.0, moving_s=3.0)
    event = ActivityEdited(
        user_id=user_id,
        activity_id=activity_id,
        visibility=Visibility.PUBLIC,
        sport=Sport.HIKING,
        tally=tally,
        at=MAY_1,
    )
    assert MAPPER.encode(event)[1].hex() == (
        "86a26174d6ff69f45d80a7757365725f6964c41000000000000000000000000000000001ab61637469766974795f6964c4100000"
        "0000000000000000000000000002aa7669736962696c697479a67075626c6963a573706f7274a668696b696e67a574616c6c7985"
        "a573706f7274a772756e6e696e67aa6c6f63616c5f64617465aa323032362d30352d3031aa64697374616e63655f6dcb40140000"
        "00000000a9656c61707365645f73cb4010000000000000a86d6f76696e675f73cb4008000000000000"
    )


def test_an_event_that_is_not_listed_is_not_stored() -> None:
    class Unlisted(Event, frozen=True, kw_only=True):
        TOPIC: ClassVar[str] = "run.forgotten@1"

    class InAnothersPlace(Event, frozen=True, kw_only=True):
        TOPIC: ClassVar[str] = UserRegistered.TOPIC

    for kind in (Unlisted, InAnothersPlace):
        with pytest.raises(TypeError, match=f"{kind.__name__} is not listed in EVENTS"):
            MAPPER.encode(kind(at=MAY_1))


def test_what_a_recording_of_before_measured_is_packed_now() -> None:
    was = json.loads((samples.FOLDER / "events" / "activity.recorded@1.json").read_text())
    event = MAPPER.decode("activity.recorded@1", json.dumps(was).encode())
    assert isinstance(event, ActivityRecorded)
    assert json.loads(unpack_json(event.measured)) == was["measured"]


def test_an_edit_from_before_there_were_notes_has_none() -> None:
    event = MAPPER.decode("activity.edited@1", (samples.FOLDER / "events" / "activity.edited@1.json").read_bytes())
    assert isinstance(event, ActivityEdited)
    assert (event.title, event.notes) == ("Race", "")


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_fields_of_later_versions_of_the_code_do_no_harm(path: Path) -> None:
    state = bytes.fromhex(json.loads(path.read_text())["clear"])
    later = msgspec.msgpack.encode({**msgspec.msgpack.decode(state), "of_tomorrow": 1})
    assert MAPPER.decode(path.stem, later) == MAPPER.decode(path.stem, state)


@pytest.mark.parametrize("path", JSON, ids=lambda path: path.stem)
def test_neither_do_they_in_json(path: Path) -> None:
    state = path.read_bytes()
    later = msgspec.json.encode({**msgspec.json.decode(state), "of_tomorrow": 1})
    assert MAPPER.decode(path.stem, later) == MAPPER.decode(path.stem, state)


def test_an_unknown_topic_says_what_to_do() -> None:
    for state in (b"{}", b"\x80"):
        with pytest.raises(UndecodableEvent, match=r"unknown topic 'activity\.teleported@9'.*deploy"):
            MAPPER.decode("activity.teleported@9", state)


@pytest.mark.parametrize(
    "state", [b"", b'{"at": 5}', b"\x80", b"\x02", b"\x02\0\0\x09\x80", b"\x02\0\0\0", b"\xff", b"[]", b"\x81"]
)
def test_a_state_that_does_not_fit_names_its_topic(state: bytes) -> None:
    with pytest.raises(UndecodableEvent, match=r"activity\.deleted@1"):
        MAPPER.decode("activity.deleted@1", state)
    with pytest.raises(UndecodableEvent, match=r"activity\.deleted@1"):
        MAPPER.open("activity.deleted@1", state, UserCipher(samples.KEY), b"place")


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


@pytest.mark.parametrize("path", [*JSON_SEALED, *STATES], ids=lambda path: f"{path.parent.name} {path.stem}")
def test_what_was_sealed_once_still_opens_and_without_its_key_is_redacted(path: Path) -> None:
    sample = json.loads(path.read_text())
    state = sample["state"].encode() if "state" in sample else bytes.fromhex(sample["sealed"])
    key = UserCipher(base64.b64decode(sample["key"]))
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
            assert is_sealed(state)
            for name in kind.PRIVATE:
                assert msgspec.msgpack.encode(name) not in state
                assert msgspec.msgpack.encode(getattr(event, name)) not in state


@pytest.mark.parametrize("changed", ["owner", "stream", "version", "key", "bytes", "cut", "length"])
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
        "cut": replace(row, state=state[:-20]),
        "length": replace(row, state=state[:3] + bytes((state[3] - 1,)) + state[4:]),
    }[changed]
    key = UserCipher(b"another key, 32 bytes as it must") if changed == "key" else cipher
    with pytest.raises(UndecodableEvent, match=f"stream {damaged.stream_id} version {damaged.version}.*does not open"):
        MAPPER.event(damaged, key)


@pytest.mark.parametrize("changed", ["place", "key", "bytes", "cut", "base64"])
def test_neither_do_those_in_json(changed: str) -> None:
    sample = json.loads((samples.FOLDER / "sealed" / "user.registered@1.json").read_text())
    state, cipher = sample["state"].encode(), UserCipher(base64.b64decode(sample["key"]))
    place = associated(UUID(sample["owner_id"]), UUID(sample["stream_id"]), sample["version"])
    assert MAPPER.open("user.registered@1", state, cipher, place) != MAPPER.decode("user.registered@1", state)
    damaged = {
        "place": state,
        "key": state,
        "bytes": state[:-6] + (b"A" if state[-6:-5] != b"A" else b"B") + state[-5:],
        "cut": state[:-60] + b'"}',
        "base64": state[:-3] + b'?"}',
    }[changed]
    key = UserCipher(b"another key, 32 bytes as it must") if changed == "key" else cipher
    with pytest.raises(UndecodableEvent, match="does not open"):
        MAPPER.open("user.registered@1", damaged, key, b"elsewhere" if changed == "place" else place)


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
    first, second = {"at": MAY_1, "minutes": 2}, {"at": MAY_1, "seconds": 90, "remark": "windy"}
    for encode in (msgspec.json.encode, msgspec.msgpack.encode):
        assert OLD.decode("run.timed@1", encode(first)) == Timed(seconds=120.0, at=MAY_1)
        assert OLD.decode("run.timed@2", encode(second)) == Timed(seconds=90.0, note="windy", at=MAY_1)


def test_old_versions_with_sealed_fields_are_opened_and_then_brought_to_todays_shape() -> None:
    cipher = UserCipher(samples.KEY)
    box = base64.b64encode(cipher.seal(b'{"remark":"windy"}', b"place")).decode()
    public = msgspec.msgpack.encode({"at": MAY_1, "seconds": 90})
    for state in (
        f'{{"at":"2026-05-01T08:00:00Z","seconds":90,"sealed":"{box}"}}'.encode(),
        bytes((2, 0, 0, len(public))) + public + cipher.seal(msgspec.msgpack.encode({"remark": "windy"}), b"place"),
    ):
        assert OLD.open("run.timed@2", state, cipher, b"place") == Timed(seconds=90.0, note="windy", at=MAY_1)
        assert OLD.open("run.timed@2", state, None, b"place") == Timed(seconds=90.0, at=MAY_1)


def test_an_old_version_that_does_not_fit_names_its_own_topic() -> None:
    with pytest.raises(UndecodableEvent, match=r"run\.timed@1"):
        OLD.decode("run.timed@1", b'{"at":"2026-05-01T08:00:00Z"}')


def test_a_text_that_looks_like_a_sealed_part_is_a_text() -> None:
    event = UserRegistered(display_name='x","sealed":"AAAA', at=MAY_1)
    for state in (msgspec.json.encode(event), MAPPER.encode(event)[1]):
        assert not is_sealed(state)
        assert MAPPER.open(UserRegistered.TOPIC, state, UserCipher(samples.KEY), b"") == event


def test_private_fields_have_defaults_to_be_redacted_to() -> None:
    for kind in EVENTS:
        required = {field.name for field in msgspec.structs.fields(kind) if field.required}
        assert set(kind.__struct_fields__) >= kind.PRIVATE
        assert not kind.PRIVATE & required
