"""An account: who it is for, and how that runner wants to be shown."""

from datetime import datetime
from typing import ClassVar, Final, Self
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from domain.errors import DomainError, UnknownEvent
from domain.events.event import Event
from domain.events.user import ProfileChanged, UserErased, UserRegistered
from domain.measures import UserId, Visibility, derived_id

_REMEMBERED: Final = 20  # profiles before the current one: so many changes while an upload waits are nobody's


def user_stream_id(user_id: UserId) -> UUID:
    """The stream of an account; its owner is the user."""
    return derived_id("user", user_id)


class Profile(Struct, frozen=True, kw_only=True):
    """What a runner may set about themself."""

    display_name: str = ""
    time_zone: str | None = None
    units: str = "metric"
    default_visibility: Visibility = Visibility.PUBLIC


class Replaced(Struct, frozen=True):
    """A profile that was set once, and when another took its place."""

    profile: Profile
    until: datetime


class User(Struct, frozen=True):
    """A registered runner, or nobody yet."""

    STATE: ClassVar[str] = "user@2"

    registered: bool = False
    profile: Profile = Profile()
    replaced: tuple[Replaced, ...] = ()  # the last ones, the newest last: what was handed in under one may still wait

    def register(self, display_name: str, at: datetime) -> list[Event]:
        """Open the account. A repeat changes nothing, so that a lost answer can be asked for again."""
        return [] if self.registered else [UserRegistered(display_name=display_name, at=at)]

    def change_profile(self, profile: Profile, at: datetime) -> list[Event]:
        """Set the whole profile. The same again changes nothing."""
        if not self.registered:
            raise UserMissing
        if profile == self.profile:
            return []
        return [
            ProfileChanged(
                display_name=profile.display_name,
                time_zone=profile.time_zone,
                units=profile.units,
                default_visibility=profile.default_visibility,
                at=at,
            )
        ]

    def profile_at(self, at: datetime) -> Profile:
        """The profile that was set then; the earliest that is known, when that came later."""
        profile = self.profile
        for earlier in reversed(self.replaced):
            if earlier.until <= at:
                break
            profile = earlier.profile
        return profile

    def evolve(self, event: Event) -> Self:
        """The account after `event`."""
        match event:
            case UserRegistered(display_name=display_name):
                return replace(self, registered=True, profile=Profile(display_name=display_name))
            case ProfileChanged():
                profile = Profile(
                    display_name=event.display_name,
                    time_zone=event.time_zone,
                    units=event.units,
                    default_visibility=event.default_visibility,
                )
                replaced = (*self.replaced, Replaced(self.profile, until=event.at))[-_REMEMBERED:]
                return replace(self, profile=profile, replaced=replaced)
            case UserErased():
                return replace(self, registered=False, profile=Profile(), replaced=())
            case _:
                raise UnknownEvent(self, event)


class UserMissing(DomainError):
    """There is no such user."""

    code = "not-found"
