from uuid import UUID

from psycopg import Connection

from domain.events.activity import ActivityDeleted, ActivityEdited, as_stored
from domain.measures import Sport, Visibility
from projections.activities import ACTIVITIES, cards, cards_of
from projections.projection import BEFORE_ALL, View
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2, project, run

FIRST, SECOND = UUID(int=1), UUID(int=2)


async def test_a_card_shows_the_last_edit(database: Connection, queries: View) -> None:
    recorded = run(ANNA)
    edited = ActivityEdited(
        user_id=ANNA,
        activity_id=recorded.activity_id,
        title="Race",
        visibility=Visibility.PRIVATE,
        sport=Sport.HIKING,
        tally=recorded.tally,
        at=MAY_2,
    )
    project(ACTIVITIES, database, recorded, edited, page=1)
    card = (await cards(queries, [recorded.activity_id]))[recorded.activity_id]
    assert (card.title, card.visibility, card.sport) == ("Race", Visibility.PRIVATE, Sport.HIKING)
    assert (as_stored(card.measured), card.source, card.started_at) == (
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
