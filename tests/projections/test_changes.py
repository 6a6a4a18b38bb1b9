import pytest
from psycopg import Connection

from domain.events.activity import ActivityDeleted
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.goal import GoalDropped
from domain.events.user import UserErased
from projections.changes import CHANGES, Kind, changes_since
from projections.projection import Reading, View
from tests.projections.test_goals import SET
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2, apply, project, recorded, run

READ = Reading("", ("changes_v1",))
_COME = "UPDATE projection_shards SET position = %s"


@pytest.fixture(autouse=True)
def come(database: Connection) -> None:
    """As if workers had come so far."""
    database.execute(_COME, (1_000,))


async def told(view: View, after: int = 0, limit: int = 100) -> list[tuple[int, Kind, bool]]:
    found = await changes_since(view, ANNA, READ, after, limit)
    return [(change.position, change.kind, change.deleted) for change in found.changes]


async def test_each_thing_is_there_once_at_its_last_change(database: Connection, queries: View) -> None:
    one = run(ANNA)
    gone = ActivityDeleted(user_id=ANNA, activity_id=one.activity_id, tally=one.tally, at=MAY_2)
    follow = FollowStarted(follower_id=ANNA, followee_id=BEN, at=MAY_1)
    project(CHANGES, database, one, SET, follow, run(BEN), gone, page=2)
    assert await told(queries) == [(2, Kind.GOAL, False), (3, Kind.FOLLOWING, False), (5, Kind.ACTIVITY, True)]


async def test_only_what_is_past_a_position_is_told_as_far_as_all_have_come(
    database: Connection, queries: View
) -> None:
    project(CHANGES, database, *(run(ANNA) for _ in range(6)))
    assert [position for position, _, _ in await told(queries, after=2, limit=2)] == [3, 4]
    assert (await changes_since(queries, ANNA, READ, 2, 2)).whole
    database.execute(_COME + " WHERE schema_name = 'changes_v1' AND shard = 1", (5,))
    assert [position for position, _, _ in await told(queries, after=2)] == [3, 4, 5]
    behind = await changes_since(queries, ANNA, READ, 5, 9)
    assert (behind.changes, behind.latest, behind.whole) == ([], 5, False)  # one more waits for the others to come


async def test_what_comes_back_is_not_gone(database: Connection, queries: View) -> None:
    begun = FollowStarted(follower_id=ANNA, followee_id=BEN, at=MAY_1)
    project(CHANGES, database, begun, FollowEnded(follower_id=ANNA, followee_id=BEN, at=MAY_1), begun)
    assert await told(queries) == [(3, Kind.FOLLOWING, False)]


async def test_of_an_erased_runner_nothing_is_left(database: Connection, queries: View) -> None:
    project(CHANGES, database, SET, GoalDropped(user_id=ANNA, goal_id=SET.goal_id, at=MAY_1))
    apply(CHANGES, database, [recorded(UserErased(at=MAY_2), 3, ANNA)])
    assert await told(queries) == []


async def test_a_key_in_quarantine_is_a_repair_to_come_and_only_in_what_is_read(
    database: Connection, queries: View
) -> None:
    project(CHANGES, database, SET)
    before = (await changes_since(queries, ANNA, READ, 0, 9)).repairs
    database.execute(_QUARANTINE, (ANNA,))
    assert (await changes_since(queries, ANNA, READ, 0, 9)).repairs == before
    read = Reading("", ("changes_v1", "goals_v1"))
    assert (await changes_since(queries, ANNA, read, 0, 9)).repairs != before


_QUARANTINE = """
    INSERT INTO quarantined_keys (schema_name, table_name, key, owner_id, stream_id, version, position, topic, reason)
    VALUES ('goals_v1', 'goals', '[]', %s, gen_random_uuid(), 1, 1, '', '')
"""
