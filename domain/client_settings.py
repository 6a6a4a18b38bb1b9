"""What operators tell apps: how often to ask, which features are on, what is off, which versions are too old."""

import hashlib
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal
from uuid import UUID

from msgspec import Meta, Struct, field

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BUCKETS: Final = 10_000  # of a feature: hundredths of a per cent

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
App = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")]  # as `Cairn-Client` names it, in lower case
Version = Annotated[str, Meta(pattern=r"^\d{1,6}(\.\d{1,6}){0,3}$")]
Address = Annotated[str, Meta(pattern=r"^(https|itms-apps|market)://[!-~]+$", max_length=500)]


class Purpose(StrEnum):
    """What an app asks for again and again."""

    SYNC = "sync"  # /bootstrap or /changes
    FEED = "feed"  # while it is on the screen
    NOTIFICATIONS = "notifications"  # while they are on the screen
    CONFIG = "config"  # /client-config, by an app that is not started anew for days


INTERVALS_S: Final = {Purpose.SYNC: 900, Purpose.FEED: 300, Purpose.NOTIFICATIONS: 300, Purpose.CONFIG: 21_600}


class Feature(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A feature that is on for a share of the users or devices: always the same ones, and more of them as it grows."""

    percent: Annotated[float, Meta(ge=0, le=100)]
    by: Literal["user", "device"] = "user"

    def is_on(self, name: str, user_id: UUID, device: UUID | None) -> bool:
        """Whether it is on. An app that names no device counts by its user."""
        unit = device if self.by == "device" and device is not None else user_id
        return _hashed("feature", name, unit) % _BUCKETS < round(self.percent * _BUCKETS / 100)


class AppVersions(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """From which version on an app is answered, from which on it is up to date, and where there is a newer one."""

    required: Version | None = None
    recommended: Version | None = None
    url: Address | None = None


class Upgrade(Struct, frozen=True):
    """Where an app should be upgraded, and whether it is answered until then."""

    level: Literal["required", "recommended"]
    version: Version  # the least that will do
    url: str | None


class ClientSettings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of it, as it is stored. What is left out is as these defaults have it."""

    polls: dict[Purpose, Annotated[int, Meta(ge=5, le=604_800)]] = field(default_factory=dict)  # seconds
    features: Annotated[dict[Name, Feature], Meta(max_length=200)] = field(default_factory=dict)
    switched_off: Annotated[list[Name], Meta(max_length=200)] = field(default_factory=list)
    apps: Annotated[dict[App, AppVersions], Meta(max_length=50)] = field(default_factory=dict)

    def interval_s(self, purpose: Purpose) -> int:
        """Seconds between two requests of an app for this purpose."""
        return self.polls.get(purpose, INTERVALS_S[purpose])

    def phase_s(self, purpose: Purpose, device: UUID) -> float:
        """When in the interval a device asks, in seconds, to the millisecond: devices are spread evenly over it."""
        return _hashed("phase", purpose, device) % (self.interval_s(purpose) * 1_000) / 1_000

    def next_at(self, purpose: Purpose, device: UUID, now: datetime) -> datetime:
        """The next time of this device: the same, however often it is asked for in between."""
        interval = timedelta(seconds=self.interval_s(purpose))
        first = _EPOCH + timedelta(seconds=self.phase_s(purpose, device))
        return first + ((now - first) // interval + 1) * interval

    def upgrade(self, app: str, version: tuple[int, ...]) -> Upgrade | None:
        """What an app of this version should become; None: nothing, or nobody knows its version."""
        found = self.apps.get(app)
        if found is None or not version:
            return None
        if found.required is not None and _older(version, found.required):
            return Upgrade("required", found.required, found.url)
        if found.recommended is not None and _older(version, found.recommended):
            return Upgrade("recommended", found.recommended, found.url)
        return None


class Told(Struct, frozen=True):
    """Settings, and which version of them these are; 0: nothing was set yet, or nobody could look."""

    version: int = 0
    settings: ClientSettings = ClientSettings()


def _older(version: tuple[int, ...], than: Version) -> bool:
    """9.4 is not older than 9.4.0."""
    least = tuple(map(int, than.split(".")))
    length = max(len(version), len(least))
    return _padded(version, length) < _padded(least, length)


def _padded(version: tuple[int, ...], length: int) -> tuple[int, ...]:
    return version + (0,) * (length - len(version))


def _hashed(*parts: object) -> int:
    """The same number for ever, for the same parts."""
    return int.from_bytes(hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest())
