"""Answers for everybody, which shared caches may keep (RFC 9111, RFC 5861), with the keys that drop them again."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from fastapi import Response

from api.codec import answer_bytes
from api.front.request import Request
from api.services import Services
from domain.measures import UserId
from projections.projection import View

SURROGATE_KEY: Final = "Surrogate-Key"
KEPT_SECONDS: Final = 60  # by a shared cache that nobody tells of changes
STALE_SECONDS: Final = 30  # longer, while it asks again
NOTHING_SECONDS: Final = 2  # a dead link costs one read in this time
# Who purges does it twice, this long apart and some: an answer that was on its way at the first purge, with what was
# true before, is in the cache at the second (`workers/purger.py`). An answer that took longer is not kept at all.
OLDEST_SECONDS: Final = 1.0
# Reads what everybody reads: a version on trial only once it is for 100 % of the users. It is nobody's id, and where
# somebody took it, nothing is seen with it: only what is public is shown here, to whomever.
_EVERYBODY: Final = UserId(UUID(int=99))


class Publication:
    """One answer that says the same to everybody, signed in or not."""

    def __init__(self, request: Request, services: Services, route: str) -> None:
        self._request = request
        self._services = services
        self._route = route
        self._read_at = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def view(self) -> AsyncIterator[View]:
        """The read models; what the answer says is from here on."""
        async with self._services.read_models.reader(_EVERYBODY).view() as view:
            self._read_at = asyncio.get_running_loop().time()
            yield view

    def found(
        self, body: bytes, media_type: str, keys: tuple[str, ...], headers: Mapping[str, str] | None = None
    ) -> Response:
        """The answer, to be kept under these keys."""
        kept = f"public, max-age=0, s-maxage={KEPT_SECONDS}, stale-while-revalidate={STALE_SECONDS}"
        told = answer_bytes(self._request, body, media_type, {**(headers or {}), **self._caching(kept, keys)})
        self._count("not_modified" if told.status_code == 304 else "miss")
        return told

    def nothing(self, body: bytes, media_type: str, keys: tuple[str, ...], headers: Mapping[str, str]) -> Response:
        """That there is nothing, or nothing for everybody: the same for all reasons, and kept for a moment only."""
        kept = f"public, max-age=0, s-maxage={NOTHING_SECONDS}"
        self._count("miss")
        return Response(body, 404, {**headers, **self._caching(kept, keys)}, media_type)

    def _caching(self, kept: str, keys: tuple[str, ...]) -> dict[str, str]:
        if asyncio.get_running_loop().time() - self._read_at > OLDEST_SECONDS:
            kept = "no-store"
        return {"Cache-Control": kept, SURROGATE_KEY: " ".join(keys), "Vary": "Accept-Encoding"}

    def _count(self, outcome: str) -> None:
        """What a shared cache asks for here, it had not: its hits are counted by itself. Others ask past it."""
        through = "surrogate-capability" in self._request.headers
        self._services.telemetry.meters.of("GET", self._route).read("cdn", outcome if through else "bypassed")
