from datetime import timedelta

import pytest

from domain.errors import UnknownEvent
from domain.events.user import ProfileChanged, UserErased, UserRegistered
from domain.measures import Visibility
from domain.user import Profile, User, UserMissing
from tests.scenarios import ANNA, MAY_1, MAY_2, given, run

REGISTERED = UserRegistered(display_name="Anna", at=MAY_1)


def test_registering_happens_once() -> None:
    assert User().register("Anna", MAY_1) == [REGISTERED]
    assert given(User, REGISTERED).register("Another name", MAY_2) == []


def test_a_profile_changes_as_a_whole() -> None:
    wish = Profile(display_name="Anna B.", time_zone="Europe/Berlin", default_visibility=Visibility.FOLLOWERS)
    [changed] = given(User, REGISTERED).change_profile(wish, MAY_2)
    assert isinstance(changed, ProfileChanged)
    assert given(User, REGISTERED, changed).profile == wish


def test_the_same_profile_again_changes_nothing() -> None:
    assert given(User, REGISTERED).change_profile(Profile(display_name="Anna"), MAY_2) == []


def test_a_profile_counts_from_its_change_until_the_next() -> None:
    berlin = ProfileChanged(display_name="Anna", time_zone="Europe/Berlin", at=MAY_2)
    tokyo = ProfileChanged(display_name="Anna", time_zone="Asia/Tokyo", at=MAY_2 + timedelta(hours=2))
    anna = given(User, REGISTERED, berlin, tokyo)
    moments = [MAY_1, MAY_2, MAY_2 + timedelta(hours=1), tokyo.at, tokyo.at + timedelta(days=1)]
    assert [anna.profile_at(at).time_zone for at in moments] == [
        None,
        "Europe/Berlin",
        "Europe/Berlin",
        "Asia/Tokyo",
        "Asia/Tokyo",
    ]


def test_before_all_that_is_known_the_earliest_profile_counts() -> None:
    assert given(User, REGISTERED).profile_at(MAY_1 - timedelta(days=1)) == Profile(display_name="Anna")


def test_by_clocks_that_disagree_the_later_change_wins() -> None:
    first = ProfileChanged(default_visibility=Visibility.FOLLOWERS, at=MAY_2)
    second = ProfileChanged(default_visibility=Visibility.PRIVATE, at=MAY_2 - timedelta(seconds=2))
    anna = given(User, REGISTERED, first, second)
    assert anna.profile_at(MAY_2 - timedelta(seconds=1)).default_visibility is Visibility.PRIVATE


def test_however_often_a_profile_changes_few_are_remembered() -> None:
    changes = [ProfileChanged(display_name=f"{day}", at=MAY_1 + timedelta(days=day)) for day in range(1, 100)]
    anna = given(User, REGISTERED, *changes)
    assert len(anna.replaced) == 20
    assert anna.profile_at(MAY_1 + timedelta(days=90, hours=1)).display_name == "90"
    assert anna.profile_at(MAY_1).display_name == "79"


def test_nobody_has_no_profile_to_change() -> None:
    with pytest.raises(UserMissing):
        User().change_profile(Profile(display_name="Ghost"), MAY_1)


def test_nothing_is_left_of_one_who_is_erased() -> None:
    assert given(User, REGISTERED, ProfileChanged(display_name="A.", at=MAY_2), UserErased(at=MAY_2)) == User()


def test_an_event_of_another_kind_is_told_not_swallowed() -> None:
    with pytest.raises(UnknownEvent):
        User().evolve(run(ANNA))
