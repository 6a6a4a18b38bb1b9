"""Activity cards: what lists and the activity screen show, a row for each activity."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, Final, LiteralString, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

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
    """A card as it is stored. What it came from has a column for each part: as JSON, names and digits take most."""

    notes: str
    measured: bytes  # packed, as the event has it
    format: str
    sha256: bytes
    device: str | None
    session: int | None


class SourceCardRow(_Shown, frozen=True, kw_only=True, gc=False):
    """A card as version 3 stores it."""

    notes: str
    measured: bytes
    source: Source


class JsonCardRow(_Shown, frozen=True, kw_only=True, gc=False):
    """A card as version 2 stores it."""

    measured: Raw
    source: Source
    notes: str = ""


_Row = CardRow | SourceCardRow | JsonCardRow


class Cards(Fold[_Row]):
    """Cards by activity id. A deleted activity has none."""

    table = Table(
        name="cards",
        row=CardRow,
        key=("activity_id",),
        owner="user_id",
        indexes=("(user_id, started_at)",),
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
                return self.card(event)
            case ActivityEdited(title=title, notes=notes, visibility=visibility, sport=sport) if row is not None:
                return replace(row, title=title, notes=notes, visibility=visibility, sport=sport)
            case ActivityDeleted():
                return None
        return row

    def card(self, event: ActivityRecorded) -> _Row:
        """A new one."""
        source = event.source
        return CardRow(
            **_shown(event),
            notes="",
            measured=event.measured,
            format=source.format,
            sha256=bytes.fromhex(source.sha256),
            device=source.device,
            session=source.session,
        )


class SourceCards(Cards):
    """Cards as version 3 has them."""

    table = replace(Cards.table, row=SourceCardRow, indexes=("(user_id, started_at, activity_id)",))

    def card(self, event: ActivityRecorded) -> _Row:
        """With what it came from as JSON."""
        return SourceCardRow(**_shown(event), notes="", measured=event.measured, source=event.source)


class JsonCards(Cards):
    """Cards as version 2 has them."""

    table = replace(SourceCards.table, row=JsonCardRow)

    def card(self, event: ActivityRecorded) -> _Row:
        """With what was measured as JSON too."""
        return JsonCardRow(**_shown(event), measured=Raw(unpack_json(event.measured)), source=event.source)


def _shown(event: ActivityRecorded) -> dict[str, Any]:
    tally = event.tally
    return {
        "activity_id": event.activity_id,
        "user_id": event.user_id,
        "title": event.title,
        "visibility": event.visibility,
        "sport": tally.sport,
        "started_at": event.started_at,
        "utc_offset_s": event.utc_offset_s,
        "local_date": tally.local_date,
        "distance_m": tally.distance_m,
        "elapsed_s": tally.elapsed_s,
        "moving_s": tally.moving_s,
        "elevation_gain_m": tally.elevation_gain_m,
    }


ACTIVITIES_2: Final = Projection(name="activities", version=2, folds=(JsonCards(),))
ACTIVITIES_3: Final = Projection(name="activities", version=3, folds=(SourceCards(),), differs=frozenset({"measured"}))
ACTIVITIES: Final = Projection(name="activities", version=4, folds=(Cards(),), differs=frozenset({"measured"}))


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
    if "source" not in row:  # since version 4
        row["source"] = Source(
            format=row["format"], sha256=row["sha256"].hex(), device=row["device"], session=row["session"]
        )
    return msgspec.convert(row, kind, strict=False)


_SHOWN: LiteralString = """
    SELECT activity_id, user_id, title, visibility, sport, started_at, utc_offset_s, local_date,
        distance_m, elapsed_s, moving_s, elevation_gain_m, measured
"""
_PARTS: LiteralString = _SHOWN + ", format, sha256, device, session"
_SOURCE: LiteralString = _SHOWN + ", source"  # before version 4


def _query(more: LiteralString, which: LiteralString) -> Query:
    rest: LiteralString = more + " FROM {s}.cards WHERE " + which
    return Query("activities", _PARTS + rest, {2: _SOURCE + rest, 3: _SOURCE + rest})


_WHOLE: Final = _query(", notes", "activity_id = %s")
_BY_ID: Final = _query("", "activity_id = ANY(%s) ORDER BY activity_id")
_OF_USER: Final = _query(
    "",
    """user_id = %s AND visibility = ANY(%s) AND (started_at, activity_id) < (%s, %s)
    ORDER BY started_at DESC, activity_id DESC LIMIT %s""",
)
