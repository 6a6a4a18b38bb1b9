"""Given events, and the runners and runs that tests talk about."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TypeVar
from uuid import UUID, uuid4

from psycopg import Connection

from domain.events.activity import ActivityRecorded, Source, Tally
from domain.events.event import Event, Recorded
from domain.events.measured import Measured
from domain.events.packing import pack
from domain.measures import ActivityId, Sport, UserId, Visibility
from domain.streams import Aggregate
from infra.projecting.pages import Pages
from infra.projecting.tables import prepare
from projections.projection import Projection

A = TypeVar("A", bound=Aggregate)

ANNA = UserId(UUID("a0000000-0000-4000-8000-000000000001"))
BEN = UserId(UUID("b0000000-0000-4000-8000-000000000002"))
CARA = UserId(UUID("c0000000-0000-4000-8000-000000000003"))
MAY_1 = datetime(2026, 5, 1, 8, 0, tzinfo=UTC)
MAY_2 = datetime(2026, 5, 2, 8, 0, tzinfo=UTC)


def given(aggregate: type[A], *events: Event) -> A:
    """The state after these events."""
    state = aggregate()
    for event in events:
        state = state.evolve(event)
    return state


def run(
    user_id: UserId,
    distance_m: float = 5_000.0,
    *,
    activity_id: UUID | None = None,
    at: datetime = MAY_1,
    sport: Sport = Sport.RUNNING,
    visibility: Visibility = Visibility.PUBLIC,
    sha256: str = "00",
) -> ActivityRecorded:
    """A run of six minutes a kilometre."""
    return ActivityRecorded(
        user_id=user_id,
        activity_id=ActivityId(activity_id or uuid4()),
        title="Morning run",
        visibility=visibility,
        started_at=at,
        utc_offset_s=0,
        tally=Tally(
            sport=sport,
            local_date=date(at.year, at.month, at.day),
            distance_m=distance_m,
            elapsed_s=distance_m * 0.36,
            moving_s=distance_m * 0.35,
            elevation_gain_m=10.0,
        ),
        measured=pack(Measured(points=100, distance_source="recorded")),
        source=Source(format="fit", sha256=sha256),
        at=at,
    )


def project(projection: Projection, rows: Connection, *events: Event, page: int = 1_000, after: int = 0) -> None:
    """Apply the events as pages of a log, to the tables of the first build."""
    log = [recorded(event, position) for position, event in enumerate(events, after + 1)]
    for start in range(0, len(log), page):
        apply(projection, rows, log[start : start + page])


def apply(projection: Projection, rows: Connection, page: Sequence[Recorded]) -> set[UUID]:
    """Apply one page; whose rows are others then."""
    schema = f"{projection.name}_v{projection.version}"
    with rows.transaction():
        return Pages(prepare(rows), projection, schema, None).take(page)


def recorded(event: Event, position: int, owner_id: UserId | None = None) -> Recorded:
    """The event at a place in a log."""
    return Recorded(event, uuid4(), 1, position, owner_id or owner_of(event))


def owner_of(event: Event) -> UserId:
    """Whose stream an event is in, as far as it says; Anna's otherwise."""
    for name in ("user_id", "follower_id"):
        if hasattr(event, name):
            return UserId(getattr(event, name))
    return ANNA
