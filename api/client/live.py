"""Recordings that are sent in chunks: while they grow, or because they are large."""

import hashlib
import time
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from api.client.client import Client
from api.client.verdicts import Json, Refused

CHUNK_BYTES: Final = 256 * 1024
_SOON_SECONDS: Final = 4.0  # a chunk that is answered within this may be followed by one twice as large
_LATE_SECONDS: Final = 12.0  # one that takes longer, by one half as large: at 30 s it would be given up


class LiveRecording:
    """One recording on its way to the server. The app keeps its bytes until `finish` has returned.

    After a restart, or after `Unreachable`, make another one, `resume` it, and append from the first byte again: what
    the server has already is not sent. One at a time for a recording.

    Chunks that are answered soon grow, up to `largest_bytes`. `patience_seconds` of a chunk: by default the client's.
    """

    def __init__(
        self,
        client: Client,
        activity_id: UUID,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        largest_bytes: int = 0,
        patience_seconds: float | None = None,
    ) -> None:
        self._client = client
        self._activity_id = activity_id
        self._chunk_bytes = chunk_bytes
        self._largest_bytes = largest_bytes
        self._patience_seconds = patience_seconds
        self._hash = hashlib.sha256()
        self._appended = 0
        self._held = 0  # bytes that the server has
        self._seq = 0  # of the next chunk
        self._buffer = bytearray()
        self._is_closed = False  # by the server, after a day, or by a `finish` without an answer
        self._cut = 0  # size of a chunk that was sent without an answer: it may be there, so it stays as it is

    async def resume(self) -> int:
        """Ask the server how far it is: the bytes that it has from the first on. Before anything is appended."""
        state = await self._client.chunks(self._activity_id)
        received = state["received"]
        self._seq = received[0][1] + 1 if received and received[0][0] == 0 else 0
        self._held = int(state["offset"])
        self._is_closed = bool(state.get("finished"))
        return self._held

    async def append(self, data: bytes) -> None:
        """The next bytes of the recording. They are sent once there are enough of them for a chunk."""
        self._hash.update(data)
        self._buffer += data[max(0, self._held - self._appended) :]
        self._appended += len(data)
        while len(self._buffer) >= (self._cut or self._chunk_bytes):
            await self._send(self._chunk_bytes)

    async def flush(self) -> None:
        """Send what there is, as after some seconds of a run that others may follow."""
        while self._buffer:
            await self._send(len(self._buffer))

    async def finish(self, **about: str | None) -> Json:
        """The recording is over: its state, as `Client.upload` tells it, which takes the same title, sport and
        visibility. Then the app may forget the bytes. `Refused` with `recording-closed` when the server closed it with
        fewer bytes: `send_waiting` hands it in anew.
        """
        await self.flush()
        state = await self._client.finish(self._activity_id, max(self._seq, 1), self._hash.hexdigest(), **about)
        wanted = {name: value for name, value in about.items() if value is not None}
        if self._is_closed and wanted:
            await self._edit(wanted)
        return state

    async def _edit(self, wanted: dict[str, str]) -> None:
        """What `finish` says of a recording that was closed before comes too late."""
        try:
            await self._client.edit(self._activity_id, **wanted)
        except Refused as refusal:
            if not refusal.is_missing:  # there was nothing to read, or it is a duplicate: `/upload` tells
                raise

    async def _send(self, size: int) -> None:
        self._cut = self._cut or size
        data, began = bytes(self._buffer[: self._cut]), time.monotonic()
        try:
            await self._client.send_chunk(self._activity_id, self._seq, data, patience_seconds=self._patience_seconds)
        except Refused as refusal:
            if refusal.code != "chunk-differs" or not await self._catch_up():
                raise
        else:
            del self._buffer[: self._cut]
            self._seq += 1
            self._adapt(time.monotonic() - began)
        self._cut = 0

    def _adapt(self, seconds: float) -> None:
        if seconds < _SOON_SECONDS:
            self._chunk_bytes = max(self._chunk_bytes, min(self._largest_bytes, 2 * self._chunk_bytes))
        elif seconds > _LATE_SECONDS and self._largest_bytes:
            self._chunk_bytes = max(1, self._chunk_bytes // 2)

    async def _catch_up(self) -> bool:
        """Whether the server has more by now: what an app sent before it was ended may still have been on its way."""
        begin = self._appended - len(self._buffer)
        if await self.resume() <= begin:
            return False
        del self._buffer[: self._held - begin]
        return True


async def upload_in_chunks(
    client: Client,
    activity_id: UUID,
    body: bytes | AsyncIterator[bytes],
    *,
    chunk_bytes: int = CHUNK_BYTES,
    largest_bytes: int = 0,
    patience_seconds: float | None = None,
    **about: str | None,
) -> Json:
    """Hand in a recorded file chunk by chunk, from where an earlier call was cut off; its state."""
    recording = LiveRecording(
        client,
        activity_id,
        chunk_bytes=chunk_bytes,
        largest_bytes=largest_bytes,
        patience_seconds=patience_seconds,
    )
    await recording.resume()
    if isinstance(body, bytes):
        await recording.append(body)
    else:
        async for piece in body:
            await recording.append(piece)
    return await recording.finish(**about)
