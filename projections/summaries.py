"""Sums of what a runner did: a row for each day and sport, from which every longer period is added up when read.

A row for each week, month and year too would make one run rewrite ten rows; ten years of daily runs are
3,650 rows, added up in a millisecond or two.
"""

from collections.abc import Iterable
from datetime import date
from math import floor
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded, Tally
from domain.events.event import Recorded
from domain.measures import Sport, UserId
from projections.projection import Fold, Key, Projection, Query, Table, View


class Day(Struct, frozen=True, kw_only=True, gc=False):
    """What a runner did of one sport on one local date."""

    user_id: UserId
    local_date: date
    sport: Sport
    count: int = 0
    distance_m: float = 0.0
    elapsed_s: float = 0.0
    moving_s: float = 0.0
    elevation_gain_m: float = 0.0


_NOTHING: Final = Day(user_id=UserId(UUID(int=0)), local_date=date.min, sport=Sport.OTHER)  # before the first activity


class Days(Fold[Day]):
    """Sums by runner, local date and sport."""

    table = Table(name="days", row=Day, key=("user_id", "local_date", "sport"), owner="user_id")
    events = (ActivityRecorded, ActivityEdited, ActivityDeleted)
    adds = True
    reads_private = False

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The activity's day and sport; both sports when it changes from one to another."""
        match recorded.event:
            case ActivityRecorded(tally=tally) | ActivityDeleted(tally=tally):
                return ((recorded.owner_id, tally.local_date, tally.sport),)
            case ActivityEdited(tally=tally, sport=sport) if sport is not tally.sport:
                user_id, local_date = recorded.owner_id, tally.local_date
                return (user_id, local_date, tally.sport), (user_id, local_date, sport)
        return ()

    def fold(self, key: Key, row: Day | None, recorded: Recorded) -> Day | None:
        """Add what is done, take away what is not any more."""
        match recorded.event:
            case ActivityRecorded(tally=tally):
                return _with(key, row, tally, 1)
            case ActivityDeleted(tally=tally):
                return _with(key, row, tally, -1)
            case ActivityEdited(tally=tally, sport=now):
                return _with(key, row, tally, 1 if key[2] is now else -1)
        return row


def _with(key: Key, row: Day | None, tally: Tally, count: int) -> Day | None:
    """With one activity more (count 1) or less (count -1). No row is left of a day without activities."""
    if row is None:
        row = _NOTHING
    if row.count + count <= 0:
        return None
    return Day(
        user_id=key[0],
        local_date=key[1],
        sport=key[2],
        count=row.count + count,
        # to the millimetre and millisecond: the order of additions and what deletions leave must not show
        # (`round` goes by way of a decimal text, which takes four times as long)
        distance_m=floor((row.distance_m + count * tally.distance_m) * 1_000.0 + 0.5) / 1_000.0,
        elapsed_s=floor((row.elapsed_s + count * tally.elapsed_s) * 1_000.0 + 0.5) / 1_000.0,
        moving_s=floor((row.moving_s + count * tally.moving_s) * 1_000.0 + 0.5) / 1_000.0,
        elevation_gain_m=floor((row.elevation_gain_m + count * tally.elevation_gain_m) * 1_000.0 + 0.5) / 1_000.0,
    )


SUMMARIES: Final = Projection(name="summaries", version=1, folds=(Days(),))


async def days(view: View, user_id: UserId, first: date, last: date) -> list[Day]:
    """A runner's days from first to last, both included, in order; at most one for each date and sport."""
    return [msgspec.convert(row, Day, strict=False) for row in await view.rows(_DAYS, (user_id, first, last))]


async def span(view: View, user_id: UserId) -> tuple[date, date] | None:
    """The first and the last day on which a runner did anything."""
    [found] = await view.rows(_SPAN, (user_id,))
    return None if found["first"] is None else (found["first"], found["last"])


_SPAN: Final = Query(
    "summaries", "SELECT min(local_date) AS first, max(local_date) AS last FROM {s}.days WHERE user_id = %s"
)

_DAYS: Final = Query(
    "summaries",
    """
    SELECT user_id, local_date, sport, count, distance_m, elapsed_s, moving_s, elevation_gain_m
    FROM {s}.days WHERE user_id = %s AND local_date BETWEEN %s AND %s ORDER BY local_date, sport
    """,
)
