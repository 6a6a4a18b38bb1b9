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
_HEADER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,31})/(\d[A-Za-z0-9._-]{0,31})((?:\s*;[^;]{0,80}){0,8})")
_DEVICE: Final = re.compile(r";\s*device=\"?([0-9A-Fa-f-]{32,36})\"?\s*(?:;|$)")


class Client(Struct, frozen=True):
    """An app of a version on a device, as far as it says so. Nothing here is proven: no right hangs on it."""

    app: str  # `ios`; "" when it does not say
    version: tuple[int, ...]  # (9, 4, 1); what is not a number ends it
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
    found = _HEADER.fullmatch(header.decode("latin-1").strip())
    if found is None:
        return NOBODY
    app, version, rest = found.groups()
    device = _DEVICE.search(rest)
    return Client(app.lower(), version_of(version), f"{app.lower()}/{version}", _uuid(device[1]) if device else None)


def version_of(text: str) -> tuple[int, ...]:
    """`9.4.1` as numbers that compare: what follows a part that is none is left out."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
