"""Uploads in an inbox, as the API leaves them, and what reads them."""

import asyncio
import hashlib
from uuid import UUID, uuid4

from domain.measures import ActivityId, Sport, UserId, Visibility
from domain.recordings.reading import Reading
from domain.uploads import Cover, Inbox, Manifest
from infra.inbox import HEAD_BYTES
from infra.reader import read
from tests.scenarios import ANNA, MAY_1


class ThreadReader:
    """Reads in a thread: a process is not needed for what harms nobody."""

    async def read(self, body: bytes, sport: Sport | None) -> Reading:
        return await asyncio.to_thread(read, body, sport)


async def accept(
    inbox: Inbox,
    body: bytes,
    *,
    activity_id: UUID | None = None,
    user_id: UserId = ANNA,
    cover: Cover | None = None,
    visibility: Visibility | None = None,
    sport: Sport | None = None,
) -> Manifest:
    """Hand the bytes in; what is kept under their id."""
    cover = cover or Cover(received_at=MAY_1)
    async with inbox.arrive(ActivityId(activity_id or uuid4()), user_id, cover) as arrival:
        await arrival.write(body[: len(body) // 2])
        await arrival.write(body[len(body) // 2 :])
        assert arrival.head == body[:HEAD_BYTES]
        manifest = await arrival.accept(visibility=visibility, sport=sport)
    assert manifest.sha256 == hashlib.sha256(body).hexdigest()
    return manifest


async def waiting(inbox: Inbox) -> list[ActivityId]:
    """Which uploads have no verdict."""
    return [left.activity_id async for left in inbox.waiting()]
