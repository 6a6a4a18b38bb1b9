"""Cursors of pages: a place in an ordered list, bound to who asked and for what, so that none can be made up."""

import base64
import binascii
import hashlib
import hmac
import struct
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from domain.errors import DomainError

_MAC_BYTES: Final = 16
_PLACE: Final = ">q16s"  # microseconds since 1970, and an id
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Place = tuple[datetime, UUID]


class MalformedCursor(DomainError):
    """The cursor is not one that this list gave to this user: leave it out to start from the first page."""

    code = "malformed-cursor"


class Cursors:
    """Writes and reads cursors under a key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def write(self, place: Place, *scope: object) -> str:
        """The cursor of a place, for the same scope only (user, route, filters)."""
        started_at, item_id = place
        micros = (started_at - _EPOCH) // timedelta(microseconds=1)
        return self.sign(struct.pack(_PLACE, micros, item_id.bytes), *scope)

    def read(self, cursor: str, *scope: object) -> Place:
        """The place behind a cursor; `MalformedCursor` for anything that `write` did not make for this scope."""
        micros, item_id = struct.unpack(_PLACE, self.verified(cursor, struct.calcsize(_PLACE), *scope))
        return _EPOCH + timedelta(microseconds=micros), UUID(bytes=item_id)

    def sign(self, packed: bytes, *scope: object) -> str:
        """Bytes as a cursor, for the same scope only."""
        return base64.urlsafe_b64encode(packed + self._mac(packed, scope)).rstrip(b"=").decode()

    def verified(self, cursor: str, length: int, *scope: object) -> bytes:
        """So many bytes that `sign` was given for this scope; `MalformedCursor` for anything else."""
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise MalformedCursor from None
        packed, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if len(packed) != length or not hmac.compare_digest(mac, self._mac(packed, scope)):
            raise MalformedCursor
        return packed

    def _mac(self, packed: bytes, scope: tuple[object, ...]) -> bytes:
        named = "\x1f".join(map(str, scope)).encode()
        return hmac.digest(self._key, named + b"\x1f" + packed, hashlib.sha256)[:_MAC_BYTES]
