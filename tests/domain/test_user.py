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


def test_nobody_has_no_profile_to_change() -> None:
    with pytest.raises(UserMissing):
        User().change_profile(Profile(display_name="Ghost"), MAY_1)


def test_nothing_is_left_of_one_who_is_erased() -> None:
    assert given(User, REGISTERED, UserErased(at=MAY_2)) == User()


def test_an_event_of_another_kind_is_told_not_swallowed() -> None:
    with pytest.raises(UnknownEvent):
        User().evolve(run(ANNA))
