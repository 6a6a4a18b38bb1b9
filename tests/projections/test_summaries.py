from datetime import date

from msgspec.structs import replace
from psycopg import Connection

from domain.events.activity import ActivityDeleted, ActivityEdited
from domain.measures import Sport, Visibility
from projections.projection import View
from projections.summaries import SUMMARIES, Day, days, span
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2, project, run

ALWAYS = date(2000, 1, 1), date(2100, 1, 1)


async def test_runs_of_a_day_add_up_and_other_days_and_runners_stay_apart(database: Connection, queries: View) -> None:
    project(SUMMARIES, database, run(ANNA, 5_000.0), run(ANNA, 3_000.0), run(ANNA, 7_000.0, at=MAY_2), run(BEN))
    found = await days(queries, ANNA, *ALWAYS)
    assert [(day.local_date, day.count, day.distance_m) for day in found] == [
        (date(2026, 5, 1), 2, 8_000.0),
        (date(2026, 5, 2), 1, 7_000.0),
    ]


async def test_a_span_counts_both_its_days(database: Connection, queries: View) -> None:
    project(SUMMARIES, database, run(ANNA), run(ANNA, at=MAY_2))
    assert len(await days(queries, ANNA, date(2026, 5, 1), date(2026, 5, 2))) == 2
    assert len(await days(queries, ANNA, date(2026, 5, 2), date(2026, 5, 2))) == 1


async def test_all_that_a_runner_did_is_from_the_first_day_to_the_last(database: Connection, queries: View) -> None:
    project(SUMMARIES, database, run(ANNA, at=MAY_2), run(ANNA, at=MAY_1))
    assert await span(queries, ANNA) == (date(2026, 5, 1), date(2026, 5, 2))
    assert await span(queries, BEN) is None


async def test_deleting_leaves_no_trace(database: Connection, queries: View) -> None:
    recorded = run(ANNA)
    deleted = ActivityDeleted(user_id=ANNA, activity_id=recorded.activity_id, tally=recorded.tally, at=MAY_2)
    project(SUMMARIES, database, recorded, deleted)
    assert await days(queries, ANNA, *ALWAYS) == []


async def sums(queries: View) -> dict[Sport, tuple[int, float, float, float, float]]:
    return {
        day.sport: (day.count, day.distance_m, day.elapsed_s, day.moving_s, day.elevation_gain_m)
        for day in await days(queries, ANNA, *ALWAYS)
    }


async def test_a_change_of_sport_moves_the_sums(database: Connection, queries: View) -> None:
    recorded = run(ANNA, 5_000.0)
    project(SUMMARIES, database, recorded, run(ANNA, 1_000.0))
    assert await sums(queries) == {Sport.RUNNING: (2, 6_000.0, 2_160.0, 2_100.0, 20.0)}
    edited = ActivityEdited(
        user_id=ANNA,
        activity_id=recorded.activity_id,
        title="Walk",
        visibility=Visibility.PUBLIC,
        sport=Sport.WALKING,
        tally=recorded.tally,
        at=MAY_2,
    )
    project(SUMMARIES, database, edited)
    left = {Sport.RUNNING: (1, 1_000.0, 360.0, 350.0, 10.0)}
    assert await sums(queries) == {**left, Sport.WALKING: (1, 5_000.0, 1_800.0, 1_750.0, 10.0)}
    walked = replace(recorded.tally, sport=Sport.WALKING)
    project(
        SUMMARIES,
        database,
        ActivityDeleted(user_id=ANNA, activity_id=recorded.activity_id, tally=walked, at=MAY_2),
    )
    assert await sums(queries) == left


async def test_a_new_title_changes_no_sum(database: Connection, queries: View) -> None:
    recorded = run(ANNA)
    edited = ActivityEdited(
        user_id=ANNA,
        activity_id=recorded.activity_id,
        title="Race",
        visibility=Visibility.PRIVATE,
        sport=recorded.tally.sport,
        tally=recorded.tally,
        at=MAY_2,
    )
    project(SUMMARIES, database, recorded, edited)
    assert [day.count for day in await days(queries, ANNA, *ALWAYS)] == [1]


async def test_pages_of_any_size_give_the_same_rows(database: Connection, queries: View) -> None:
    runs = [run(ANNA, 1_000.0 * n, at=MAY_1 if n % 2 else MAY_2) for n in range(1, 8)]
    events = [*runs, ActivityDeleted(user_id=ANNA, activity_id=runs[0].activity_id, tally=runs[0].tally, at=MAY_2)]
    found: list[list[Day]] = []
    for size in (1, 3, 100):
        database.execute("TRUNCATE summaries_v1.days")
        project(SUMMARIES, database, *events, page=size)
        found.append([replace(day, distance_m=round(day.distance_m, 6)) for day in await days(queries, ANNA, *ALWAYS)])
    assert found[0] == found[1] == found[2]
