"""Handing in a recording: durable first, then acked; what becomes of it is told under `/upload`."""

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from msgspec import Struct

from api.activities import Activity, read_activity
from api.bodies import body_pieces
from api.codec import TITLE, answer, created
from api.dependencies import AskingClient, CurrentUser, RecordingBearer, ServicesDep
from api.front.request import Request
from api.openapi import answers, file_body
from api.pages import Ids, ids_of
from api.problems import Problem, answer_problem, problem
from api.services import Services
from domain import activity as rules
from domain.activity import MANUAL, ActivityMissing, RecordingDiffers
from domain.errors import DomainError, StoreUnavailable
from domain.events.event import Event
from domain.measures import RESERVED_VERSION, ActivityId, Sport, UserId, Visibility
from domain.recordings.recording import EmptyRecording, Format
from domain.streams import StreamUnreadable
from domain.uploads import Arrival, Cover, Fault, Manifest, Status, Verdict

router = APIRouter(tags=["activities"])

MAX_RECORDING_BYTES: Final = 48 * 1024 * 1024  # a week at one point a second, as wordy GPX
_MAX_WAIT_SECONDS: Final = 30.0
_FIRST_PAUSE_SECONDS: Final = 0.05  # most uploads are ready within 0.3 s
_LONGEST_PAUSE_SECONDS: Final = 1.0  # each look at what is not ready is a request to the object store
_ROOM_SECONDS: Final = 0.25  # that an upload waits at most to be told at once that it can only fail
_NOW_SECONDS: Final = 0.25  # that an answer waits for the position of now
_WAIT: Final = re.compile(r"(?i)(?:^|[,;\s])wait\s*=\s*\"?(\d{1,4})|\"(?:[^\"\\]|\\.)*\"?")  # in quotes it is none
_TITLE: Final = "What lists show: at most 200 characters, not all of them blank, none of them NUL."
MEDIA_TYPES: Final = {
    Format.FIT: "application/vnd.ant.fit",
    Format.GPX: "application/gpx+xml",
    Format.TCX: "application/vnd.garmin.tcx+xml",
    Format.JSON: "application/json",
}


class UploadState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has become of an upload."""

    activity_id: ActivityId
    status: Status
    status_url: str
    activities: tuple[ActivityId, ...] = ()  # when ready: more than one for a file of several sessions
    duplicate_of: ActivityId | None = None
    matched: Literal["bytes", "track"] | None = None  # what is the same in a duplicate
    problem: Problem | None = None


class UploadStates(Struct, frozen=True):
    """Uploads that were asked for by their ids."""

    items: list[UploadState]


class UnknownFormat(DomainError):
    """The body is no recording that can be read."""

    code = "recording-format-unknown"


class ReservedActivityId(DomainError):
    """UUIDs of version 8 are the server's own: make a random one (version 4 or 7) for each run."""

    code = "activity-id-reserved"


@router.put(
    "/activities/{activity_id}",
    status_code=202,
    openapi_extra=file_body(*MEDIA_TYPES.values(), headers=("Prefer",)),
    responses=answers(400, 401, 404, 409, 413, 415, 422, accepted=UploadState, created=Activity),
)
async def upload_recording(
    request: Request,
    activity_id: UUID,
    sender: RecordingBearer,
    asking: AskingClient,
    services: ServicesDep,
    title: Annotated[str | None, Query(min_length=1, max_length=200, pattern=TITLE, description=_TITLE)] = None,
    visibility: Visibility | None = None,
    sport: Sport | None = None,
) -> Response:
    """Hand in a run: a FIT, GPX, TCX or JSON file, as it is or with Content-Encoding gzip or zstd.

    The app chooses the id, once for each run. 202 means that the bytes are safe: the phone may forget them.
    The same bytes again get the same answer; other bytes under the same id get 409 `recording-differs`.
    With `Prefer: wait=10` the answer is the activity (201), or why there is none, if it is known in that time.
    """
    if activity_id.version == RESERVED_VERSION:
        raise ReservedActivityId
    cover = Cover(received_at=services.clock(), session_id=sender.session_id, title=title)
    outcome = None
    try:
        async with services.inbox.arrive(ActivityId(activity_id), sender.user_id, cover) as arrival:
            async for piece in body_pieces(request, MAX_RECORDING_BYTES):
                await arrival.write(piece)
            require_recording(services, arrival)
            await require_room(services, sender.user_id, ActivityId(activity_id), arrival.sha256)
            manifest = await arrival.accept(visibility=visibility, sport=sport)
        again = manifest.received_at != cover.received_at  # of an earlier one, with the same bytes
        outcome = "replayed" if again else "first"
        return await acked(request, services, manifest, first=not again)
    except RecordingDiffers:
        outcome = "reused"
        raise
    finally:
        if outcome is not None:
            services.telemetry.came("/v1/activities/{activity_id}", asking, outcome)


def require_recording(services: Services, arrival: Arrival) -> None:
    """Refuse what cannot be a recording: `EmptyRecording`, `UnknownFormat`."""
    if not arrival.size:
        raise EmptyRecording("The body is empty: send the recorded file's bytes.")
    if services.sniff(arrival.head) is None:
        raise UnknownFormat("The body is no FIT, GPX, TCX or JSON recording: send the file as the device wrote it.")


async def require_room(services: Services, user_id: UserId, activity_id: ActivityId, sha256: str | None = None) -> None:
    """Refuse what can only fail, before it is taken in: `ActivityMissing` where the id is another runner's,
    `RecordingDiffers` where it is of another recording, or of a run that was entered by hand. Without `sha256` the
    bytes are not known yet. Postgres knows that: while it is away everything is taken in, and ingest finds out. What
    is here already is the inbox' to judge.
    """
    try:
        async with asyncio.timeout(_ROOM_SECONDS):
            there = await services.streams.load(rules.Activity, activity_id)
        there.require_room(user_id, sha256)
    except (StoreUnavailable, StreamUnreadable, TimeoutError):
        return
    except (ActivityMissing, RecordingDiffers):
        if await services.inbox.manifest(activity_id) is None:
            raise


async def acked(request: Request, services: Services, manifest: Manifest, *, first: bool) -> Response:
    """What is answered once the bytes are safe; `first`: they came just now."""
    wait = _preferred_wait(request.headers.get("prefer", ""))
    deadline = time.monotonic() + wait
    verdict = await services.inbox.verdict(manifest.activity_id)
    if verdict is None:
        await services.hints.add(manifest.activity_id, first=first)
        verdict = await _wait(services, manifest.activity_id, wait)
    if (difference := _difference(verdict)) is not None:
        raise RecordingDiffers(difference.detail)
    if verdict is not None and wait > 0:
        final = await _final(services, manifest.user_id, verdict, deadline)
        if final is not None:
            return final
    state = _state(manifest.activity_id, verdict)
    position = await _position(services, None if verdict is None else verdict.position)
    return created(state, {"Location": state.status_url, **position}, status=202)


@router.get("/activities/{activity_id}/upload", responses=answers(401, 404, position=True, ok=UploadState))
async def get_upload(request: Request, activity_id: UUID, user_id: CurrentUser, services: ServicesDep) -> Response:
    """What has become of an upload: processing, ready, failed (with the problem) or duplicate (naming the first).

    Once ready, the answer's `Cairn-Position` makes a later read see the activity.
    """
    told = await _told(services, user_id, ActivityId(activity_id))
    if told is None:
        raise ActivityMissing
    position = await _position(services, None if told[1] is None else told[1].position)
    return answer(request, _state(*told), position)


async def _entered(services: Services, user_id: UserId, activity_id: ActivityId) -> Verdict | None:
    """An activity that was entered by hand is ready. None: there is none."""
    if activity_id.version == RESERVED_VERSION:
        return None

    def look(activity: rules.Activity) -> Sequence[Event]:
        if activity.user_id != user_id or activity.source is None or activity.source.format != MANUAL:
            raise ActivityMissing
        return ()

    try:
        position = await services.streams.transact(rules.Activity, activity_id, user_id, look)
    except ActivityMissing:
        return None
    return Verdict(status="ready", activities=(activity_id,), position=position)


def _difference(verdict: Verdict | None) -> Fault | None:
    """That something else than what was sent has the id."""
    fault = None if verdict is None else verdict.fault
    return fault if fault is not None and fault.code == RecordingDiffers.code else None


@router.get("/uploads", responses=answers(401, 422, position=True, ok=UploadStates))
async def get_uploads(request: Request, user_id: CurrentUser, services: ServicesDep, ids: Ids) -> Response:
    """What has become of several uploads, in the order of their ids; ids under which nothing came are left out.

    For a phone that comes back with many runs. Once one is ready, `Cairn-Position` makes a later read see all that are.
    """
    asked = (_told(services, user_id, ActivityId(one), uploads_at_least=True) for one in ids_of(ids))
    found = [told for told in await asyncio.gather(*asked) if told is not None]
    positions = [verdict.position for _, verdict in found if verdict is not None and verdict.position is not None]
    last = max(positions, key=services.read_models.position, default=None)
    states = UploadStates([_state(activity_id, verdict) for activity_id, verdict in found])
    return answer(request, states, await _position(services, last))


async def _told(
    services: Services, user_id: UserId, activity_id: ActivityId, *, uploads_at_least: bool = False
) -> tuple[ActivityId, Verdict | None] | None:
    """What has become of what came under this id; None when nothing did. Whether it was entered by hand, Postgres
    knows: `StoreUnavailable`, or, with `uploads_at_least`, what is known without it.
    """
    manifest = await services.inbox.manifest(activity_id)
    if manifest is not None and manifest.user_id == user_id:
        return activity_id, await services.inbox.verdict(activity_id)
    try:
        verdict = await _entered(services, user_id, activity_id)
    except StoreUnavailable:
        if not uploads_at_least:
            raise
        return None
    return None if verdict is None else (activity_id, verdict)


def _state(activity_id: ActivityId, verdict: Verdict | None) -> UploadState:
    status_url = f"/v1/activities/{activity_id}/upload"
    if verdict is None:
        return UploadState(activity_id=activity_id, status="processing", status_url=status_url)
    fault = verdict.fault
    return UploadState(
        activity_id=activity_id,
        status=verdict.status,
        status_url=status_url,
        activities=verdict.activities,
        duplicate_of=verdict.duplicate_of,
        matched=verdict.matched,
        problem=None if fault is None else problem(fault.code, fault.detail),
    )


async def _final(services: Services, user_id: UserId, verdict: Verdict, deadline: float) -> Response | None:
    """The activity, if there is just one to show; the problem, if there is none. None: neither, or not in time."""
    if verdict.fault is not None:
        return answer_problem(problem(verdict.fault.code, verdict.fault.detail))
    if verdict.status != "ready" or len(verdict.activities) != 1:
        return None
    left = deadline - time.monotonic()
    with suppress(ActivityMissing, StoreUnavailable, StreamUnreadable, TimeoutError):  # the bytes are safe all the same
        async with asyncio.timeout(left):
            return await _shown(services, user_id, verdict.activities[0], left)
    return None


async def _shown(services: Services, user_id: UserId, activity_id: ActivityId, seconds: float) -> Response | None:
    """The activity as it is now; None while the read models are behind that. `ActivityMissing`: deleted since."""
    position = await services.streams.transact(rules.Activity, activity_id, user_id, _left_alone)
    reader = services.read_models.reader(user_id)
    if not await reader.reach(position, ("activities", "people"), seconds):
        return None
    seen = await read_activity(services, reader, user_id, activity_id)
    return created(seen, {"Location": f"/v1/activities/{seen.activity_id}", "Cairn-Position": position})


def _left_alone(activity: rules.Activity) -> Sequence[Event]:
    """Decides nothing, so that what is told is the position of now, with all edits before it."""
    if activity.deleted:
        raise ActivityMissing
    return ()


async def _position(services: Services, known: str | None) -> dict[str, str]:
    """The position of now in the place of an upload's own: a client that goes on with it sees what it wrote since, too.
    While Postgres does not tell it, the upload's own; none before there is one.
    """
    if known is None:
        return {}
    with suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(_NOW_SECONDS):
            known = await services.streams.position()
    return {"Cairn-Position": known}


async def _wait(services: Services, activity_id: ActivityId, seconds: float) -> Verdict | None:
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        await asyncio.sleep(min(pause, left))
        if (verdict := await services.inbox.verdict(activity_id)) is not None:
            return verdict
        pause = min(1.5 * pause, _LONGEST_PAUSE_SECONDS)
    return None


def _preferred_wait(prefer: str) -> float:
    """Seconds of `Prefer: wait=N` (RFC 7240, 4.3), 0 without it. Names of preferences have no case."""
    found = (one[1] for one in _WAIT.finditer(prefer))
    return min(float(next(filter(None, found), 0)), _MAX_WAIT_SECONDS)
