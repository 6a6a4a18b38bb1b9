"""Activity cards: what lists and the activity screen show, a row for each activity."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, Final, LiteralString, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import asdict, replace

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded, Source
from domain.events.event import Recorded
from domain.events.measured import Measured
from domain.events.packing import unpack, unpack_json
from domain.measures import ActivityId, Sport, UserId, Visibility
from projections.projection import Fold, Key, Place, Projection, Query, Table, View


class _Shown(Struct, frozen=True, kw_only=True, gc=False):
    """What a card has, stored or read."""

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


class CardRow(_Shown, frozen=True, kw_only=True, gc=False):
    """A card as it is stored."""

    notes: str
    measured: bytes  # packed, as the event has it
    source: Source


class JsonCardRow(_Shown, frozen=True, kw_only=True, gc=False):
    """A card as version 2 stores it."""

    measured: Raw
    source: Source
    notes: str = ""


_Row = CardRow | JsonCardRow


class Cards(Fold[_Row]):
    """Cards by activity id. A deleted activity has none."""

    table = Table(
        name="cards",
        row=CardRow,
        key=("activity_id",),
        owner="user_id",
        indexes=("(user_id, started_at, activity_id)",),
    )
    events = (ActivityRecorded, ActivityEdited, ActivityDeleted)

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The activity's own card."""
        match recorded.event:
            case ActivityRecorded() | ActivityEdited() | ActivityDeleted() as event:
                return ((event.activity_id,),)
        return ()

    def fold(self, key: Key, row: _Row | None, recorded: Recorded) -> _Row | None:  # noqa: ARG002 - the event has it
        """The activity as it was recorded, with what was edited since."""
        match recorded.event:
            case ActivityRecorded() as event:
                return _card(event)
            case ActivityEdited(title=title, notes=notes, visibility=visibility, sport=sport) if row is not None:
                return replace(row, title=title, notes=notes, visibility=visibility, sport=sport)
            case ActivityDeleted():
                return None
        return row


class JsonCards(Cards):
    """Cards as version 2 has them."""

    table = replace(Cards.table, row=JsonCardRow)

    def fold(self, key: Key, row: _Row | None, recorded: Recorded) -> _Row | None:
        """The same, with what was measured as JSON."""
        card = super().fold(key, row, recorded)
        if not isinstance(card, CardRow):
            return card
        return JsonCardRow(**{**asdict(card), "measured": Raw(unpack_json(card.measured))})


def _card(event: ActivityRecorded) -> CardRow:
    return CardRow(
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
        notes="",
        measured=event.measured,
        source=event.source,
    )


ACTIVITIES_2: Final = Projection(name="activities", version=2, folds=(JsonCards(),))
ACTIVITIES: Final = Projection(name="activities", version=3, folds=(Cards(),), differs=frozenset({"measured"}))


class Card(_Shown, frozen=True, kw_only=True, gc=False):
    """An activity as lists show it."""

    measured: Measured
    source: Source


class WholeCard(Card, frozen=True, kw_only=True, gc=False):
    """An activity as its own screen shows it."""

    notes: str


C = TypeVar("C", bound=Card)


async def whole_card(view: View, activity_id: ActivityId) -> WholeCard | None:
    """The card of one activity. Who may see it is the caller's question."""
    found = await view.rows(_WHOLE, (activity_id,))
    return _read(found[0], WholeCard) if found else None


async def cards(view: View, activity_ids: Sequence[ActivityId]) -> dict[ActivityId, Card]:
    """The cards of these activities, in one query. Who may see them is the caller's question."""
    found = await view.rows(_BY_ID, (list(activity_ids),))
    return {card.activity_id: card for card in (_read(row, Card) for row in found)}


async def cards_of(
    view: View,
    user_id: UserId,
    seen_as: Sequence[Visibility],
    before: Place,
    limit: int,
) -> list[Card]:
    """A runner's activities of these visibilities, the latest start first, from before a place in that order."""
    found = await view.rows(_OF_USER, (user_id, [*map(str, seen_as)], *before, limit))
    return [_read(row, Card) for row in found]


def _read(row: dict[str, Any], kind: type[C]) -> C:
    packed = row["measured"]
    if isinstance(packed, bytes):  # not in version 2
        row["measured"] = unpack(packed)
    return msgspec.convert(row, kind, strict=False)


_SHOWN: LiteralString = """
    SELECT activity_id, user_id, title, visibility, sport, started_at, utc_offset_s, local_date,
           distance_m, elapsed_s, moving_s, elevation_gain_m, measured, source
"""
_COLUMNS: LiteralString = _SHOWN + " FROM {s}.cards "
_WHOLE: Final = Query("activities", _SHOWN + ", notes FROM {s}.cards WHERE activity_id = %s")
_BY_ID: Final = Query("activities", _COLUMNS + "WHERE activity_id = ANY(%s)")
_OF_USER: Final = Query(
    "activities",
    _COLUMNS
    + """
    WHERE user_id = %s AND visibility = ANY(%s) AND (started_at, activity_id) < (%s, %s)
    ORDER BY started_at DESC, activity_id DESC LIMIT %s
    """,
)
