"""Tracks and details in the object store: written once by ingest, read by the API."""

import asyncio
from collections.abc import Collection, Mapping

import msgspec
import numpy as np

from domain.measures import ActivityId, UserId
from domain.recordings.reading import SessionRead, TrackDamaged
from domain.recordings.recording import DECIMALS, Column, FloatColumn
from domain.recordings.similarity import Path
from infra.formats.track import CorruptTrack, decode
from infra.objects import Objects


class ObjectTracks:
    """Implements `api.services.Tracks` and `workers.ingest.ports.TrackStore`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def keep(self, user_id: UserId, activity_id: ActivityId, session: SessionRead) -> None:
        """Make both durable. The same again changes nothing."""
        await self._objects.put_new(_key("tracks", user_id, activity_id), session.track)
        await self._objects.put_new(_key("details", user_id, activity_id), session.details)

    async def columns(
        self, user_id: UserId, activity_id: ActivityId, columns: Collection[Column] | None, max_points: int | None
    ) -> Mapping[str, list[float | None]] | None:
        """The columns asked for that the track has, all of one length; None when there is no track."""
        blob = await self._objects.get(_key("tracks", user_id, activity_id))
        if blob is None:
            return None
        try:
            return await asyncio.to_thread(_listed, blob, columns, max_points)
        except CorruptTrack as damage:
            raise TrackDamaged from damage

    async def path(self, user_id: UserId, activity_id: ActivityId) -> Path | None:
        """Where the runner was when; None where the track does not say."""
        blob = await self._objects.get(_key("tracks", user_id, activity_id))
        try:
            return None if blob is None else _path(blob)
        except CorruptTrack as damage:
            raise TrackDamaged from damage

    def path_of(self, session: SessionRead) -> Path | None:
        """The same of a session that is not kept yet."""
        return _path(session.track)

    async def details(self, user_id: UserId, activity_id: ActivityId) -> Mapping[str, object]:
        """Splits and laps; empty when there are none."""
        found = await self._objects.get(_key("details", user_id, activity_id))
        return {} if found is None else msgspec.json.decode(found, type=dict[str, object])


def _key(kind: str, user_id: UserId, activity_id: ActivityId) -> str:
    return f"{kind}/{user_id}/{activity_id}"


def _path(blob: bytes) -> Path | None:
    found = decode(blob, (Column.T, Column.LAT, Column.LON))
    return Path.of(found[Column.T], found[Column.LAT], found[Column.LON]) if len(found) == 3 else None


def _listed(blob: bytes, columns: Collection[Column] | None, max_points: int | None) -> dict[str, list[float | None]]:
    return {str(name): _plain(name, values) for name, values in decode(blob, columns, max_points).items()}


def _plain(name: Column, values: FloatColumn) -> list[float | None]:
    rounded = np.round(values, DECIMALS[name]).astype(object)
    rounded[np.isnan(values)] = None
    plain: list[float | None] = rounded.tolist()
    return plain
