import pytest

from domain.events.follow import FollowEnded, FollowStarted
from domain.follow import CannotFollowYourself, Follow, follow_id
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2, given

STARTED = FollowStarted(follower_id=ANNA, followee_id=BEN, at=MAY_1)
ENDED = FollowEnded(follower_id=ANNA, followee_id=BEN, at=MAY_2)


def test_a_follow_starts_ends_and_starts_again() -> None:
    assert Follow().start(ANNA, BEN, MAY_1) == [STARTED]
    assert given(Follow, STARTED).end(ANNA, BEN, MAY_2) == [ENDED]
    assert given(Follow, STARTED, ENDED).start(ANNA, BEN, MAY_1) == [STARTED]


def test_following_twice_changes_nothing() -> None:
    assert given(Follow, STARTED).start(ANNA, BEN, MAY_2) == []


def test_ending_what_never_began_changes_nothing() -> None:
    assert Follow().end(ANNA, BEN, MAY_2) == []


def test_nobody_follows_themself() -> None:
    with pytest.raises(CannotFollowYourself):
        Follow().start(ANNA, ANNA, MAY_1)


def test_the_pair_is_the_stream_and_its_direction_counts() -> None:
    assert follow_id(ANNA, BEN) == follow_id(ANNA, BEN) != follow_id(BEN, ANNA)


def test_no_client_can_choose_the_id_of_a_derived_stream() -> None:
    assert follow_id(ANNA, BEN).version == 8
