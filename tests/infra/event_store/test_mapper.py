"""A stored sample of every event ever written is decoded here for ever: samples are added, never changed."""

from pathlib import Path

import msgspec
import pytest

from domain.events import EVENTS
from infra.event_store.mapper import MAPPER, UndecodableEvent

SAMPLES = sorted((Path(__file__).parents[2] / "samples" / "events").glob("*.json"))


def test_every_event_has_a_topic_of_its_own_and_a_stored_sample() -> None:
    topics = [kind.TOPIC for kind in EVENTS]
    assert len(set(topics)) == len(topics)
    assert {sample.stem for sample in SAMPLES} >= set(topics)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_what_was_stored_once_still_decodes_and_encodes_the_same(sample: Path) -> None:
    state = sample.read_bytes().strip()
    event = MAPPER.decode(sample.stem, state)
    assert MAPPER.encode(event) == (sample.stem, state)


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
