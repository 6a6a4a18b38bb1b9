"""Seconds to wait, spread over those who wait: told the same, they would all come back in the same second."""

import math
import zlib
from typing import Final

from starlette.types import Scope

LONGEST: Final = 300  # seconds that anybody is sent away for


def spread(seconds: float, window: float, who: str) -> int:
    """Whole seconds from `seconds` on, at a place in the window that is this client's own, the same each time."""
    place = zlib.crc32(who.encode()) / 0x1_0000_0000
    return max(1, min(LONGEST, math.ceil(seconds) + math.floor(place * (window + 1))))


def who_asks(scope: Scope) -> str:
    """What sets this client apart from others: its device, else its token, else its address."""
    client = token = b""
    for name, value in scope["headers"]:
        if name == b"cairn-client" and b"device=" in value:
            client = value
        elif name == b"authorization":
            token = value
    return (client or token).decode("latin-1") or str((scope.get("client") or ("",))[0])
