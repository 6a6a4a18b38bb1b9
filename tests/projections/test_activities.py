from uuid import UUID

import pytest
from psycopg import Connection

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.packing import pack
from domain.events.user import UserErased
from domain.measures import Sport, Visibility
from infra.projecting.builds import Registry
from projections.activities import ACTIVITIES, ACTIVITIES_2, ACTIVITIES_3, cards, cards_of, whole_card
from projections.projection import BEFORE_ALL, Projection, View
from tests.projections.conftest import reading
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2, apply, project, recorded, run

FIRST, SECOND = UUID(int=1), UUID(int=2)


def edit(recorded: ActivityRecorded, notes: str = "") -> ActivityEdited:
    return ActivityEdited(
        user_id=recorded.user_id,
        activity_id=recorded.activity_id,
        title="Race",
        notes=notes,
        visibility=Visibility.PRIVATE,
        sport=Sport.HIKING,
        tally=recorded.tally,
        at=MAY_2,
    )


async def test_a_card_shows_the_last_edit(database: Connection, queries: View) -> None:
    recorded = run(ANNA)
    edited = edit(recorded)
    project(ACTIVITIES, database, recorded, edited, page=1)
    card = (await cards(queries, [recorded.activity_id]))[recorded.activity_id]
    assert (card.title, card.visibility, card.sport) == ("Race", Visibility.PRIVATE, Sport.HIKING)
    assert (pack(card.measured), card.source, card.started_at) == (
        recorded.measured,
        recorded.source,
        recorded.started_at,
    )


async def test_a_deleted_activity_has_no_card(database: Connection, queries: View) -> None:
    recorded = run(ANNA)
    deleted = ActivityDeleted(user_id=ANNA, activity_id=recorded.activity_id, tally=recorded.tally, at=MAY_2)
    project(ACTIVITIES, database, recorded, deleted)
    assert await cards(queries, [recorded.activity_id]) == {}


async def test_a_runners_list_is_theirs_and_the_latest_start_comes_first(database: Connection, queries: View) -> None:
    project(ACTIVITIES, database, run(ANNA, at=MAY_2, activity_id=SECOND), run(ANNA, activity_id=FIRST), run(BEN))
    found = await cards_of(queries, ANNA, list(Visibility), BEFORE_ALL, 10)
    assert [card.activity_id for card in found] == [SECOND, FIRST]


async def test_pages_go_on_where_the_last_one_ended_also_at_equal_times(database: Connection, queries: View) -> None:
    project(ACTIVITIES, database, *(run(ANNA, activity_id=UUID(int=n)) for n in range(1, 6)))
    first = await cards_of(queries, ANNA, list(Visibility), BEFORE_ALL, 3)
    rest = await cards_of(queries, ANNA, list(Visibility), (MAY_1, first[-1].activity_id), 3)
    assert [card.activity_id.int for card in [*first, *rest]] == [5, 4, 3, 2, 1]


async def test_a_list_holds_only_what_may_be_seen(database: Connection, queries: View) -> None:
    project(ACTIVITIES, database, *(run(ANNA, visibility=seen) for seen in Visibility))
    assert len(await cards_of(queries, ANNA, [Visibility.PUBLIC], BEFORE_ALL, 10)) == 1


async def test_an_activity_has_no_notes_until_they_are_written(database: Connection, queries: View) -> None:
    first, second = run(ANNA), run(ANNA)
    project(ACTIVITIES, database, first, second, edit(first, "Rain.\nNew shoes."), page=1)
    found = [await whole_card(queries, activity_id) for activity_id in (first.activity_id, second.activity_id)]
    assert [card and card.notes for card in found] == ["Rain.\nNew shoes.", ""]


@pytest.mark.parametrize("older", [ACTIVITIES_2, ACTIVITIES_3], ids=lambda one: f"version {one.version}")
async def test_older_versions_show_the_same(database: Connection, database_url: str, older: Projection) -> None:
    is_read(database, older)
    first, second = run(ANNA, at=MAY_1), run(ANNA, at=MAY_2)
    project(older, database, first, second, edit(first, "Rain."))
    async with reading(database_url) as view:
        card = await whole_card(view, first.activity_id)
        found = await cards_of(view, ANNA, list(Visibility), BEFORE_ALL, 10)
    assert card is not None
    assert (card.title, card.notes, pack(card.measured)) == ("Race", "Rain.", first.measured)
    assert [(one.activity_id, one.source) for one in found] == [
        (one.activity_id, one.source) for one in (second, first)
    ]


def is_read(database: Connection, older: Projection) -> None:
    """As in an instance that older code made, and that this code then started in."""
    registry = Registry(database, [older])
    database.execute("DELETE FROM projection_pointers WHERE name = 'activities'")
    for build in registry.builds("activities"):
        registry.drop(build)
    registry.register()
    Registry(database).register()
    builds = [(build.version, build.state) for build in registry.builds("activities")]
    assert builds == [(older.version, "active"), (ACTIVITIES.version, "planned")]


async def test_notes_go_with_their_activity_and_with_their_runner(database: Connection, queries: View) -> None:
    deleted, erased, kept = run(ANNA), run(BEN), run(ANNA)
    gone = ActivityDeleted(user_id=ANNA, activity_id=deleted.activity_id, tally=deleted.tally, at=MAY_2)
    edits = [edit(one, "a secret") for one in (deleted, erased)]
    log = [recorded(event, at) for at, event in enumerate([deleted, erased, kept, *edits, gone], 1)]
    apply(ACTIVITIES, database, [*log, recorded(UserErased(at=MAY_2), len(log) + 1, BEN)])
    assert "a secret" not in str(database.execute("SELECT cards FROM activities_v4.cards AS cards").fetchall())
    assert await whole_card(queries, kept.activity_id) is not None
