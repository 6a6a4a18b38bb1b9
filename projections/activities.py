"""Activity cards: what lists and the activity screen show, a row for each activity."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import ClassVar, LiteralString

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.sql import Composed

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded, Measured, Source
from domain.events.event import Event, Recorded
from domain.measures import ActivityId, Sport, UserId, Visibility
from projections.projection import Place, statement
from projections.rows import Folded, Key, Table


class Card(Struct, frozen=True, kw_only=True):
    """An activity as lists show it."""

    activity_id: ActivityId
    user_id: UserId
    title: str
    visibility: Visibility
    sport: Sport
    started_at: datetime
    utc_offset_s: int
    local_date: date
    distance_m: float
    elapsed_s: float
    moving_s: float
    elevation_gain_m: float
    measured: Measured
    source: Source


class Activities(Folded[Card]):
    """Cards by activity id. A deleted activity has none."""

    name: ClassVar[str] = "activities"
    version: ClassVar[int] = 1
    table = Table(
        name="cards",
        row=Card,
        key=("activity_id",),
        types={
            "activity_id": "uuid",
            "user_id": "uuid",
            "title": "text",
            "visibility": "text",
            "sport": "text",
            "started_at": "timestamptz",
            "utc_offset_s": "integer",
            "local_date": "date",
            "distance_m": "double precision",
            "elapsed_s": "double precision",
            "moving_s": "double precision",
            "elevation_gain_m": "double precision",
            "measured": "jsonb",
            "source": "jsonb",
        },
        indexes=("CREATE INDEX IF NOT EXISTS cards_of_user ON {s}.cards (user_id, started_at, activity_id)",),
    )

    def keys(self, event: Event) -> Iterable[Key]:
        """The activity's own card."""
        match event:
            case ActivityRecorded() | ActivityEdited() | ActivityDeleted():
                yield (event.activity_id,)

    def fold(self, key: Key, row: Card | None, recorded: Recorded) -> Card | None:  # noqa: ARG002 - the key is in the event
        """Live pages and replays both come through here."""
        match recorded.event:
            case ActivityRecorded() as event:
                return _card(event)
            case ActivityEdited() as event if row is not None:
                return replace(row, title=event.title, visibility=event.visibility, sport=event.sport)
            case ActivityDeleted():
                return None
            case _:
                return row


def _card(event: ActivityRecorded) -> Card:
    return Card(
        activity_id=event.activity_id,
        user_id=event.user_id,
        title=event.title,
        visibility=event.visibility,
        sport=event.tally.sport,
        started_at=event.started_at,
        utc_offset_s=event.utc_offset_s,
        local_date=event.tally.local_date,
        distance_m=event.tally.distance_m,
        elapsed_s=event.tally.elapsed_s,
        moving_s=event.tally.moving_s,
        elevation_gain_m=event.tally.elevation_gain_m,
        measured=event.measured,
        source=event.source,
    )


async def cards(connection: AsyncConnection, activity_ids: Sequence[ActivityId]) -> dict[ActivityId, Card]:
    """The cards of these activities, in one query. Who may see them is the caller's question."""
    return {card.activity_id: card for card in await _query(connection, _BY_ID, (list(activity_ids),))}


async def cards_of(
    connection: AsyncConnection,
    user_id: UserId,
    seen_as: Sequence[Visibility],
    before: Place,
    limit: int,
) -> list[Card]:
    """A runner's activities of these visibilities, the latest start first, from before a place in that order."""
    return await _query(connection, _OF_USER, (user_id, [*map(str, seen_as)], *before, limit))


async def _query(connection: AsyncConnection, query: Composed, parameters: Sequence[object]) -> list[Card]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, parameters)
        return [msgspec.convert(row, Card, strict=False) async for row in cursor]


_COLUMNS: LiteralString = """
    SELECT activity_id, user_id, title, visibility, sport, started_at, utc_offset_s, local_date,
           distance_m, elapsed_s, moving_s, elevation_gain_m, measured, source
    FROM {s}.cards
"""
_BY_ID = statement(Activities, _COLUMNS + "WHERE activity_id = ANY(%s)")
_OF_USER = statement(
    Activities,
    _COLUMNS
    + """
    WHERE user_id = %s AND visibility = ANY(%s) AND (started_at, activity_id) < (%s, %s)
    ORDER BY started_at DESC, activity_id DESC LIMIT %s
    """,
)
