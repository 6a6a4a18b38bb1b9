from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cursors import Cursors, MalformedCursor
from tests.scenarios import ANNA, BEN, MAY_1

CURSORS = Cursors(b"k" * 32)
PLACE = MAY_1, UUID(int=7)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)), st.uuids())  # noqa: DTZ001 - the strategy adds the zone
def test_a_cursor_leads_back_to_its_place(at: datetime, item: UUID) -> None:
    assert CURSORS.read(CURSORS.write((at, item), ANNA, "feed"), ANNA, "feed") == (at, item)


def test_a_cursor_is_for_one_user_and_one_list() -> None:
    cursor = CURSORS.write(PLACE, ANNA, "feed")
    for scope in [(BEN, "feed"), (ANNA, "followers"), (ANNA,)]:
        with pytest.raises(MalformedCursor):
            CURSORS.read(cursor, *scope)


def test_a_cursor_of_another_key_is_refused() -> None:
    with pytest.raises(MalformedCursor):
        CURSORS.read(Cursors(b"x" * 32).write(PLACE, ANNA), ANNA)


@given(st.text(max_size=80))
def test_made_up_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedCursor):
        CURSORS.read(text, ANNA, "feed")
