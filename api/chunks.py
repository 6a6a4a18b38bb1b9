"""Recordings in numbered slices: sent while the runner runs, or of a large file over a network that breaks off."""

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response
from msgspec import Meta, Struct

from api.activities import Activity
from api.bodies import BodyTooLarge, body_pieces
from api.codec import END, Title, answer, body_of, created
from api.dependencies import AskingClient, RecordingBearer, ServicesDep
from api.front.request import Request
from api.once import Done, Once, once
from api.openapi import answers, file_body, json_body
from api.services import Services
from api.tokens import Bearer
from api.uploads import MAX_RECORDING_BYTES, ReservedActivityId, UploadState, acked, require_recording, require_room
from domain.activity import ActivityMissing, RecordingDiffers
from domain.chunks import (
    MAX_CHUNKS,
    ChecksumDiffers,
    Chunk,
    ChunkDiffers,
    ChunkEmpty,
    ChunkOutOfRange,
    ChunksMissing,
    Range,
    Upload,
    beginning,
    gaps,
    ranges,
)
from domain.errors import StoreUnavailable
from domain.measures import RESERVED_VERSION, ActivityId, Sport, UserId, Visibility
from domain.uploads import Cover, Manifest, RecordingClosed

router = APIRouter(tags=["activities"])

MAX_CHUNK_BYTES: Final = 8 * 1024 * 1024

# told here, checked by the endpoint: what does not fit in a path names nothing, and this has a problem of its own
Seq = Annotated[int, Path(json_schema_extra={"minimum": 0, "maximum": MAX_CHUNKS - 1})]


class ChunksState(Struct, frozen=True, kw_only=True):
    """What the server has of a recording. To go on, send the bytes from `offset` as the chunk after the first range."""

    activity_id: ActivityId
    received: tuple[Range, ...]
    missing: tuple[Range, ...]  # before the last one received
    offset: int  # bytes from the recording's first on, without a gap
    finished: bool


class Finish(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The recording is over: how many chunks it has, the SHA-256 of all its bytes, and what else there is to say."""

    chunks: Annotated[int, Meta(ge=1, le=MAX_CHUNKS)]
    sha256: Annotated[str, Meta(pattern=rf"^[0-9a-fA-F]{{64}}{END}")]
    content_type: Annotated[str, Meta(max_length=200)] | None = None  # may be anything: the bytes decide
    title: Title | None = None
    visibility: Visibility | None = None
    sport: Sport | None = None


@router.put(
    "/activities/{activity_id}/chunks/{seq}",
    status_code=201,
    openapi_extra=file_body("application/octet-stream"),
    responses=answers(
        400, 401, 404, 409, 413, 415, 422, position=False, ok=ChunksState, created=ChunksState, no_content=None
    ),
)
async def upload_chunk(
    request: Request,
    activity_id: UUID,
    seq: Seq,
    sender: RecordingBearer,
    asking: AskingClient,
    services: ServicesDep,
) -> Response:
    """Hand in a slice of a recording's bytes: any order, any number of times. At most 8 MiB, as it is or packed.

    A 2xx means that the slice is safe; cut off before, nothing of it is kept. 201: it is new; 200: it was there; 204:
    it was, and the recording is whole by now. Other bytes under the same number get 409 `chunk-differs`.
    """
    if not 0 <= seq < MAX_CHUNKS:
        raise ChunkOutOfRange
    came = partial(services.telemetry.came, "/v1/activities/{activity_id}/chunks/{seq}", asking)
    try:
        taken = await _taken(request, services, _upload(sender.user_id, activity_id), seq, sender.session_id)
    except (ChunkDiffers, RecordingDiffers):
        came("reused")
        raise
    came("first" if taken.status_code == HTTPStatus.CREATED else "replayed")
    return taken


async def _taken(request: Request, services: Services, upload: Upload, seq: int, session_id: UUID) -> Response:
    async with services.chunks.arrive(upload, seq, session_id) as arrival:
        async for piece in body_pieces(request, MAX_CHUNK_BYTES):
            await arrival.write(piece)
        if not arrival.size:
            raise ChunkEmpty
        manifest = await _accepted(services, upload)
        if manifest is None:
            others = [chunk for chunk in await services.chunks.held(upload) if chunk.seq != seq]
            _require_room(others, arrival.size)
            if not others:
                await require_room(services, upload.user_id, upload.activity_id)
                await services.chunks.begin(upload)
            new = await arrival.keep()
            manifest = await _accepted(services, upload)
            if manifest is None:
                await _require_begun(services, upload)
                chunk = Chunk(seq, arrival.size, arrival.digest, services.clock())
                state = _state(upload, sorted([*others, chunk], key=lambda one: one.seq))
                return created(state, {}, status=201 if new else 200)
            if not new:
                return Response(status_code=204)
            await services.chunks.drop(upload, seq)  # the recording was accepted meanwhile
            await services.chunks.clear(upload)
        if not await _is_part(services, upload, seq, arrival.digest):
            raise RecordingClosed if manifest.partial else ChunkDiffers
        return Response(status_code=204)


@router.get("/activities/{activity_id}/chunks", responses=answers(401, 404, ok=ChunksState))
async def get_chunks(request: Request, activity_id: UUID, sender: RecordingBearer, services: ServicesDep) -> Response:
    """What the server has of a recording: what is missing is to be sent. 404 when it has nothing yet."""
    upload = Upload(sender.user_id, ActivityId(activity_id))
    manifest = await _accepted(services, upload)
    if manifest is not None:
        taken = range(len(await services.chunks.taken(upload)))
        return answer(
            request,
            ChunksState(
                activity_id=upload.activity_id, received=ranges(taken), missing=(), offset=manifest.size, finished=True
            ),
        )
    held = await services.chunks.held(upload)
    if not held:
        raise ActivityMissing
    return answer(request, _state(upload, held))


@router.post(
    "/activities/{activity_id}/finish",
    status_code=202,
    openapi_extra=json_body(Finish, "Prefer"),
    responses=answers(400, 401, 404, 409, 413, 415, 422, accepted=UploadState, created=Activity),
)
async def finish_recording(
    request: Request,
    activity_id: UUID,
    sender: RecordingBearer,
    given: Annotated[Finish, Depends(body_of(Finish))],
    services: ServicesDep,
    once: Annotated[Once, Depends(once("POST /v1/activities/{activity_id}/finish"))],
) -> Response:
    """Say that the recording is over. The answer is that of handing it in whole, also with `Prefer: wait=10`.

    409 `chunks-missing` names what is missing (`errors`: "6-6"); 409 `checksum-differs` when the bytes are not those
    that the client has. Repeating it is safe by what it says, for ever; the same `Idempotency-Key` gets the same
    answer, byte for byte, for 30 days: ask `/upload` for what has become of it since. Of a repeat, title, visibility,
    sport and type do not count; other bytes, or more chunks, get 409 `recording-differs`.
    """
    upload = _upload(sender.user_id, activity_id)
    manifest = await _accepted(services, upload)

    async def act() -> Done:
        accepted = manifest or await _finished(services, upload, given, sender)
        if accepted.sha256 != given.sha256.lower():
            raise RecordingClosed if accepted.partial else RecordingDiffers
        await services.chunks.clear(upload)
        if manifest is not None:
            await _require_as_many(services, upload, given)
        answer = await acked(request, services, accepted, first=manifest is None)
        return Done(answer, kept=answer.status_code < HTTPStatus.BAD_REQUEST)

    return await once.repeat(sender.user_id, given, activity_id, act=act, stands=manifest is not None)


async def _require_as_many(services: Services, upload: Upload, given: Finish) -> None:
    """Refuse a repeat that counts more chunks than came; there may be some that the first did not count."""
    taken = await services.chunks.taken(upload)
    if taken and given.chunks > len(taken):
        raise RecordingDiffers(f"The recording was finished already, with {len(taken)} chunks.")


async def _finished(services: Services, upload: Upload, given: Finish, sender: Bearer) -> Manifest:
    """The recording, accepted now, or by the same request, which was faster, and has cleared the chunks meanwhile."""
    cover = Cover(received_at=services.clock(), session_id=sender.session_id, title=given.title)
    try:
        return await _put_together(services, upload, given, cover)
    except (ChunksMissing, ChecksumDiffers):
        manifest = await _accepted(services, upload)
        if manifest is None:
            raise
        return manifest


async def _put_together(services: Services, upload: Upload, given: Finish, cover: Cover) -> Manifest:
    """The recording, accepted, chunk by chunk."""
    held = await services.chunks.held(upload)
    if missing := gaps(held, given.chunks):
        raise ChunksMissing(missing)
    wanted = held[: given.chunks]
    _require_room(wanted, 0)
    async with services.inbox.arrive(upload.activity_id, upload.user_id, cover) as arrival:
        async for piece in services.chunks.pieces(upload, wanted):
            await arrival.write(piece)
        if arrival.sha256 != given.sha256.lower():
            raise ChecksumDiffers
        require_recording(services, arrival)
        await require_room(services, upload.user_id, upload.activity_id, arrival.sha256)
        return await arrival.accept(visibility=given.visibility, sport=given.sport)


async def _accepted(services: Services, upload: Upload) -> Manifest | None:
    """What was accepted under this id, None if more may come. What failed in passing is taken in anew."""
    manifest = await services.inbox.manifest(upload.activity_id)
    if manifest is None:
        return None
    if manifest.user_id != upload.user_id:
        raise ActivityMissing
    verdict = await services.inbox.verdict(upload.activity_id)
    return None if verdict is not None and verdict.passing else manifest


async def _require_begun(services: Services, upload: Upload) -> None:
    """`StoreUnavailable` when the recording was discarded while this chunk was on its way: the others are gone, and may
    be its bytes too. What is left of it must be found. Sent again, it is the first of a new beginning.
    """
    if not await services.chunks.has_begun(upload):
        await services.chunks.begin(upload)
        raise StoreUnavailable


async def _is_part(services: Services, upload: Upload, seq: int, digest: str) -> bool:
    """Whether an accepted recording came in this chunk among others. They go once there is a receipt of them."""
    if any((chunk.seq, chunk.digest) == (seq, digest) for chunk in await services.chunks.held(upload)):
        return True
    return digest in (await services.chunks.taken(upload))[seq : seq + 1]


def _upload(user_id: UserId, activity_id: UUID) -> Upload:
    if activity_id.version == RESERVED_VERSION:
        raise ReservedActivityId
    return Upload(user_id, ActivityId(activity_id))


def _require_room(chunks: Sequence[Chunk], more: int) -> None:
    if sum(chunk.size for chunk in chunks) + more > MAX_RECORDING_BYTES:
        raise BodyTooLarge(f"A recording may have at most {MAX_RECORDING_BYTES:,} bytes, all chunks together.")


def _state(upload: Upload, held: Sequence[Chunk]) -> ChunksState:
    return ChunksState(
        activity_id=upload.activity_id,
        received=ranges(chunk.seq for chunk in held),
        missing=gaps(held),
        offset=sum(chunk.size for chunk in beginning(held)),
        finished=False,
    )
