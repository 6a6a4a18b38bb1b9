"""Answers to reads, as they are kept in this process: each once, packed and tagged once for each way it is wanted."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct

from api.admission.kinds import Kind
from api.encodings import MIN_BYTES, Coding, coding_for, packed
from api.front.meter import Meter

NOWHERE: Final = Meter("", "")
KEPT: Final = "cairn.kept"  # where a request's scope has the answer that may be kept
_MAX_ACCEPTED: Final = 256  # bytes of a header that is remembered; browsers send 30
_MORE: Final[Mapping[str, str]] = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Accept-Encoding"}


class Seen(Struct, frozen=True):
    """What a read saw of the read models: a position that it had passed at least, and which builds there were."""

    position: int
    builds: str


class Keep(NamedTuple):
    """That an answer may be kept. `about`: the users whose changes may change it; `until`: when the clock does, or it
    was kept for long enough.
    """

    about: frozenset[UUID]
    seen: Seen
    until: datetime | None


class Variant(NamedTuple):
    """An answer in one packing: the tag, and what is sent with 200 and with 304, also as lines."""

    etag: bytes
    ok: list[tuple[bytes, bytes]]
    body: bytes
    not_modified: list[tuple[bytes, bytes]]
    ok_lines: bytes
    not_modified_lines: bytes

    def known_by(self, if_none_match: bytes | None) -> bool:
        """Whether a client has it, by its header."""
        if if_none_match is None:
            return False
        return if_none_match == self.etag or knows(if_none_match.decode("latin-1"), self.etag.decode())


class Repeated:
    """An answer of 200 that is given again and again, packed once for each way it is wanted."""

    __slots__ = ("_headers", "_media_type", "_variants", "body")

    def __init__(self, body: bytes, media_type: str, headers: Mapping[str, str]) -> None:
        self.body = body
        self._media_type = media_type
        self._headers = headers
        self._variants: dict[Coding | None, Variant] = {}

    def ready(self, accept_encoding: bytes) -> Variant | None:
        """As a client takes it, if it was packed so before."""
        return self._variants.get(coding_chosen(accept_encoding, len(self.body) >= MIN_BYTES))

    async def variant(self, accept_encoding: bytes) -> Variant:
        """As a client takes it."""
        found = self.ready(accept_encoding)
        if found is None:
            coding = coding_chosen(accept_encoding, len(self.body) >= MIN_BYTES)
            found = self._variants[coding] = self._made(coding, await packed(self.body, coding))
        return found

    def _made(self, coding: Coding | None, body: bytes) -> Variant:
        headers = read_headers(self.body, coding, self._headers)
        content = {"Content-Type": self._media_type, "Content-Length": str(len(body))}
        if coding is not None:
            content["Content-Encoding"] = coding
        ok, not_modified = _raw({**headers, **content}), _raw(headers)
        return Variant(headers["ETag"].encode(), ok, body, not_modified, _lines(ok), _lines(not_modified))


class Kept(Repeated):
    """One that is kept."""

    __slots__ = ("about", "expires_at", "kind", "meter", "seen", "until")

    def __init__(self, body: bytes, media_type: str, headers: Mapping[str, str], keep: Keep) -> None:
        super().__init__(body, media_type, headers)
        self.about, self.seen, self.until = keep
        self.expires_at = 0.0  # on the cache's clock
        self.meter, self.kind = NOWHERE, Kind.READ  # of the route that it answers

    def tell(self, headers: Mapping[str, str]) -> None:
        """Say this too in every answer; before the first one."""
        self._headers = {**self._headers, **headers}

    def stored(self, until: datetime) -> "Stored":
        """As other processes may have it, until then at the longest."""
        about = b"".join(user_id.bytes for user_id in self.about)
        return Stored(
            self.seen.position,
            self.seen.builds,
            about,
            until.timestamp(),
            self._media_type,
            dict(self._headers),
            self.body,
        )


class Stored(Struct, array_like=True):
    """A kept answer outside of this process."""

    position: int
    builds: str
    about: bytes  # ids, one after the other
    until: float  # seconds since 1970
    media_type: str
    headers: dict[str, str]
    body: bytes

    def kept(self) -> Kept:
        """As this process keeps it."""
        about = frozenset(UUID(bytes=self.about[at : at + 16]) for at in range(0, len(self.about), 16))
        keep = Keep(about, Seen(self.position, self.builds), datetime.fromtimestamp(self.until, UTC))
        return Kept(self.body, self.media_type, self.headers, keep)


def coding_chosen(accept_encoding: bytes, large: bool) -> Coding | None:  # noqa: FBT001 - a size class
    """The packing that a client takes, for bodies that are worth it and for others. None for a header beyond reason."""
    return None if len(accept_encoding) > _MAX_ACCEPTED else _coding_chosen(accept_encoding, large)


@lru_cache(maxsize=1_024)
def _coding_chosen(accept_encoding: bytes, large: bool) -> Coding | None:  # noqa: FBT001 - a size class
    return coding_for(accept_encoding.decode("latin-1"), MIN_BYTES if large else 0)


def read_headers(body: bytes, coding: Coding | None, headers: Mapping[str, str]) -> dict[str, str]:
    """What is told with a read, whether it is 200 or 304: a strong ETag (RFC 9110, 8.8.3) for each packing."""
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}{f"-{coding}" if coding else ""}"'
    return {"ETag": etag, **_MORE, **headers}


def knows(if_none_match: str, etag: str) -> bool:
    """Whether a client has this very answer already (RFC 9110, 13.1.2)."""
    if if_none_match in (etag, "*"):
        return True
    return etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(",", 50))


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """As they are on the wire, with the empty line behind them. `ValueError` for what would be two."""
    lines = [b"%s: %s" % header for header in headers]
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise ValueError("a header of more than one line")
    return b"\r\n".join([*lines, b"", b""])
