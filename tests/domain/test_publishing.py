import pytest

from domain.events.activity import ActivityDeleted, ActivityEdited
from domain.events.event import Event
from domain.events.follow import FollowStarted
from domain.events.user import ProfileChanged, UserErased, UserRegistered
from domain.measures import Sport, Visibility
from domain.publishing import activity_key, changed_by, list_key, user_key
from tests.scenarios import ANNA, BEN, MAY_1, recorded, run

RUN = run(ANNA)
PAGES = {activity_key(RUN.activity_id), list_key(ANNA)}
EDITED = ActivityEdited(
    user_id=ANNA,
    activity_id=RUN.activity_id,
    visibility=Visibility.PRIVATE,
    sport=Sport.RUNNING,
    tally=RUN.tally,
    at=MAY_1,
)


@pytest.mark.parametrize(
    ("event", "keys"),
    [
        (RUN, PAGES),
        (run(ANNA, visibility=Visibility.PRIVATE), set()),
        (run(ANNA, visibility=Visibility.FOLLOWERS), set()),
        (EDITED, PAGES),  # it may have been public before
        (ActivityDeleted(user_id=ANNA, activity_id=RUN.activity_id, tally=RUN.tally, at=MAY_1), PAGES),
        (ProfileChanged(display_name="Anne", at=MAY_1), {user_key(ANNA)}),
        (UserErased(at=MAY_1), {user_key(ANNA)}),
        (UserRegistered(display_name="Anna", at=MAY_1), set()),
        (FollowStarted(follower_id=BEN, followee_id=ANNA, at=MAY_1), set()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
)
def test_an_event_changes_the_pages_that_show_it(event: Event, keys: set[str]) -> None:
    assert set(changed_by(recorded(event, 1, ANNA))) == keys
