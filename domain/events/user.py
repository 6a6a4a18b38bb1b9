"""Facts about an account. The e-mail address and the password never enter the log: see `infra/accounts.py`."""

from typing import ClassVar

from domain.events.event import Event
from domain.measures import Visibility


class UserRegistered(Event, frozen=True, kw_only=True):
    """An account was opened. The stream's owner is the user."""

    TOPIC: ClassVar[str] = "user.registered@1"
    PRIVATE: ClassVar[frozenset[str]] = frozenset({"display_name"})
    display_name: str = ""


class ProfileChanged(Event, frozen=True, kw_only=True):
    """The whole profile as it is from now on."""

    TOPIC: ClassVar[str] = "user.profile_changed@1"
    PRIVATE: ClassVar[frozenset[str]] = frozenset({"display_name", "time_zone"})
    display_name: str = ""
    time_zone: str | None = None  # IANA name; None: each recording's own offset decides its date
    units: str = "metric"
    default_visibility: Visibility = Visibility.PUBLIC


class UserErased(Event, frozen=True, kw_only=True):
    """The account is gone, and the key that sealed what its events say about the person is destroyed after this.

    Every row that belongs to the user goes. Follows were ended before, so that the counts of others are right.
    """

    TOPIC: ClassVar[str] = "user.erased@1"
