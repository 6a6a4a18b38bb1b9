"""Uploads that are taken in, one after the other."""

from typing import Any

from domain.activity import Activity
from domain.measures import ActivityId, Sport
from domain.recordings.reading import Reading
from infra.bootstrap import Parts, now
from tests.recordings import fit
from tests.scenarios import ANNA
from tests.uploads import accept
from workers.ingest.ingest import Ingest
from workers.ingest.ports import Reader

RUN = fit(1, kilometres=1)


class FaultyReader:
    """One body meets a programming error; the others are read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def read(self, body: bytes, sport: Sport | None) -> Reading:
        if body == b"poison":
            raise IndexError("a fault of our own")
        return await self._reader.read(body, sport)


def ingest(parts: Parts, reader: Reader) -> Ingest:
    return Ingest(
        parts.inbox, parts.streams, reader, parts.tracks, parts.claims, parts.attempts, parts.sessions, clock=now
    )


async def accepted(parts: Parts, body: bytes = RUN, **more: Any) -> ActivityId:
    """An upload in the inbox."""
    return (await accept(parts.inbox, body, **more)).activity_id


async def deleted(parts: Parts, activity_id: ActivityId) -> None:
    await parts.streams.transact(Activity, activity_id, ANNA, lambda it: it.delete(ANNA, now()))


async def all_positions(parts: Parts) -> list[int]:
    async with parts.read_models.connection() as connection:
        found = await connection.execute("SELECT notification_id FROM stored_events")
        return [position async for (position,) in found]


async def lose_verdict(parts: Parts, activity_id: ActivityId) -> None:
    """As if the worker had been cut off before it."""
    await parts.objects.delete(f"verdicts/{activity_id.hex[:2]}/{activity_id}")
    manifest = await parts.inbox.manifest(activity_id)
    assert manifest is not None
    await parts.inbox.reopen(manifest)
