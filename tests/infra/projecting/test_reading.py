"""Which build a reader sees: on trial, through an exchange, and with code of another age."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from uuid import UUID

import pytest
from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

from domain.errors import StoreUnavailable
from domain.measures import UserId
from infra.faults import Fault
from infra.positions import to_token
from infra.projecting.builds import Registry
from infra.projecting.lifecycle import Lifecycle
from infra.projecting.readers import announce, not_readable, only_knowing
from infra.projecting.status import standings
from infra.views import ReadModels
from projections import PROJECTIONS
from projections.activities import cards
from projections.feed import feed_page
from projections.people import followed_among, people
from projections.projection import BEFORE_ALL, Projection, View
from projections.summaries import days
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import History, append
from tests.infra.projecting.live import Worker
from tests.infra.projecting.test_lifecycle import following, with_climb

pytestmark = pytest.mark.usefixtures("history")


@asynccontextmanager
async def reading(url: str, projections: Sequence[Projection] = PROJECTIONS) -> AsyncIterator[ReadModels]:
    models = ReadModels(url, connections=2, projections=projections, announced=True)
    await models.open()
    try:
        yield models
    finally:
        await models.close()


def runner(operator: Operator) -> UserId:
    row = operator.connection.execute("SELECT user_id FROM summaries_v1.days ORDER BY count DESC LIMIT 1").fetchone()
    assert row is not None
    return UserId(row[0])


async def distance(view: View, user_id: UserId) -> float:
    return sum(day.distance_m for day in await days(view, user_id, date.min, date.max))


def exchange(operator: Operator, worker: Worker) -> None:
    """`summaries_v1_b2` is read, `summaries_v1` is on standby; both are filled by nobody then."""
    worker.tables.release()
    (built,) = operator.rebuild("summaries")
    with following(operator.url):
        operator.lifecycle.catch_up(built, lambda _behind: None, 10)
        operator.lifecycle.verify(operator.build("summaries_v1_b2"))
        operator.lifecycle.cutover("summaries")


async def test_what_was_reached_is_read_though_it_is_exchanged_meanwhile(operator: Operator, worker: Worker) -> None:
    """The other build may be a moment behind the position that was waited for."""
    exchange(operator, worker)
    anna = runner(operator)
    operator.connection.execute("UPDATE summaries_v1_b2.days SET distance_m = 0")
    (at,) = operator.positions("summaries_v1_b2")
    async with reading(operator.url) as models:
        before, after = models.reader(anna), models.reader(anna)
        assert await before.reach(to_token(at), ["summaries"], 1)
        operator.lifecycle._exchange("summaries", operator.build("summaries_v1"))
        operator.connection.execute(_AHEAD, (5, "summaries_v1"))
        assert await after.reach(to_token(at + 5), ["summaries"], 3)
        async with after.view() as view:
            assert await distance(view, anna) > 0
        async with before.view() as view:
            assert await distance(view, anna) == 0


async def test_what_is_known_of_the_pointers_is_a_second_old_at_most(operator: Operator, worker: Worker) -> None:
    exchange(operator, worker)
    anna = runner(operator)
    async with reading(operator.url) as models:
        async with models.reader(anna).view() as view:
            expected = await distance(view, anna)
        with following(operator.url):
            operator.lifecycle.rollback("summaries")
        operator.connection.execute("UPDATE projection_pointers SET standby = NULL WHERE name = 'summaries'")
        operator.registry.drop(operator.build("summaries_v1_b2"))
        await asyncio.sleep(1.1)
        reader = models.reader(anna)
        assert await reader.reach(to_token(1), ["summaries"], 1)
        async with reader.view() as view:
            assert await distance(view, anna) == expected


async def test_code_that_does_not_know_what_is_read_reads_what_is_on_standby(
    operator: Operator, worker: Worker
) -> None:
    exchange(operator, worker)
    anna = runner(operator)
    operator.connection.execute("UPDATE projection_builds SET version = 2 WHERE schema_name = 'summaries_v1_b2'")
    operator.connection.execute("UPDATE summaries_v1_b2.days SET distance_m = 0")
    async with reading(operator.url) as models, models.reader(anna).view() as view:
        assert await distance(view, anna) > 0
        assert (await models.versions(anna))["summaries"] == (1, False)
    assert not_readable(operator.connection, PROJECTIONS) is None
    operator.connection.execute("UPDATE projection_pointers SET standby = NULL WHERE name = 'summaries'")
    told = "summaries v2: read in a version that this code does not declare: run code that does"
    assert not_readable(operator.connection, PROJECTIONS) == told
    async with reading(operator.url) as models, models.reader(anna).view() as view:
        with pytest.raises(StoreUnavailable, match="summaries is not built in a version that this code knows"):
            await distance(view, anna)


async def test_what_a_process_of_older_code_reads_is_not_dropped(operator: Operator, worker: Worker) -> None:
    exchange(operator, worker)
    operator.connection.execute("UPDATE projection_builds SET version = 2 WHERE schema_name = 'summaries_v1_b2'")
    newer = [*PROJECTIONS, with_climb(2)]
    lifecycle = Lifecycle(operator.connection, Registry(operator.connection, newer), operator.url)
    with pytest.raises(Fault, match=r"summaries v2 .*is to be read, and this code does not declare it.*Nothing was"):
        operator.lifecycle.collect("summaries")
    async with reading(operator.url) as models, reading(operator.url, newer) as others:
        for one in (models, others):
            async with one.connection():
                pass
        with pytest.raises(
            Fault, match=r"summaries v1 is read by API processes whose code does not declare summaries v2 "
        ):
            await asyncio.to_thread(lifecycle.collect, None)
    async with reading(operator.url, newer) as others, others.connection():
        assert [str(build) for build in await asyncio.to_thread(lifecycle.collect, None)] == ["summaries v1"]


async def test_who_reads_another_database_of_the_server_is_no_reader_of_this_one(
    operator: Operator, fresh_database: Callable[[], str]
) -> None:
    old = operator.build("summaries_v1")
    for url, hosts in ((fresh_database(), []), (operator.url, ["this server"])):
        async with await AsyncConnection.connect(url, autocommit=True) as connection:
            await announce(connection, [("summaries", 1)])
            assert only_knowing(operator.connection, old, []) == hosts


async def test_what_a_process_of_older_code_reads_is_filled_on(operator: Operator, worker: Worker) -> None:
    exchange(operator, worker)
    (built,) = operator.rebuild("summaries")
    with following(operator.url):
        operator.lifecycle.catch_up(built, lambda _behind: None, 10)
        operator.lifecycle.verify(operator.build(built.schema_name))
    later = "UPDATE projection_builds SET version = 2 WHERE schema_name = ANY(%s)"
    operator.connection.execute(later, (["summaries_v1_b2", built.schema_name],))
    newer = [*PROJECTIONS, with_climb(2)]
    lifecycle = Lifecycle(operator.connection, Registry(operator.connection, newer), operator.url)
    with following(operator.url, newer):
        async with reading(operator.url) as models:
            async with models.connection():
                pass
            with pytest.raises(Fault, match=r"summaries v1 is read by API processes whose code does not declare"):
                await asyncio.to_thread(lifecycle.cutover, "summaries")
            assert operator.active("summaries") == "summaries_v1_b2"
        async with reading(operator.url, newer) as others, others.connection():
            assert (await asyncio.to_thread(lifecycle.cutover, "summaries")).now == "summaries v2 (build 3)"


async def test_a_trial_is_read_by_its_share_and_what_differs_is_counted(operator: Operator, worker: Worker) -> None:
    worker.tables.release()
    (built,) = operator.rebuild("summaries")
    with following(operator.url):
        operator.lifecycle.catch_up(built, lambda _behind: None, 10)
        operator.lifecycle.verify(operator.build("summaries_v1_b2"))
        operator.lifecycle.shadow("summaries", 10)
    anna = runner(operator)
    inside, outside = (UserId(UUID(int=anna.int - anna.int % 100 + 100 + last)) for last in (9, 10))
    for user in (inside, outside):
        operator.connection.execute(_ADOPT.format("summaries_v1"), (user, anna))
        operator.connection.execute(_ADOPT.format("summaries_v1_b2"), (user, anna))
    async with reading(operator.url) as models:

        async def asked(user: UserId) -> float:
            async with models.reader(user).view() as view:
                return await distance(view, user)

        assert await asked(inside) == await asked(outside) > 0
        operator.connection.execute("UPDATE summaries_v1_b2.days SET distance_m = 1")
        assert await asked(inside) < await asked(outside)
        assert (await models.versions(inside))["summaries"] == (1, True)
        assert (await models.versions(outside))["summaries"] == (1, False)
        for user, kept in ((inside, False), (outside, True)):
            reader = models.reader(user)
            async with reader.view():
                assert (reader.seen(["summaries"]) is not None) is kept
        builds = models.builds
        operator.lifecycle.shadow("summaries", 11)
        models.forget()
        async with models.reader(outside).view():
            assert models.builds != builds
        async with models.connection() as connection:
            await models.shadowing.store(connection)
    told = next(one for one in standings(operator.connection, operator.registry) if "build 2" in one.build)
    assert told.shadowing == "shadow 11 %: 2 reads compared, 1 differed (row 0, column distance_m)"


async def test_the_same_rows_in_another_order_do_not_differ(operator: Operator, worker: Worker) -> None:
    """A rebuild writes them as it comes to them."""
    worker.tables.release()
    with following(operator.url):
        for built in operator.rebuild("activities", "feed", "people"):
            operator.lifecycle.catch_up(built, lambda _behind: None, 10)
            operator.lifecycle.verify(operator.build(built.schema_name))
            operator.lifecycle.shadow(built.name, 100)
    for schema in ("feed_v1", "feed_v1_b2"):
        operator.connection.execute(SQL("UPDATE {}.authors SET merged = true").format(Identifier(schema)))
    for schema, table in _TURNED:
        name = Identifier(schema, table)
        operator.connection.execute(SQL("CREATE TEMP TABLE turned AS SELECT * FROM {} ORDER BY ctid DESC").format(name))
        operator.connection.execute(SQL("DELETE FROM {}").format(name))
        operator.connection.execute(SQL("VACUUM {}").format(name))
        operator.connection.execute(SQL("INSERT INTO {} SELECT * FROM turned").format(name))
        operator.connection.execute("DROP TABLE turned")
    found = operator.connection.execute("SELECT user_id FROM people_v1.profiles").fetchall()
    runners = [UserId(user_id) for (user_id,) in found]
    runs = operator.connection.execute("SELECT activity_id FROM activities_v4.cards").fetchall()
    async with reading(operator.url) as models:
        for anna in runners:
            async with models.reader(anna).view() as view:
                assert len(await people(view, runners)) == len(runners)
                assert await cards(view, [activity_id for (activity_id,) in runs])
                await followed_among(view, anna, runners)
                await feed_page(view, anna, BEFORE_ALL, 10)
        async with models.connection() as connection:
            await models.shadowing.store(connection)
    told = [one.shadowing for one in standings(operator.connection, operator.registry) if "build 2" in one.build]
    assert [one.split(", ", 1)[1] for one in told] == ["0 differed"] * 3


async def test_a_worker_of_old_code_fills_on_what_is_on_standby(operator: Operator, worker: Worker) -> None:
    exchange(operator, worker)
    operator.connection.execute("UPDATE projection_builds SET version = 2 WHERE schema_name = 'summaries_v1_b2'")
    operator.registry.register()
    end = append(operator.connection, History(77).take(20))
    with following(operator.url):
        operator.lifecycle.catch_up(operator.build("summaries_v1"), lambda _behind: None, 10)
    assert operator.positions("summaries_v1") == {end}


_TURNED = [
    ("activities_v4_b2", "cards"),
    ("people_v1_b2", "profiles"),
    ("people_v1_b2", "follows"),
    ("feed_v1_b2", "follows"),
]
_AHEAD = "UPDATE projection_shards SET position = position + %s WHERE schema_name = %s"
_ADOPT = """
    INSERT INTO {}.days SELECT %s, local_date, sport, count, distance_m, elapsed_s, moving_s, elevation_gain_m
    FROM summaries_v1.days WHERE user_id = %s
"""
