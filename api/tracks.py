"""The recorded points of an activity, by column."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from msgspec import Struct

from api.activities import visible_card
from api.codec import answer
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.front.request import Request
from api.openapi import answers
from api.ranges import Columns, cut
from api.services import Services
from domain.activity import ActivityMissing
from domain.errors import DomainError
from domain.measures import ActivityId
from domain.recordings.reading import TrackDamaged
from domain.recordings.recording import Column
from projections.activities import Card

router = APIRouter(tags=["activities"])

_COLUMNS: Final = "^ *({0}) *(, *({0}) *)*$".format("|".join(Column))


class Track(Struct, frozen=True):
    """Columns of one length, in SI units; null where a point lacks the value."""

    activity_id: UUID
    points: int
    columns: Mapping[str, list[float | None]]


class EmptyRange(DomainError):
    """A range of a track ends after it begins: `from` must be less than `to`."""

    code = "range-empty"


@router.get("/activities/{activity_id}/track", responses=answers(401, 404, 422, ok=Track))
async def get_track(
    request: Request,
    activity_id: UUID,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads("activities", "people"))],
    columns: Annotated[str | None, Query(max_length=200, pattern=_COLUMNS)] = None,
    max_points: Annotated[int | None, Query(ge=2, le=1_000_000)] = None,
    from_s: Annotated[float | None, Query(alias="from", ge=0, allow_inf_nan=False)] = None,
    to_s: Annotated[float | None, Query(alias="to", ge=0, allow_inf_nan=False)] = None,
) -> Response:
    """The recorded points, by column. `columns=t,lat,lon` for some of them; `from` and `to` (seconds since the
    start) for those from one time on and before another, which leaves out points without a time; `max_points` thins
    out evenly what is left, the first and the last kept.
    """
    wanted = _columns(columns)
    if from_s is not None and to_s is not None and from_s >= to_s:
        raise EmptyRange
    async with fresh.view() as view:
        card = await visible_card(view, user_id, ActivityId(activity_id))
    found: Columns | None
    if from_s is None and to_s is None:
        found = await track_of(services, card, wanted, max_points)
    else:
        found = await _ranged(services, card, wanted, (from_s or 0.0, to_s), max_points)
    if found is None:
        raise ActivityMissing
    read = Track(activity_id, max(map(len, found.values()), default=0), found)
    return answer(request, read, fresh.headers, fresh.keep(user_id, card.user_id))


async def track_of(
    services: Services, card: Card, wanted: Collection[Column] | None, max_points: int | None
) -> Columns | None:
    """See `Tracks.columns`; None where there never was a track, `TrackDamaged` also where it is gone."""
    found = await services.tracks.columns(card.user_id, card.activity_id, wanted, max_points)
    if found is None and card.measured.points:
        raise TrackDamaged
    return found


async def _ranged(
    services: Services,
    card: Card,
    wanted: list[Column] | None,
    range_s: tuple[float, float | None],
    max_points: int | None,
) -> Columns | None:
    read = None if wanted is None else {*wanted, Column.T}
    whole = await track_of(services, card, read, None)
    if whole is None:
        return None
    part = await asyncio.to_thread(cut, whole, *range_s, max_points)
    return {name: values for name, values in part.items() if wanted is None or name in wanted}


def _columns(names: str | None) -> list[Column] | None:
    return None if names is None else [Column(name.strip()) for name in names.split(",")]
