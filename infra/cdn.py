"""Shared caches in front of the API: telling each what to drop, and how far it knows the log."""

from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from typing import Final, LiteralString

import httpx
from psycopg import Connection

from domain.publishing import CacheAway
from infra.away import or_unavailable
from infra.event_store.fence import Fence
from infra.settings import Cdn

_READ: Final = ["activities", "people"]  # what public pages are made of
_KEYS_AT_ONCE: Final = 100  # 4.6 kB: a header of Varnish may have 8 kB, and Fastly takes 256 keys
_TIMEOUT_SECONDS: Final = 2.0


class HttpCache:
    """Gets `POST` with the header `Surrogate-Key: KEY KEY …`, which Fastly and the VCL of ours know.

    Implements `workers.purger.Cache`.
    """

    def __init__(self, cdn: Cdn, url: str) -> None:
        self._url = url
        self._number = cdn.purge_urls.index(url) + 1
        self._http = httpx.Client(headers=[cdn.header] if cdn.header else None, timeout=_TIMEOUT_SECONDS)

    def __str__(self) -> str:
        """Without the address, which may hold a password."""
        return f"number {self._number} of CAIRN_CDN_PURGE_URL"

    def purge(self, keys: Collection[str]) -> None:
        """Drop what has any of these keys. `CacheAway`."""
        for some in _batches(sorted(keys)):
            try:
                status = self._http.post(self._url, headers={"Surrogate-Key": " ".join(some)}).status_code
            except httpx.HTTPError as error:
                raise CacheAway(type(error).__name__) from error
            if not httpx.codes.is_success(status):
                raise CacheAway(f"it answers {status}")

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()


def _batches(keys: Collection[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while some := list(islice(left, _KEYS_AT_ONCE)):
        yield some


def register_caches(connection: Connection, urls: Sequence[str]) -> None:
    """A new cache has nothing yet: it begins at the end of the log. When all had one place, they go on from there."""
    connection.execute(_REGISTER, (Fence(connection).last_event(of_all=True), [_name(url) for url in urls]))


def _name(url: str) -> str:
    """Of a cache among the reactors: its address may change its number, and hold a password."""
    return f"cdn {sha256(url.encode()).hexdigest()[:16]}"


class PurgePlace:
    """Of one cache. Implements `workers.purger.Place`. One connection, in autocommit, which holds the lock as long as
    it lives.
    """

    def __init__(self, connection: Connection, url: str) -> None:
        self._connection = connection
        self._name = _name(url)
        self._mine = False

    def mine(self) -> bool:
        """Take the place if nobody has it. The lock goes with its holder's connection."""
        if not self._mine:
            self._mine = bool(self._number(_LOCK, self._name))
        return self._mine

    def position(self) -> int:
        """Up to which everything was told."""
        return self._number(_POSITION, self._name)

    def move(self, position: int) -> None:
        """Never back."""
        with or_unavailable():
            self._connection.execute(_MOVE, (position, self._name, position))

    def readable(self) -> int:
        """The least position of what everybody reads; -1 while something is not built."""
        return self._number(_READABLE, _READ)

    def _number(self, query: LiteralString, *values: object) -> int:
        with or_unavailable():
            row = self._connection.execute(query, values).fetchone()
        return int(row[0]) if row else 0


_LOCK: Final[LiteralString] = "SELECT pg_try_advisory_lock(hashtext('cairn'), hashtext(%s))::integer"
_REGISTER: Final[LiteralString] = """
    WITH shared AS (DELETE FROM reactors WHERE name = 'cdn' RETURNING position)
    INSERT INTO reactors (name, position)
    SELECT name, coalesce((SELECT position FROM shared), %s) FROM unnest(%s::text[]) name ON CONFLICT DO NOTHING
"""
_POSITION: Final[LiteralString] = "SELECT position FROM reactors WHERE name = %s"
_MOVE: Final[LiteralString] = "UPDATE reactors SET position = %s, updated_at = now() WHERE name = %s AND position < %s"
# A version on trial is read by everybody once it is for all.
_READABLE: Final[LiteralString] = """
    SELECT coalesce(min(s.position), -1) FROM projection_pointers p
    JOIN projection_shards s ON s.schema_name = p.active OR (s.schema_name = p.shadow AND p.shadow_percent = 100)
    WHERE p.name = ANY(%s)
"""
