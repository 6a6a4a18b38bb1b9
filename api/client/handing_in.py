"""Recordings over networks of any kind: whole where that will do, in chunks of a fitting size where it will not."""

from typing import Final
from uuid import UUID

from api.client.client import Client
from api.client.live import upload_in_chunks
from api.client.verdicts import Json, Refused, Unreachable

WHOLE_BYTES: Final = 1024 * 1024  # over a good network; beyond that, beginning again would cost too much
_SMALL_BYTES: Final = 16 * 1024  # 16 s at 8 kbit/s, before 30 s without an answer
_SMALLEST_BYTES: Final = 2 * 1024
_GOOD_SECONDS: Final = 1.0
_TRIES: Final = 8  # one after the other of which nothing arrives


async def hand_in(client: Client, activity_id: UUID, body: bytes, **about: str | None) -> Json:
    """Hand in a recorded file, with its title, sport or visibility; its state, as `Client.upload` tells it.

    `Unreachable` when nothing at all gets through, or the pause until another try is beyond the client's patience.
    """
    if len(body) <= _SMALL_BYTES or (len(body) <= WHOLE_BYTES and client.last_seconds < _GOOD_SECONDS):
        try:
            return await client.upload(activity_id, body, patience_seconds=0, **about)
        except Unreachable as silence:
            await _rest(client, silence)
            if not silence.broke:
                return await client.upload(activity_id, body, patience_seconds=None, **about)
        if (state := await _state(client, activity_id)) is not None:
            return state  # all of it had arrived, only the answer was lost
    return await _in_chunks(client, activity_id, body, about)


async def _in_chunks(client: Client, activity_id: UUID, body: bytes, about: dict[str, str | None]) -> Json:
    """Chunk by chunk. One that fails is sent in smaller pieces, after a look at what did arrive."""
    size, reached, tries = _SMALL_BYTES, 0, 0
    while True:
        try:
            return await upload_in_chunks(
                client, activity_id, body, chunk_bytes=size, largest_bytes=WHOLE_BYTES, patience_seconds=0, **about
            )
        except Unreachable as silence:
            if tries == _TRIES:
                raise
            await _rest(client, silence)
            if silence.broke:
                size = max(_SMALLEST_BYTES, size // 2)
        held = int((await client.chunks(activity_id))["offset"])
        reached, tries = (held, 0) if held > reached else (reached, tries + 1)


async def _rest(client: Client, silence: Unreachable) -> None:
    """Wait as long as the app must; no longer than anybody has the patience for."""
    if silence.again_in > client.patience_seconds:
        raise silence
    await client.rest(silence.again_in)


async def _state(client: Client, activity_id: UUID) -> Json | None:
    try:
        return await client.upload_state(activity_id)
    except Refused as refusal:
        if not refusal.is_missing:
            raise
        return None
