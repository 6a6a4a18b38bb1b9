"""Tracks and details in the object store, sealed under their owner's key: written by ingest, read by the API."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar

import msgspec
import numpy as np
from cryptography.exceptions import InvalidTag

from domain.measures import ActivityId, UserId
from domain.recordings.reading import SessionRead, TrackDamaged
from domain.recordings.recording import DECIMALS, Column, FloatColumn
from domain.recordings.similarity import Path
from infra.formats.track import CorruptTrack, Key, decode, encode, is_cold, is_sealed, seal
from infra.keys import UserCipher, UserKeys
from infra.object_store import Objects

T = TypeVar("T")

_SEALED_DETAILS: Final = b"CRND\x01"  # no JSON begins so; then what `UserCipher.seal` gives


class ObjectTracks:
    """Implements `api.services.Tracks` and `workers.ingest.ports.TrackStore`.

    Once the owner's key is destroyed, there is no track and there are no details, wherever copies are. Tracks of
    version 1 and details as plain JSON were stored before either was sealed; they are read as they are.
    """

    def __init__(self, objects: Objects, keys: UserKeys) -> None:
        self._objects = objects
        self._keys = keys

    async def keep(self, user_id: UserId, activity_id: ActivityId, session: SessionRead) -> None:
        """Make both durable. The same again changes nothing. `OwnerErased`."""
        cipher = await self._keys.to_seal(user_id)
        track = await asyncio.to_thread(seal, session.track, _key(cipher, user_id, activity_id))
        details = _SEALED_DETAILS + cipher.seal(session.details, _place("details", user_id, activity_id))
        await self._objects.put_new(_name("tracks", user_id, activity_id), track)
        await self._objects.put_new(_name("details", user_id, activity_id), details)

    async def columns(
        self, user_id: UserId, activity_id: ActivityId, columns: Collection[Column] | None, max_points: int | None
    ) -> Mapping[str, list[float | None]] | None:
        """The columns asked for that the track has, all of one length; None when there is no track. `TrackDamaged`."""

        def listed(blob: bytes, key: Key | None) -> dict[str, list[float | None]]:
            found = decode(blob, columns, max_points, key)
            return {str(name): _plain(name, values) for name, values in found.items()}

        return await self._read(user_id, activity_id, listed)

    async def arrays(
        self, user_id: UserId, activity_id: ActivityId, columns: Collection[Column]
    ) -> Mapping[Column, FloatColumn] | None:
        """The same to calculate with: as they were recorded, NaN where a point lacks the value. `TrackDamaged`."""
        return await self._read(user_id, activity_id, lambda blob, key: decode(blob, columns, key=key))

    async def path(self, user_id: UserId, activity_id: ActivityId) -> Path | None:
        """Where the runner was when; None where the track does not say. `TrackDamaged`."""
        return await self._read(user_id, activity_id, _path)

    def path_of(self, session: SessionRead) -> Path | None:
        """The same of a session that is not kept yet."""
        return _path(session.track, None)

    async def details(self, user_id: UserId, activity_id: ActivityId) -> Mapping[str, object]:
        """Splits, laps and previews; empty when there are none. `TrackDamaged`."""
        found = await self._objects.get(_name("details", user_id, activity_id))
        if found is not None and found.startswith(_SEALED_DETAILS):
            cipher = await self._keys.to_open(user_id)
            found = None if cipher is None else _opened(cipher, found, _place("details", user_id, activity_id))
        try:
            return {} if found is None else msgspec.json.decode(found, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError) as damage:
            raise TrackDamaged from damage

    async def remove(self, user_id: UserId, activity_id: ActivityId) -> None:
        """Keep neither any longer."""
        await self._objects.delete(_name("tracks", user_id, activity_id))
        await self._objects.delete(_name("details", user_id, activity_id))

    async def recompact(self, user_id: UserId, activity_id: ActivityId) -> int:
        """Pack the track as small as can be, and seal one that never was; how many bytes that saves.

        What is there is replaced, at once or not at all, and only by what gives back the same values. Nothing happens
        to a track that is not there, is damaged, was recompacted before, or has lost its key.
        """
        stored = await self._objects.get(_name("tracks", user_id, activity_id))
        cipher = None if stored is None else await self._keys.to_open(user_id)
        if stored is None or cipher is None:
            return 0
        smaller = await asyncio.to_thread(_recompacted, stored, _key(cipher, user_id, activity_id))
        if smaller is None:
            return 0
        await self._objects.replace(_name("tracks", user_id, activity_id), smaller)
        return len(stored) - len(smaller)

    async def _read(self, user_id: UserId, activity_id: ActivityId, read: Callable[[bytes, Key | None], T]) -> T | None:
        blob = await self._objects.get(_name("tracks", user_id, activity_id))
        if blob is None:
            return None
        try:
            if not is_sealed(blob):
                return await asyncio.to_thread(read, blob, None)
            cipher = await self._keys.to_open(user_id)
            if cipher is None:
                return None
            return await asyncio.to_thread(read, blob, _key(cipher, user_id, activity_id))
        except CorruptTrack as damage:
            raise TrackDamaged from damage


def _name(kind: str, user_id: UserId, activity_id: ActivityId) -> str:
    """The object's key."""
    return f"{kind}/{user_id}/{activity_id}"


def _place(kind: str, user_id: UserId, activity_id: ActivityId) -> bytes:
    """What binds sealed bytes to their owner and activity: moved elsewhere, they do not open."""
    return kind.encode() + user_id.bytes + activity_id.bytes


def _key(cipher: UserCipher, user_id: UserId, activity_id: ActivityId) -> Key:
    return Key(cipher, _place("tracks", user_id, activity_id))


def _opened(cipher: UserCipher, sealed: bytes, place: bytes) -> bytes:
    try:
        return cipher.open(sealed[len(_SEALED_DETAILS) :], place)
    except InvalidTag as damage:
        raise TrackDamaged from damage


def _recompacted(stored: bytes, key: Key) -> bytes | None:
    """The track again, smaller or at last sealed; None when it stays as it is."""
    try:
        if is_cold(stored):
            return None
        columns = decode(stored, key=key)
    except CorruptTrack:
        return None  # whoever reads it is told
    packed = seal(encode(columns, best=True), key)
    if is_sealed(stored) and len(packed) >= len(stored):
        return None
    return packed if _equal(decode(packed, key=key), columns) else None


def _equal(found: Mapping[Column, FloatColumn], columns: Mapping[Column, FloatColumn]) -> bool:
    """To the bit, but for which of its many NaN a missing value is."""
    return found.keys() == columns.keys() and all(
        np.array_equal(np.isnan(found[name]), np.isnan(values))
        and np.array_equal(found[name][~np.isnan(values)].view(np.int64), values[~np.isnan(values)].view(np.int64))
        for name, values in columns.items()
    )


def _path(blob: bytes, key: Key | None) -> Path | None:
    found = decode(blob, (Column.T, Column.LAT, Column.LON), key=key)
    return Path.of(found[Column.T], found[Column.LAT], found[Column.LON]) if len(found) == 3 else None


def _plain(name: Column, values: FloatColumn) -> list[float | None]:
    rounded = np.round(values, DECIMALS[name]).astype(object)
    rounded[np.isnan(values)] = None
    plain: list[float | None] = rounded.tolist()
    return plain
