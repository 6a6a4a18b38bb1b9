"""Activities as their owner and others see them; editing and deleting."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from api.codec import Notes, Title, answer, body_of, no_content
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.front.request import Request
from api.openapi import answers, json_body
from api.pages import Cursor, Ids, Limit, ids_of, place_of
from api.services import Reader, Services
from domain import activity as rules
from domain.activity import ActivityMissing
from domain.chunks import Upload
from domain.events.activity import Source
from domain.events.measured import BestEffort, DeviceTotals
from domain.measures import ON_FOOT, RESERVED_VERSION, ActivityId, Sport, UserId, Visibility
from domain.streams import Decision
from domain.uploads import RecordingProcessing
from domain.user import UserMissing
from projections.activities import Card, WholeCard, cards, cards_of, whole_card
from projections.people import followed_among, follows, people
from projections.projection import View

router = APIRouter(tags=["activities"])


class ActivityCard(Struct, frozen=True, kw_only=True):
    """An activity in a list."""

    activity_id: ActivityId
    user_id: UserId
    display_name: str
    title: str
    sport: Sport
    visibility: Visibility
    started_at: datetime
    utc_offset_s: int
    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float
    avg_speed_mps: float | None
    avg_heart_rate_bpm: float | None
    polyline: str | None
    kudos_count: int = 0  # reactions and comments are not kept yet: there are none
    comment_count: int = 0


class Split(Struct, frozen=True, omit_defaults=True):
    """One kilometre or mile; the last one is what is left, with less than a metre in the one before."""

    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float = 0.0
    avg_heart_rate_bpm: float | None = None


class Lap(Struct, frozen=True):
    """A lap as the device marked it."""

    started_at: datetime | None
    elapsed_s: float | None
    distance_m: float | None


class Activity(ActivityCard, frozen=True, kw_only=True):
    """An activity whole."""

    notes: str  # free text, "" for none
    distance_source: str  # recorded, positions or device
    max_speed_mps: float | None
    max_heart_rate_bpm: float | None
    avg_cadence_spm: float | None
    calories_kcal: float | None
    points: int
    bbox: tuple[float, float, float, float] | None  # south, west, north, east
    splits: Sequence[Split]  # kilometres
    splits_mi: Sequence[Split]  # miles
    laps: Sequence[Lap]
    best_efforts: Sequence[BestEffort]  # of what is a run, walk or hike by its sport of today
    device: DeviceTotals
    source: Source
    warnings: Sequence[str]


class ActivityPatch(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change; what is left out stays."""

    title: Title | UnsetType = UNSET
    notes: Notes | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    sport: Sport | UnsetType = UNSET


class ActivityPage(Struct, frozen=True):
    """A page of activities, the latest start first."""

    items: list[ActivityCard]
    next_cursor: str | None


class ActivityBatch(Struct, frozen=True):
    """Activities that were asked for by their ids."""

    items: list[ActivityCard]


@router.get("/activities", responses=answers(401, 422, ok=ActivityBatch))
async def get_activities(
    request: Request, user_id: CurrentUser, fresh: Annotated[Reads, Depends(reads("activities", "people"))], ids: Ids
) -> Response:
    """Several activities as lists show them, in the order of their ids. Missing and hidden ones are left out alike."""
    wanted = [ActivityId(one) for one in ids_of(ids)]
    async with fresh.view() as view:
        found = await cards(view, wanted)
        authors = list({card.user_id for card in found.values()})
        known, followed = await people(view, authors), await followed_among(view, user_id, authors)
    items = [
        card_seen(card, known[card.user_id].display_name)
        for card in (found[one] for one in wanted if one in found)
        if card.user_id in known and _seen_by(user_id, card, followed=card.user_id in followed)
    ]
    # of what is not there nobody could tell whose it will be; and what is hidden is not to be told from it by its speed
    keep = fresh.keep(user_id, *authors) if len(items) == len(wanted) else None
    return answer(request, ActivityBatch(items), fresh.headers, keep)


@router.get("/activities/{activity_id}", responses=answers(401, 404, ok=Activity))
async def get_activity(
    request: Request,
    activity_id: UUID,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("activities", "people"))],
) -> Response:
    """One activity. Missing, deleted and hidden ones get the same 404."""
    read = await read_activity(services, fresh.reader, user_id, ActivityId(activity_id))
    return answer(request, read, fresh.headers, fresh.keep(user_id, read.user_id))


async def read_activity(services: Services, reader: Reader, user_id: UserId, activity_id: ActivityId) -> Activity:
    """The activity as this user may see it; `ActivityMissing`."""
    async with reader.view() as view:
        card = await visible_card(view, user_id, activity_id)
        person = (await people(view, [card.user_id])).get(card.user_id)
    details = await services.tracks.details(card.user_id, activity_id)
    measured = card.measured
    return Activity(
        **asdict(card_seen(card, person.display_name if person else "")),
        notes=card.notes,
        distance_source=measured.distance_source,
        max_speed_mps=measured.max_speed_mps,
        max_heart_rate_bpm=measured.max_heart_rate_bpm,
        avg_cadence_spm=measured.avg_cadence_spm,
        calories_kcal=measured.calories_kcal,
        points=measured.points,
        bbox=measured.bbox,
        splits=_listed(details, "splits_km"),
        splits_mi=_listed(details, "splits_mi"),
        laps=_listed(details, "laps"),
        best_efforts=measured.best_efforts if card.sport in ON_FOOT else (),
        device=measured.device,
        source=card.source,
        warnings=measured.warnings,
    )


def _listed(details: Mapping[str, object], name: str) -> Sequence[Any]:
    """As analysis wrote it, which is as `Split` and `Lap` tell it."""
    found = details.get(name, ())
    return found if isinstance(found, list) else ()


async def visible_card(view: View, user_id: UserId, activity_id: ActivityId) -> WholeCard:
    """The card, if this user may see the activity; `ActivityMissing`."""
    card = await whole_card(view, activity_id)
    if card is None or not await _may_see(view, user_id, card):
        raise ActivityMissing
    return card


async def _may_see(view: View, user_id: UserId, card: Card) -> bool:
    if _seen_by(user_id, card, followed=False):
        return True
    return card.visibility is Visibility.FOLLOWERS and await follows(view, user_id, card.user_id)


def _seen_by(user_id: UserId, card: Card, *, followed: bool) -> bool:
    if card.user_id == user_id or card.visibility is Visibility.PUBLIC:
        return True
    return card.visibility is Visibility.FOLLOWERS and followed


def card_seen(card: Card, display_name: str) -> ActivityCard:
    """The card with its runner's name."""
    return ActivityCard(
        activity_id=card.activity_id,
        user_id=card.user_id,
        display_name=display_name,
        title=card.title,
        sport=card.sport,
        visibility=card.visibility,
        started_at=card.started_at,
        utc_offset_s=card.utc_offset_s,
        distance_m=card.distance_m,
        elapsed_s=card.elapsed_s,
        moving_s=card.moving_s,
        elevation_gain_m=card.elevation_gain_m,
        avg_speed_mps=card.measured.avg_speed_mps,
        avg_heart_rate_bpm=card.measured.avg_heart_rate_bpm,
        polyline=card.measured.polyline,
    )


@router.patch(
    "/activities/{activity_id}",
    status_code=204,
    openapi_extra=json_body(ActivityPatch),
    responses=answers(401, 404, 409, 422, no_content=None),
)
async def edit_activity(
    activity_id: UUID,
    user_id: CurrentUser,
    patch: Annotated[ActivityPatch, Depends(body_of(ActivityPatch))],
    services: ServicesDep,
) -> Response:
    """Change an own activity's title, notes, visibility or sport. Empty notes are none.

    409 `recording-processing` while its recording is still being read: the same again is taken a moment later.
    """
    _require_possible(activity_id)
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    now = services.clock()
    return no_content(await _changed(services, user_id, activity_id, lambda it: it.edit(user_id, now, **changes)))


@router.delete("/activities/{activity_id}", status_code=204, responses=answers(401, 404, 409, no_content=None))
async def delete_activity(activity_id: UUID, user_id: CurrentUser, services: ServicesDep) -> Response:
    """Remove an own activity from everything. Removing twice changes nothing.

    409 `recording-processing` while its recording is still being read: the same again is taken a moment later. What was
    sent in chunks and never finished is thrown away.
    """
    _require_possible(activity_id)
    now, upload = services.clock(), Upload(user_id, ActivityId(activity_id))
    try:
        return no_content(await _changed(services, user_id, activity_id, lambda it: it.delete(user_id, now)))
    except ActivityMissing:
        if not await services.chunks.held(upload) or await services.inbox.manifest(upload.activity_id) is not None:
            raise
        await services.chunks.discard(upload)
        if await services.inbox.manifest(upload.activity_id) is not None:  # finished meanwhile
            raise RecordingProcessing from None
        return Response(status_code=204)


async def _changed(services: Services, user_id: UserId, activity_id: UUID, decide: Decision[rules.Activity]) -> str:
    """The position of what was decided; `RecordingProcessing` while there is no activity yet."""
    transact = partial(services.streams.transact, rules.Activity, activity_id, user_id, decide)
    try:
        return await transact()
    except ActivityMissing:
        manifest = await services.inbox.manifest(ActivityId(activity_id))
        if manifest is None or manifest.user_id != user_id:
            raise
        verdict = await services.inbox.verdict(manifest.activity_id)
        if verdict is None:
            raise RecordingProcessing from None
        if activity_id not in verdict.activities:
            raise
        return await transact()  # it was recorded meanwhile


def _require_possible(activity_id: UUID) -> None:
    """Ids that the server derives belong to streams of other kinds: there is no such activity."""
    if activity_id.version == RESERVED_VERSION:
        raise ActivityMissing


@router.get("/users/{runner_id}/activities", responses=answers(400, 401, 404, ok=ActivityPage))
async def get_user_activities(
    request: Request,
    runner_id: UUID,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("activities", "people"))],
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """A runner's activities, as far as this user may see them."""
    owner = UserId(runner_id)
    before = place_of(cursor, services, user_id, "activities", runner_id)
    async with fresh.view() as view:
        person = (await people(view, [owner])).get(owner)
        if person is None:
            raise UserMissing
        found = await cards_of(view, owner, await _seen_as(view, user_id, owner), before, limit)
    page = activities_seen(services, user_id, found, owner, person.display_name, limit)
    return answer(request, page, fresh.headers, fresh.keep(user_id, owner))


def activities_seen(
    services: Services, user_id: UserId, found: Sequence[Card], runner_id: UserId, display_name: str, limit: int
) -> ActivityPage:
    """A page of so many of a runner's activities, as this user sees it."""
    last = found[-1] if len(found) == limit else None
    scope = (user_id, "activities", runner_id)
    more = services.cursors.write((last.started_at, last.activity_id), *scope) if last else None
    return ActivityPage([card_seen(card, display_name) for card in found], more)


async def _seen_as(view: View, user_id: UserId, owner: UserId) -> list[Visibility]:
    if user_id == owner:
        return list(Visibility)
    followed = await follows(view, user_id, owner)
    return [Visibility.PUBLIC, Visibility.FOLLOWERS] if followed else [Visibility.PUBLIC]
