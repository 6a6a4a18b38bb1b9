"""Which app asks: `Cairn-Client: ios/9.4.1; device=<uuid>`, told by apps with every request."""

import re
from functools import lru_cache
from typing import Final
from uuid import UUID

from msgspec import Struct

from domain.client_settings import Upgrade
from domain.errors import DomainError

UNNAMED: Final = "unnamed"
MAX_LENGTH: Final = 512  # bytes of a header; longer ones are not remembered either
_MAX_FACTS: Final = 8  # behind the name and version
_MAX_FACT: Final = 80  # characters
# Each matches in one way only: what anybody may send is never tried in another.
_NAME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,31})/([0-9][A-Za-z0-9._+-]{0,31})")
_DEVICE: Final = re.compile(r'device="?([0-9A-Fa-f-]{32,36})"?')
_NUMBER: Final = re.compile(r"[0-9]+")


class Client(Struct, frozen=True):
    """An app of a version on a device, as far as it says so. Nothing here is proven: no right hangs on it."""

    app: str  # `ios`; "" when it does not say
    version: tuple[int, ...]  # (9, 4, 1), also of 9.4.1-beta.2 and 9.4.1+7
    label: str  # `ios/9.4.1`, or `unnamed`
    device: UUID | None


NOBODY: Final = Client("", (), UNNAMED, None)


class ClientTooOld(DomainError):
    """This version of the app is not answered any more: upgrade it. What it recorded can still be handed in."""

    code = "client-too-old"

    def __init__(self, app: str, upgrade: Upgrade) -> None:
        super().__init__(
            f"Version {upgrade.version} of {app} or a newer one is needed. Recorded runs can still be handed in."
        )
        self.upgrade: Final = upgrade


def client_of(header: bytes) -> Client:
    """The client of a header's value. One that cannot be read is nobody's: no request fails for it."""
    return NOBODY if len(header) > MAX_LENGTH else _known(header)


@lru_cache(maxsize=65_536)
def _known(header: bytes) -> Client:
    name, *facts = header.decode("latin-1").split(";")
    found = _NAME.fullmatch(name.strip())
    if found is None or len(facts) > _MAX_FACTS or any(len(fact) > _MAX_FACT for fact in facts):
        return NOBODY
    app, version = found.groups()
    device = next(filter(None, (_DEVICE.fullmatch(fact.strip()) for fact in facts)), None)
    return Client(app.lower(), version_of(version), f"{app.lower()}/{version}", _uuid(device[1]) if device else None)


def version_of(text: str) -> tuple[int, ...]:
    """`9.4.1` as numbers that compare, up to the first part that is more than a number: of that, those it begins with.

    So a beta, a release candidate or a build of 9.4.1 is as good as 9.4.1.
    """
    numbers: list[int] = []
    for part in text.split("."):
        number = _NUMBER.match(part)
        if number is not None:
            numbers.append(int(number[0]))
        if number is None or number[0] != part:
            break
    return tuple(numbers)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
