"""What makes a POST safe to repeat: it asks for `Once`, and lets that run what it does.

`once: Annotated[Once, Depends(once("POST /v1/activities"))]`, then `return await once.transact(...)`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

from fastapi import Response
from msgspec import Struct

from api.clients import Client
from api.dependencies import AskingClient, ServicesDep
from api.idempotency import IdempotencyKey, answer_of, key_of, whole_reply
from api.services import Services
from domain.errors import DomainError, StoreUnavailable
from domain.measures import UserId
from domain.streams import Aggregate, Decision, Replied, Request, RequestDiffers, RequestRunning, StreamUnreadable

A = TypeVar("A", bound=Aggregate)

_UNKEPT: Final = (StoreUnavailable, StreamUnreadable)  # for which a reply can neither be looked up nor kept
_REFUSED: Final[Mapping[type[DomainError], str]] = {RequestRunning: "running", RequestDiffers: "reused"}


class Done(NamedTuple):
    """An answer, and whether it is to be given again: what may be decided otherwise later is not."""

    answer: Response
    kept: bool


class Once:
    """One request, and the Idempotency-Key that it came with, if it did. `MalformedIdempotencyKey`.

    With a key it has its effect once, and the same answer for 30 days; `RequestDiffers` when the key came with other
    content, `RequestRunning` while its first is under way. Without one it is simply done.
    """

    def __init__(self, services: Services, route: str, asking: Client, header: str | None) -> None:
        self._services = services
        self._route = route
        self._asking = asking
        self.key = None if header is None else key_of(header)

    async def transact(
        self,
        user_id: UserId,
        content: Struct,
        aggregate: type[A],
        stream_id: UUID,
        decide: Decision[A],
        reply: bytes,
    ) -> Response:
        """Decide on one stream and append, as `Streams.transact` does; `reply` is kept in the same transaction."""
        streams = self._services.streams

        async def act(request: Request | None) -> Replied:
            if request is not None:
                return await streams.transact_once(aggregate, stream_id, user_id, decide, request, reply)
            return Replied(reply, await streams.transact(aggregate, stream_id, user_id, decide), again=False)

        return await self.act(str(user_id), content, act)

    async def act(self, whose: str, content: Struct, act: Callable[[Request | None], Awaitable[Replied]]) -> Response:
        """Do what keeps its reply itself, by `Streams.transact_once`. `whose`: a user, or an e-mail address."""
        if self.key is None:
            return answer_of(await act(None))
        async with self._alone(whose, content) as request:
            return self._told(await self._services.streams.replied(request) or await act(request))

    async def repeat(
        self, user_id: UserId, *content: Struct | UUID, act: Callable[[], Awaitable[Done]], stands: bool = True
    ) -> Response:
        """Do what has the same effect however often it is done, and keep its answer behind it.

        With Postgres away, or the user's key unusable, it is done, and not kept. `stands`: whether a kept answer is
        still true.
        """
        if self.key is None:
            return (await act()).answer
        streams = self._services.streams
        async with self._alone(str(user_id), *content) as request:
            with suppress(*_UNKEPT):  # what needs Postgres says so itself
                replied = await streams.replied(request)
                if replied is not None and stands:
                    return self._told(replied)
            done = await act()
            if done.kept:
                with suppress(*_UNKEPT):
                    return self._told(await streams.keep(user_id, request, whole_reply(done.answer)))
            self._count("first")
            return done.answer

    @asynccontextmanager
    async def _alone(self, whose: str, *content: Struct | UUID) -> AsyncIterator[Request]:
        idempotency = self._services.idempotency
        request = idempotency.request(self.key or "", self._route, whose, *content)
        try:
            async with idempotency.alone(request):
                yield request
        except (RequestRunning, RequestDiffers) as refusal:
            self._count(_REFUSED[type(refusal)])
            raise

    def _told(self, replied: Replied) -> Response:
        self._count("replayed" if replied.again else "first")
        return answer_of(replied)

    def _count(self, outcome: str) -> None:
        self._services.telemetry.came(self._route.partition(" ")[2], self._asking, outcome)


def once(route: str) -> Callable[[Services, AskingClient, str | None], Awaitable[Once]]:
    """A dependency of the POST of this route; keys of different routes are different keys."""

    async def of_request(services: ServicesDep, asking: AskingClient, idempotency_key: IdempotencyKey = None) -> Once:
        return Once(services, route, asking, idempotency_key)

    return of_request
