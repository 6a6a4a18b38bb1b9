"""Shared caches in front of the API: telling them what to drop, and how far they know the log."""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Final, LiteralString

import httpx
from psycopg import Connection

from domain.publishing import CachesAway
from infra.away import or_unavailable
from infra.event_store.fence import Fence
from infra.settings import Cdn

_NAME: Final = "cdn"  # among the reactors
_READ: Final = ["activities", "people"]  # what public pages are made of
_KEYS_AT_ONCE: Final = 100  # 4.6 kB: a header of Varnish may have 8 kB, and Fastly takes 256 keys
_TIMEOUT_SECONDS: Final = 2.0


class HttpCaches:
    """Each cache gets `POST` with the header `Surrogate-Key: KEY KEY …`, which Fastly and the VCL of ours know.

    Implements `workers.purger.Caches`.
    """

    def __init__(self, cdn: Cdn) -> None:
        self._urls = cdn.purge_urls
        self._http = httpx.Client(headers=[cdn.header] if cdn.header else None, timeout=_TIMEOUT_SECONDS)

    def purge(self, keys: Collection[str]) -> None:
        """Drop what has any of these keys, everywhere. `CachesAway`."""
        for some in _batches(sorted(keys)):
            for number, url in enumerate(self._urls, 1):
                try:
                    status = self._http.post(url, headers={"Surrogate-Key": " ".join(some)}).status_code
                except httpx.HTTPError as error:
                    raise CachesAway(f"number {number} of CAIRN_CDN_PURGE_URL: {type(error).__name__}") from error
                if not httpx.codes.is_success(status):
                    raise CachesAway(f"number {number} of CAIRN_CDN_PURGE_URL answers {status}")

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()


def _batches(keys: Collection[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while some := list(islice(left, _KEYS_AT_ONCE)):
        yield some


class PurgePlace:
    """Implements `workers.purger.Place`. One connection, in autocommit, which holds the lock as long as it lives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._mine = False

    def register(self) -> None:
        """A new cache has nothing yet: it begins at the end of the log."""
        self._connection.execute(_REGISTER, (_NAME, Fence(self._connection).last_event(of_all=True)))

    def mine(self) -> bool:
        """Take the place if nobody has it. The lock goes with its holder's connection."""
        if not self._mine:
            self._mine = bool(self._number(_LOCK))
        return self._mine

    def position(self) -> int:
        """Up to which everything was told."""
        return self._number(_POSITION, _NAME)

    def move(self, position: int) -> None:
        """Never back."""
        with or_unavailable():
            self._connection.execute(_MOVE, (position, _NAME, position))

    def readable(self) -> int:
        """The least position of what everybody reads; -1 while something is not built."""
        return self._number(_READABLE, _READ)

    def _number(self, query: LiteralString, *values: object) -> int:
        with or_unavailable():
            row = self._connection.execute(query, values).fetchone()
        return int(row[0]) if row else 0


_LOCK: Final[LiteralString] = "SELECT pg_try_advisory_lock(hashtext('cairn'), hashtext('cdn'))::integer"
_REGISTER: Final[LiteralString] = "INSERT INTO reactors (name, position) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_POSITION: Final[LiteralString] = "SELECT position FROM reactors WHERE name = %s"
_MOVE: Final[LiteralString] = "UPDATE reactors SET position = %s, updated_at = now() WHERE name = %s AND position < %s"
# A version on trial is read by everybody once it is for all.
_READABLE: Final[LiteralString] = """
    SELECT coalesce(min(s.position), -1) FROM projection_pointers p
    JOIN projection_shards s ON s.schema_name = p.active OR (s.schema_name = p.shadow AND p.shadow_percent = 100)
    WHERE p.name = ANY(%s)
"""
