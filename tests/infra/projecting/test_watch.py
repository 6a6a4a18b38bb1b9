"""Alarms about what is read: how old it is, and whether anybody fills it."""

import psycopg
import pytest

from infra.projecting.lag import LATE_SECONDS, Lag, live_lag_seconds
from infra.projecting.shards import stop
from infra.projecting.status import standings, trouble
from infra.projecting.watch import ProjectionState, ProjectionWatch
from infra.views import ReadModels
from projections import PROJECTIONS
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import History, append
from tests.infra.projecting.live import Worker, expire_leases
from tests.infra.projecting.test_lifecycle import following
from tests.infra.projecting.test_reading import reading

NAMES = {projection.name for projection in PROJECTIONS}


async def state(url: str) -> dict[str, ProjectionState | None]:
    async with reading(url) as models:
        return dict(await ProjectionWatch(models).state())


def appended_a_minute_ago(operator: Operator) -> None:
    before = append(operator.connection, History(41).take(3))
    operator.connection.execute(
        "UPDATE stored_events SET recorded_at = recorded_at - interval '1 minute' WHERE notification_id > %s",
        (before - 3,),
    )


@pytest.mark.usefixtures("history")
async def test_what_is_read_is_as_old_as_the_first_event_that_it_has_not_taken(
    operator: Operator, worker: Worker
) -> None:
    worker.turn()
    assert await state(operator.url) == dict.fromkeys(NAMES, ProjectionState(0.0, 1))
    stop(operator.connection, "summaries_v1", "of a wrong fold")
    appended_a_minute_ago(operator)
    found = await state(operator.url)
    assert found["feed"] is not None
    assert 60 <= found["feed"].lag_s < 120
    worker.catch_up()
    found = await state(operator.url)
    assert found["feed"] == ProjectionState(0.0, 1)
    assert found["summaries"] is not None
    assert (found["summaries"].lag_s >= 60, found["summaries"].workers) == (True, 0)


@pytest.mark.usefixtures("history")
async def test_of_what_is_read_and_what_is_tried_the_worse_counts(operator: Operator, worker: Worker) -> None:
    worker.tables.release()
    with following(operator.url):
        (built,) = operator.rebuild("goals")
        operator.lifecycle.catch_up(built, lambda _behind: None, 10)
        operator.lifecycle.verify(operator.build(built.schema_name))
        operator.lifecycle.shadow("goals", 1)
    worker.turn()
    assert (await state(operator.url))["goals"] == ProjectionState(0.0, 1)
    stop(operator.connection, built.schema_name, "of a wrong fold")
    assert (await state(operator.url))["goals"] == ProjectionState(0.0, 0)
    operator.lifecycle.shadow("goals", 0)
    assert (await state(operator.url))["goals"] == ProjectionState(0.0, 1)


@pytest.mark.usefixtures("history")
async def test_what_is_left_out_is_counted(operator: Operator, worker: Worker) -> None:
    worker.turn()
    operator.connection.execute(
        "INSERT INTO quarantined_keys (schema_name, table_name, key, owner_id, stream_id, version, position, topic, "
        "reason) VALUES ('goals_v1', 'goals', '[]', gen_random_uuid(), gen_random_uuid(), 1, 1, 'goal.set', 'a fold')"
    )
    operator.connection.execute(
        "INSERT INTO parked_streams (stream_id, owner_id, version, position, reason) "
        "VALUES (gen_random_uuid(), gen_random_uuid(), 1, 1, 'damaged')"
    )
    found = await state(operator.url)
    assert found["goals"] == ProjectionState(0.0, 1, quarantined=1, parked=1)
    assert found["feed"] == ProjectionState(0.0, 1, parked=1)


async def test_nothing_is_known_of_it_while_postgres_is_away() -> None:
    models = ReadModels("postgresql://127.0.0.1:1/away", connections=1)
    await models.open()
    assert await ProjectionWatch(models).state() == dict.fromkeys(NAMES)
    await models.close()


@pytest.mark.usefixtures("history")
async def test_who_takes_longer_for_a_page_than_a_lease_fills_it_until_it_is_gone(
    operator: Operator, worker: Worker
) -> None:
    """Leases are renewed between pages: no worker was seen, and no rebuild gave way, just while projections hung."""
    worker.turn()
    appended_a_minute_ago(operator)

    async def seen() -> list[object]:
        found = (await state(operator.url))["feed"]
        assert found is not None
        troubles = {one.trouble[:8] for one in standings(operator.connection, operator.registry)}
        return [found.workers, live_lag_seconds(operator.connection) > LATE_SECONDS, *troubles]

    with psycopg.connect(operator.url) as page:  # as the worker's transaction
        expire_leases(operator.connection)
        assert await seen() == [0, False, "NO WORKE"]
        page.execute("UPDATE projection_shards SET updated_at = now()")
        assert await seen() == [1, True, "LATE: 60"]
        page.rollback()
    assert await seen() == [0, False, "NO WORKE"]


def test_what_is_late_with_a_page_that_takes_long_is_told() -> None:
    late = Lag("feed_v1", 1, 9, 80.0, 1, paused=False, stopped=None, updated_seconds=84.0, busy_seconds=84.0)
    assert trouble(late) == "LATE: 80 s, busy with one page for 84 s"
