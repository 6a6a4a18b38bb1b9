"""Copies that apps keep: how far they are told, and when one is not to be trusted any more."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import psycopg
import pytest
from psycopg import Connection

from domain.measures import UserId
from infra.projecting.healing import healing
from infra.views import ReadModels
from projections import PROJECTIONS
from projections.changes import CHANGES, Since, changes_since
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import MASTER, History, append
from tests.infra.projecting.live import Worker
from tests.infra.projecting.test_reading import reading, runner
from tests.scenarios import ANNA

MODELS = ("changes", "activities", "goals", "people")


async def read(models: ReadModels, user_id: UserId = ANNA) -> str:
    async with models.reader(user_id).view() as view:
        return view.reading(MODELS).name


async def told(url: str, user_id: UserId) -> Since:
    async with reading(url) as models, models.reader(user_id).view() as view:
        return await changes_since(view, user_id, view.reading(MODELS), 0, 1_000)


async def test_a_change_is_told_once_all_that_shows_it_has_come_so_far(
    database_url: str, database: Connection, operator: Operator
) -> None:
    """The things themselves are in other models, which may be behind: one that is old would be kept for ever."""
    log = History(31).take(60)
    append(database, log)
    anna = log[0].owner_id
    with Worker(database_url, [CHANGES]) as ahead:
        ahead.catch_up()
    assert (await told(database_url, anna)).changes == []
    with Worker(database_url, [one for one in PROJECTIONS if one.name != "feed"]) as rest:
        rest.catch_up()
    found = await told(database_url, anna)
    assert found.changes
    assert operator.positions("feed_v1") == {0}  # which no copy is made of


@pytest.mark.usefixtures("history")
async def test_rows_that_an_operator_had_made_anew_are_a_repair(operator: Operator) -> None:
    anna = runner(operator)
    before = (await told(operator.url, anna)).repairs
    assert before == (await told(operator.url, anna)).repairs
    with healing(operator.url, operator.registry, MASTER) as healer:
        healer.rebuild_owners("goals", [anna])
    assert (await told(operator.url, anna)).repairs != before


async def test_another_log_is_another_one_to_read_and_the_same_one_stays(fresh_database: Callable[[], str]) -> None:
    first, second = fresh_database(), fresh_database()
    async with AsyncExitStack() as stack:
        found = [await read(await stack.enter_async_context(reading(url))) for url in (first, first, second)]
    assert found[0] == found[1] != found[2]
    with psycopg.connect(first, autocommit=True) as connection:  # as a restore of the table alone does
        connection.execute("CREATE TABLE restored (LIKE stored_events INCLUDING ALL)")
        connection.execute("ALTER TABLE stored_events RENAME TO lost")
        connection.execute("ALTER TABLE restored RENAME TO stored_events")
    async with reading(first) as models:
        assert await read(models) != found[0]


@pytest.mark.usefixtures("history")
async def test_what_a_version_says_is_not_what_another_one_says(operator: Operator) -> None:
    async with reading(operator.url) as models:
        before = await read(models)
    operator.connection.execute("UPDATE projection_builds SET version = 2 WHERE schema_name = 'activities_v4'")
    async with reading(operator.url) as models:
        assert await read(models) != before
