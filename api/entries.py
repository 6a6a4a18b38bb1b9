"""Runs without a recording, entered by hand: one, or up to a hundred at once, each known by its id or its figures."""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID, uuid5

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Meta, Raw, Struct

from api.codec import Notes, Title, body_of, created, decoded
from api.dependencies import CurrentUser, ServicesDep
from api.idempotency import json_reply
from api.local_time import offset_of
from api.once import Done, Once, once
from api.openapi import answers, json_body
from api.problems import Problem, problem_of
from api.services import Services
from api.uploads import ReservedActivityId
from domain.activity import MANUAL, Activity, RecordingDiffers, usual_title
from domain.errors import DomainError, StoreUnavailable
from domain.events.activity import ActivityRecorded, Source, Tally
from domain.events.event import Event
from domain.events.measured import Measured
from domain.events.packing import pack
from domain.measures import RESERVED_VERSION, ActivityId, Sport, UserId, Visibility
from domain.recordings.cleaning import max_possible_speed
from domain.user import Profile, User, user_stream_id

router = APIRouter(tags=["activities"])

MAX_ENTRIES: Final = 100
_MAX_BATCH_BYTES: Final = 1024 * 1024  # a hundred entries with notes as long as they may be
_EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
_AHEAD: Final = timedelta(days=1)  # of our clock: more than any zone's difference
_LEAST_OFFSET_S: Final = -12 * 3600  # of any zone
_MOST_OFFSET_S: Final = 14 * 3600

_Seconds = Meta(le=14 * 86_400)  # the longest foot races end after some days
_Offset = Meta(ge=_LEAST_OFFSET_S, le=_MOST_OFFSET_S)


class Entry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run as its runner tells of it. `moving_s` is `elapsed_s` unless it is given."""

    sport: Sport
    started_at: Annotated[datetime, Meta(tz=True)]
    utc_offset_s: Annotated[int, _Offset] | None = None  # None: that of `started_at`
    distance_m: Annotated[float, Meta(ge=0, le=10_000_000)]
    elapsed_s: Annotated[float, Meta(ge=1), _Seconds]
    moving_s: Annotated[float, Meta(ge=0), _Seconds] | None = None
    elevation_gain_m: Annotated[float, Meta(ge=0, le=100_000)] = 0.0
    title: Title | None = None
    notes: Notes = ""
    visibility: Visibility | None = None  # None: the runner's default
    activity_id: UUID | None = None  # chosen by the app, once for each run


class BatchedEntry(Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of several entries."""

    activity_id: UUID


class Entries(Struct, frozen=True, forbid_unknown_fields=True):
    """Entries, each of which stands for itself."""

    items: Annotated[list[BatchedEntry], Meta(min_length=1, max_length=MAX_ENTRIES)]


class _Items(Struct, frozen=True, forbid_unknown_fields=True):
    """As they are sent: one that does not fit harms no other."""

    items: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_ENTRIES)]


class Entered(Struct, frozen=True):
    """Where the run is now."""

    activity_id: UUID


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one of several entries. `exists`: it was there, entered with the same figures."""

    activity_id: UUID | None = None  # null: the entry names none
    status: Literal["created", "exists", "refused"]
    problem: Problem | None = None


class Verdicts(Struct, frozen=True):
    """One for each entry, in the order in which they came."""

    items: list[Verdict]


@router.post(
    "/activities",
    status_code=201,
    openapi_extra=json_body(Entry),
    responses=answers(400, 401, 404, 409, 413, 415, 422, 503, created=Entered),
)
async def create_activity(
    user_id: CurrentUser,
    entry: Annotated[Entry, Depends(body_of(Entry))],
    services: ServicesDep,
    once: Annotated[Once, Depends(once("POST /v1/activities"))],
) -> Response:
    """Enter a run that was not recorded. It counts as any other; `source.format` is `manual`, and there is no track.

    Safe to repeat: with an `Idempotency-Key` the answer is the same, byte for byte, for 30 days; with an
    `activity_id` the same figures change nothing, other figures get 409 `recording-differs`. With neither, a run is
    known by its figures.
    """
    _require_possible(entry, services.clock())
    profile = await _profile(services, user_id)
    activity_id = await _id_of(services, user_id, entry, once.key)
    recorded = await _recorded(services, user_id, activity_id, entry, profile)
    reply = json_reply(Entered(activity_id), {"Location": f"/v1/activities/{activity_id}"})
    decide = partial(Activity.enter, recorded=recorded, notes=entry.notes)
    return await once.transact(user_id, entry, Activity, activity_id, decide, reply)


@router.post(
    "/activities/batch",
    openapi_extra=json_body(Entries),
    responses=answers(400, 401, 413, 415, 422, 503, position=True, ok=Verdicts),
)
async def create_activities(
    user_id: CurrentUser,
    sent: Annotated[_Items, Depends(body_of(_Items, _MAX_BATCH_BYTES))],
    services: ServicesDep,
    once: Annotated[Once, Depends(once("POST /v1/activities/batch"))],
) -> Response:
    """Enter up to a hundred runs, each with its `activity_id`. One that is refused harms no other.

    Safe to repeat: what was `created` then `exists`; the same `Idempotency-Key` gets the same answer. An entry whose
    problem has status 503 may be sent again; such an answer is not kept.
    """
    read = [_read(raw) for raw in sent.items]

    async def act() -> Done:
        profile = await _profile(services, user_id)
        outcomes = await _all_entered(services, user_id, profile, read)
        verdicts = [verdict for verdict, _ in outcomes]
        positions = [position for _, position in outcomes if position is not None]
        headers = {"Cairn-Position": services.streams.latest(positions)} if positions else {}
        passing = any(verdict.problem is not None and verdict.problem.status >= _SERVERS for verdict in verdicts)
        return Done(created(Verdicts(verdicts), headers, status=200), kept=not passing)

    content = _Content([item.entry if isinstance(item.entry, BatchedEntry) else _sorted(item.raw) for item in read])
    return await once.repeat(user_id, content, act=act)


class _Read(NamedTuple):
    """One of the items, and what is wrong with it if it is no entry."""

    raw: Raw
    activity_id: UUID | None
    entry: BatchedEntry | DomainError


class _Content(Struct, frozen=True):
    """What a batch asks for, by which it is known again: neither spaces nor the order of fields make a difference."""

    items: list[BatchedEntry | Raw]


class _Named(Struct):
    """What an entry has that does not fit otherwise."""

    activity_id: UUID


_ENTRIES: Final = msgspec.json.Decoder(BatchedEntry)
_NAMES: Final = msgspec.json.Decoder(_Named)
_SERVERS: Final = HTTPStatus.INTERNAL_SERVER_ERROR
_Outcome = tuple[Verdict, str | None]  # and the position of what it speaks of


def _read(raw: Raw) -> _Read:
    try:
        entry = decoded(_ENTRIES, raw)
    except DomainError as refusal:
        with suppress(DomainError):
            return _Read(raw, decoded(_NAMES, raw).activity_id, refusal)
        return _Read(raw, None, refusal)
    return _Read(raw, entry.activity_id, entry)


def _sorted(raw: Raw) -> Raw:
    """JSON in one form."""
    try:
        return Raw(msgspec.json.encode(msgspec.json.decode(raw), order="sorted"))
    except (msgspec.DecodeError, RecursionError):
        return raw


async def _all_entered(
    services: Services, user_id: UserId, profile: Profile, items: Sequence[_Read]
) -> Sequence[_Outcome]:
    """All at once, so that they share a commit; those of one id in their order."""
    turns = {item.activity_id: asyncio.Lock() for item in items}

    async def entered(item: _Read) -> _Outcome:
        async with turns[item.activity_id]:
            try:
                return await _entered(services, user_id, profile, item)
            except StoreUnavailable:
                raise  # that is not about this entry
            except DomainError as refusal:
                return Verdict(activity_id=item.activity_id, status="refused", problem=problem_of(refusal)), None

    outcomes = await asyncio.gather(*map(entered, items), return_exceptions=True)  # none goes on behind the answer
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


async def _entered(services: Services, user_id: UserId, profile: Profile, item: _Read) -> _Outcome:
    entry, new = item.entry, False
    if isinstance(entry, DomainError):
        raise entry
    _require_possible(entry, services.clock())
    recorded = await _recorded(services, user_id, ActivityId(entry.activity_id), entry, profile)

    def decide(activity: Activity) -> Sequence[Event]:
        nonlocal new
        events = activity.enter(recorded, entry.notes)
        new = bool(events)
        return events

    position = await services.streams.transact(Activity, entry.activity_id, user_id, decide)
    return Verdict(activity_id=entry.activity_id, status="created" if new else "exists"), position


async def _profile(services: Services, user_id: UserId) -> Profile:
    return (await services.streams.load(User, user_stream_id(user_id))).profile


class EntryOutOfTime(DomainError):
    """A run that is entered by hand began after 1989, and at most a day from now."""

    code = "entry-out-of-time"


class EntryImpossible(DomainError):
    """The figures of a run that is entered by hand do not fit each other."""

    code = "entry-impossible"


def _require_possible(entry: Entry, now: datetime) -> None:
    if not _EARLIEST <= entry.started_at <= now + _AHEAD:
        raise EntryOutOfTime
    offset = entry.started_at.utcoffset() or timedelta()
    if not _LEAST_OFFSET_S <= offset.total_seconds() <= _MOST_OFFSET_S:
        raise EntryImpossible("started_at: no zone is so far from UTC; from -12:00 to +14:00.")
    moving_s = _moving_s(entry)
    if moving_s > entry.elapsed_s:
        raise EntryImpossible("moving_s: at most elapsed_s.")
    if entry.distance_m > moving_s * max_possible_speed(entry.sport):
        raise EntryImpossible("distance_m: in metres; that is further than anybody comes in this time and sport.")
    if entry.activity_id is not None and entry.activity_id.version == RESERVED_VERSION:
        raise ReservedActivityId


async def _id_of(services: Services, user_id: UserId, entry: Entry, key: str | None) -> ActivityId:
    """The one given; else that of the key, also when the key's reply is no longer kept; else that of the figures."""
    if entry.activity_id is not None:
        return ActivityId(entry.activity_id)
    if key is not None:
        return _id_by_key(user_id, key)
    number, activity_id = 0, _id_by_figures(user_id, entry, 0)
    while (await services.streams.load(Activity, activity_id)).deleted:  # entered anew it is another activity
        number += 1
        activity_id = _id_by_figures(user_id, entry, number)
    return activity_id


def _id_by_key(user_id: UserId, key: str) -> ActivityId:
    return ActivityId(uuid5(user_id, f"entry by key {key}"))


def _id_by_figures(user_id: UserId, entry: Entry, number: int) -> ActivityId:
    return ActivityId(uuid5(user_id, f"entry {number} of {_figures(entry)}"))


async def _recorded(
    services: Services, user_id: UserId, activity_id: ActivityId, entry: Entry, profile: Profile
) -> ActivityRecorded:
    """What is to be appended; `RecordingDiffers` when a recording that is being processed came under this id first."""
    if await services.inbox.manifest(activity_id) is not None:
        there = await services.streams.load(Activity, activity_id)
        if there.user_id is None:
            raise RecordingDiffers
    started_at = entry.started_at.astimezone(UTC)
    told = entry.started_at.utcoffset() if entry.utc_offset_s is None else timedelta(seconds=entry.utc_offset_s)
    offset = offset_of(profile.time_zone, started_at, told or timedelta())
    distance_m, moving_s = round(entry.distance_m, 2), round(_moving_s(entry), 3)
    return ActivityRecorded(
        user_id=user_id,
        activity_id=activity_id,
        title=entry.title or usual_title(entry.sport, started_at + offset),
        visibility=entry.visibility or profile.default_visibility,
        started_at=started_at,
        utc_offset_s=int(offset.total_seconds()),
        tally=Tally(
            sport=entry.sport,
            local_date=(started_at + offset).date(),
            distance_m=distance_m,
            elapsed_s=round(entry.elapsed_s, 3),
            moving_s=moving_s,
            elevation_gain_m=round(entry.elevation_gain_m, 1),
        ),
        measured=pack(
            Measured(distance_source=MANUAL, avg_speed_mps=round(distance_m / moving_s, 3) if moving_s else None)
        ),
        source=Source(format=MANUAL, sha256=_figures(entry)),
        at=services.clock(),
    )


def _moving_s(entry: Entry) -> float:
    return entry.elapsed_s if entry.moving_s is None else entry.moving_s


def _figures(entry: Entry) -> str:
    """What an entry is known again by, in the place of a recording's bytes. Nothing private, for it is not sealed."""
    figures = (entry.distance_m, entry.elapsed_s, _moving_s(entry), entry.elevation_gain_m)
    return hashlib.sha256(msgspec.json.encode((entry.sport, entry.started_at.astimezone(UTC), figures))).hexdigest()
