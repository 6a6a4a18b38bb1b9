"""Where events belong by what they say."""

from uuid import UUID

import pytest

from domain.events import EVENTS
from domain.events.event import Event
from domain.user import user_stream_id
from infra.event_store.belonging import strayed
from infra.event_store.mapper import MAPPER
from infra.event_store.rows import Row
from tests.infra.event_store import samples
from tests.scenarios import ANNA, BEN, CARA


def row(owner_id: UUID, stream_id: UUID) -> Row:
    return Row(1, stream_id, 1, "", b"", owner_id)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.TOPIC)
def test_of_every_event_it_is_known_and_another_stream_is_not_its_own(kind: type[Event]) -> None:
    event = MAPPER.decode(kind.TOPIC, (samples.FOLDER / "events" / f"{kind.TOPIC}.json").read_bytes())
    assert any("it belongs to stream" in problem for problem in strayed(event, row(ANNA, CARA)))


def test_an_account_has_the_stream_of_its_owner() -> None:
    erased = MAPPER.decode("user.erased@1", (samples.FOLDER / "events" / "user.erased@1.json").read_bytes())
    assert list(strayed(erased, row(ANNA, user_stream_id(ANNA)))) == []
    assert len(list(strayed(erased, row(BEN, user_stream_id(ANNA))))) == 1
