"""Reads whose answers may be kept: from this process, from Valkey, from whoever asks the same right now, or anew."""

import hashlib
import time
from asyncio import Future, get_running_loop, shield
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Final
from uuid import UUID

import msgspec
from fastapi import Response

from api.front.cache import MAX_BODY, Asked, ReadCache
from api.front.kept import KEPT, Kept, Stored
from api.front.request import Request
from api.front.routes import Route
from api.services import Services
from api.tokens import token_of
from domain.errors import DomainError

_MAX_TARGET: Final = 4_000  # bytes of what a kept answer is kept under: a list of a hundred ids has 3,700
_MAX_TOKEN: Final = 128  # bytes of a position that is remembered
_NO_POSITION: Final = 2**63


class KeptReads:
    """Of one process. `by_client`: the paths whose answers depend on which app asks."""

    def __init__(self, services: Services, by_client: Collection[bytes]) -> None:
        self._services = services
        self._by_client = by_client
        self._cache = ReadCache()
        self._flights: dict[tuple[Asked, int], Future[Kept | None]] = {}  # also by generation
        services.telemetry.watch_cache(self._cache)

    async def listen(self) -> None:
        """Keep answers as long as news of what makes them old are heard, until cancelled."""
        await self._services.shared_reads.listen(self._changed, self._opened, self._closed)

    def asked(self, path: bytes, query: bytes, headers: Mapping[bytes, bytes]) -> Asked | None:
        """Under what an answer to this may be kept, if its sender is known."""
        authorization = headers.get(b"authorization")
        if authorization is None:
            return None
        services = self._services
        bearer = services.tokens.known(token_of(authorization), time.time())
        client = b""
        if path in self._by_client:
            client = b"%d %b" % (services.client_settings.current.version, headers.get(b"cairn-client", b""))
        long = len(path) + len(query) + len(client) > _MAX_TARGET
        if bearer is None or long or services.accounts.ended(bearer.session_id):
            return None
        return Asked(bearer.user_id.int, path, query, client)

    def find(self, asked: Asked, headers: Mapping[bytes, bytes]) -> Kept | None:
        """What may be answered at once."""
        kept = self._cache.find(asked, time.monotonic())
        if kept is None or kept.seen.builds != self._services.read_models.builds:
            return None
        return None if self._floor(headers) > kept.seen.position else kept

    def _floor(self, headers: Mapping[bytes, bytes]) -> int:
        """The position that is asked for; -1: none. Beyond all for what is none, so that the endpoint refuses it."""
        token = headers.get(b"cairn-min-position")
        if token is None:
            return -1
        return _NO_POSITION if len(token) > _MAX_TOKEN else _position_of(self._services.read_models.position, token)

    async def read(
        self, route: Route, request: Request, asked: Asked, answer: Callable[[], Awaitable[Response]]
    ) -> Kept | Response:
        """A kept answer of others, or of whoever is asking the same right now, or a new one."""
        generation = self._cache.generation  # before anything is read
        if not route.keeps[0]:
            response = await answer()
            return self._keep(route, request, asked, generation) or response
        floor, place, leading = self._floor(request.by_name), (asked, generation), None
        if floor < 0:  # who waits for a position keeps nobody else waiting
            kept = await self._joined(place)
            if kept is not None:
                route.meter.read("process", "coalesced")
                return kept
            if place not in self._flights:
                leading = self._flights[place] = get_running_loop().create_future()
        kept = None
        try:
            kept = await self._shared(route, asked, floor, generation)
            if kept is not None:
                return kept
            response = await answer()
            kept = self._keep(route, request, asked, generation)
        finally:
            if leading is not None:
                del self._flights[place]
                leading.set_result(kept)
        return kept or response

    async def _joined(self, place: tuple[Asked, int]) -> Kept | None:
        """What others who ask the same are answered, if that is no older than this request; None: nothing."""
        kept = None
        for _ in range(2):  # who hears something outdated joins one that began since
            flight = self._flights.get(place)
            kept = None if flight is None else await shield(flight)  # who is cancelled leaves it to the others
            if kept is None or not self._cache.outdated(kept):
                break
        return kept

    async def _shared(self, route: Route, asked: Asked, floor: int, generation: int) -> Kept | None:
        """What another process has kept, if it is good."""
        if not self._cache.open:
            route.meter.read("process", "bypassed")
            return None
        route.meter.read("process", "miss")
        found = await self._services.shared_reads.find(asked.user_id, _key(asked))
        kept = None
        if found is not None:
            kept = await self._checked(found[0], found[1], asked, floor)
        route.meter.read("valkey", "miss" if kept is None else "hit")
        if kept is not None:
            kept.meter, kept.kind = route.meter, route.entrance.sort.kind
            self._cache.keep(asked, kept, time.monotonic(), self._services.clock(), generation)
        return kept

    async def _checked(self, stored: bytes, level: int, asked: Asked, floor: int) -> Kept | None:
        try:
            kept = msgspec.msgpack.decode(stored, type=Stored).kept()
        except (msgspec.DecodeError, ValueError, OverflowError):  # other code kept it
            return None
        seen = kept.seen
        if seen.position < max(floor, level) or seen.builds != self._services.read_models.builds:
            return None
        if kept.until is not None and kept.until <= self._services.clock():
            return None
        others = kept.about - {asked.user_id}
        if others:
            highest = await self._services.shared_reads.level(others)
            if highest is None or highest > seen.position:
                return None
        return None if self._cache.outdated(kept) else kept

    def _keep(self, route: Route, request: Request, asked: Asked, generation: int) -> Kept | None:
        """Keep what an endpoint has answered, if it says that it may be."""
        kept: Kept | None = request.scope.get(KEPT)
        if not asked.client and route.template.encode() in self._by_client:
            kept = None  # asked for by another spelling of its path
        route.keeps[0] = kept is not None
        if kept is None:
            return None
        kept.meter, kept.kind = route.meter, route.entrance.sort.kind
        now = self._services.clock()
        if self._cache.keep(asked, kept, time.monotonic(), now, generation):
            seconds = kept.expires_at - time.monotonic()
            stored = msgspec.msgpack.encode(kept.stored(now + timedelta(seconds=seconds)))
            users = kept.about | {asked.user_id}
            self._services.shared_reads.keep(asked.user_id, _key(asked), stored, users, kept.seen.position, seconds)
            return kept
        return kept if len(kept.body) <= MAX_BODY else None

    def wrote(self, user_id: UUID | None, response: Response) -> None:
        """The writer's own reads are not answered from before the write any more, wherever the projections are."""
        position = next((value for name, value in response.raw_headers if name == b"cairn-position"), None)
        if user_id is not None and position is not None:
            self._cache.changed([user_id], self._services.read_models.position(position.decode()))

    def _changed(self, users: Collection[UUID], position: int) -> None:
        if users:
            self._cache.changed(users, position)
        else:
            self._cache.clear()
            self._services.read_models.forget()

    def _opened(self) -> None:
        self._cache.clear()
        self._cache.open = True

    def _closed(self) -> None:
        self._cache.open = False
        self._cache.clear()


@lru_cache(maxsize=1_024)
def _key(asked: Asked) -> str:
    return hashlib.blake2b(b"%b?%b %b" % asked[1:], digest_size=16).hexdigest()


@lru_cache(maxsize=65_536)
def _position_of(position: Callable[[str], int], token: bytes) -> int:
    try:
        return position(token.decode("latin-1").strip())
    except DomainError:
        return _NO_POSITION
