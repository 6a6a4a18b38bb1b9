"""Ids that follow from something else, as all logs have them: were one made otherwise, what it is of would begin anew.

A repeat meets what is there only by these. Never change what is expected here.
"""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from api.entries import Entry, _id_by_figures, _id_by_key
from api.users import registered_id
from domain.activity import session_activity_id
from domain.events.event import Recorded
from domain.events.user import UserErased
from domain.follow import follow_id
from domain.goal import goal_stream_id
from domain.measures import ActivityId, GoalId, Sport, UserId
from domain.user import user_stream_id
from infra.outbox import notice_id_of
from workers.cli.importing.sending import imported_id

ANNA, BEN = UserId(UUID(int=1)), UserId(UUID(int=2))
MAY_1 = datetime(2026, 5, 1, 8, tzinfo=UTC)
ENTRY = Entry(sport=Sport.RUNNING, started_at=MAY_1, distance_m=5_000.0, elapsed_s=1_800.0)
FOLLOWED = Recorded(UserErased(at=MAY_1), UUID(int=5), 3, 99, ANNA)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(user_stream_id(ANNA), "e532db16-de66-8e07-b7f6-416818461857", id="account"),
        pytest.param(goal_stream_id(ANNA, GoalId(UUID(int=3))), "610a3181-966d-8a8e-99d7-738d611d33b9", id="goal"),
        pytest.param(follow_id(ANNA, BEN), "863d2650-26c0-8b4c-af70-02bf0d3fedcf", id="follow"),
        pytest.param(
            registered_id("ä@example.com", "k"), "570aea0d-be45-85e8-9d21-351ce5f04783", id="account by idempotency key"
        ),
        pytest.param(notice_id_of("new_follower", FOLLOWED, 0), "b31b88ec-51f3-8874-9f48-170814146a3e", id="notice"),
        pytest.param(
            session_activity_id(ActivityId(UUID(int=4)), 1),
            "fd4bc287-1e47-5dbb-8586-ff8ee2403c2f",
            id="one of several sessions",
        ),
        pytest.param(_id_by_key(ANNA, "k"), "13001ae6-5d66-5224-ac06-80ab0ac7cc31", id="entry by idempotency key"),
        pytest.param(_id_by_figures(ANNA, ENTRY, 0), "15a42ed4-f1ad-5e0e-97e5-42aaa2136f30", id="entry"),
        pytest.param(
            _id_by_figures(ANNA, ENTRY, 1), "6b7d1fa5-feef-508f-adc1-60f0fc61b6ac", id="entry after it was deleted"
        ),
        pytest.param(imported_id(ANNA, "a" * 64), "9f3bc6ea-dba9-57ca-b9e0-f548ed610ede", id="import"),
    ],
)
def test_derived_ids_never_change(found: UUID, expected: str) -> None:
    assert str(found) == expected
