"""Sums of what a runner did: a row for each day and sport, from which every longer period is added up when read.

A row for each week, month and year too would make one run rewrite ten rows; ten years of daily runs are
3,650 rows, added up in a millisecond or two.
"""

from collections.abc import Iterable
from datetime import date
from typing import ClassVar

import msgspec
from msgspec import Struct
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded, Tally
from domain.events.event import Event, Recorded
from domain.measures import Sport, UserId
from projections.projection import statement
from projections.rows import Folded, Key, Table


class Day(Struct, frozen=True, kw_only=True):
    """What a runner did of one sport on one local date."""

    user_id: UserId
    local_date: date
    sport: Sport
    count: int = 0
    distance_m: float = 0.0
    elapsed_s: float = 0.0
    moving_s: float = 0.0
    elevation_gain_m: float = 0.0

    def plus(self, tally: Tally, count: int) -> "Day | None":
        """With one activity more (count 1) or less (count -1). No row is left of a day without activities."""
        if self.count + count <= 0:
            return None
        return Day(
            user_id=self.user_id,
            local_date=self.local_date,
            sport=self.sport,
            count=self.count + count,
            # to the millimetre and millisecond: the order of additions and what deletions leave must not show
            distance_m=round(self.distance_m + count * tally.distance_m, 3),
            elapsed_s=round(self.elapsed_s + count * tally.elapsed_s, 3),
            moving_s=round(self.moving_s + count * tally.moving_s, 3),
            elevation_gain_m=round(self.elevation_gain_m + count * tally.elevation_gain_m, 3),
        )


class Summaries(Folded[Day]):
    """Sums by runner, local date and sport."""

    name: ClassVar[str] = "summaries"
    version: ClassVar[int] = 1
    table = Table(
        name="days",
        row=Day,
        key=("user_id", "local_date", "sport"),
        types={
            "user_id": "uuid",
            "local_date": "date",
            "sport": "text",
            "count": "integer",
            "distance_m": "double precision",
            "elapsed_s": "double precision",
            "moving_s": "double precision",
            "elevation_gain_m": "double precision",
        },
    )

    def keys(self, event: Event) -> Iterable[Key]:
        """The activity's day and sport; both sports when it changes from one to another."""
        match event:
            case ActivityRecorded(user_id=user_id, tally=tally) | ActivityDeleted(user_id=user_id, tally=tally):
                yield user_id, tally.local_date, tally.sport
            case ActivityEdited(user_id=user_id, tally=tally, sport=sport) if sport is not tally.sport:
                yield user_id, tally.local_date, tally.sport
                yield user_id, tally.local_date, sport

    def fold(self, key: Key, row: Day | None, recorded: Recorded) -> Day | None:
        """Live pages and replays both come through here."""
        user_id, local_date, sport = key
        day = row or Day(user_id=user_id, local_date=local_date, sport=sport)
        match recorded.event:
            case ActivityRecorded(tally=tally):
                return day.plus(tally, 1)
            case ActivityDeleted(tally=tally):
                return day.plus(tally, -1)
            case ActivityEdited(tally=tally, sport=now):
                return day.plus(tally, 1 if sport is now else -1)
            case _:
                return row


async def days(connection: AsyncConnection, user_id: UserId, first: date, last: date) -> list[Day]:
    """A runner's days from first to last, both included, in order; at most one for each date and sport."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_DAYS, (user_id, first, last))
        return [msgspec.convert(row, Day, strict=False) async for row in cursor]


_DAYS = statement(
    Summaries,
    """
    SELECT user_id, local_date, sport, count, distance_m, elapsed_s, moving_s, elevation_gain_m
    FROM {s}.days WHERE user_id = %s AND local_date BETWEEN %s AND %s ORDER BY local_date, sport
    """,
)
