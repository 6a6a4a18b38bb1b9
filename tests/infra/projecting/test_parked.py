"""Streams that cannot be read any more: what was folded of them before is kept, and read."""

from typing import Final
from uuid import UUID

import pytest
from psycopg import Connection

from domain.events.activity import ActivityRecorded
from domain.events.follow import FollowStarted
from domain.events.user import UserErased
from domain.follow import follow_id
from domain.user import user_stream_id
from infra.faults import Fault
from infra.projecting.auditing import audit
from infra.projecting.healing import healing
from infra.projecting.leaving import parked_owners
from infra.projecting.lifecycle import NotEqual, RowsMissing
from projections import PROJECTIONS
from projections.projection import Projection
from projections.summaries import SUMMARIES
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import MASTER, History, Made, append
from tests.infra.projecting.live import Worker
from tests.infra.projecting.test_lifecycle import following, states
from tests.infra.projecting.test_quarantine import Poisoned, healed
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2, run

DAMAGE: Final = "UPDATE stored_events SET state = substr(state, 1, 3) WHERE originator_id = %s"


def test_a_stream_that_cannot_be_read_is_parked_and_healed_once_it_can(
    operator: Operator, worker: Worker, database: Connection
) -> None:
    log = History(15).take(200)
    victim = next(made.stream_id for made in log if isinstance(made.event, ActivityRecorded))
    end = append(database, log)
    (state,) = database.execute(
        "SELECT state FROM stored_events WHERE originator_id = %s AND originator_version = 1", (victim,)
    ).fetchone() or (b"",)
    damage = "UPDATE stored_events SET state = %s WHERE originator_id = %s AND originator_version = 1"
    database.execute(damage, (state[: len(state) // 2], victim))
    worker.catch_up()
    assert operator.positions("activities_v4") == {end}
    with healing(operator.url, operator.registry, MASTER) as healer:
        assert [parked.stream_id for parked in healer.parked()] == [victim]
        assert healer.heal() == []  # it still cannot be read
    database.execute(damage, (state, victim))
    assert {one.build for one in healed(operator)} >= {"activities v4", "summaries v1", "feed v1"}
    worker.catch_up()
    live = {name: operator.digests(operator.active(name)) for name in ("activities", "feed", "summaries")}
    rebuilt = operator.rebuild(*live)
    assert {build.name: operator.digests(build.schema_name) for build in rebuilt} == live


def test_rows_of_a_stream_that_cannot_be_read_any_more_are_kept_and_not_compared(
    operator: Operator, worker: Worker, database: Connection
) -> None:
    log = History(15).take(400)
    gone = {made.owner_id for made in log if isinstance(made.event, UserErased)}
    victim = next(made for made in log if isinstance(made.event, ActivityRecorded) and made.owner_id not in gone)
    append(database, log)
    worker.catch_up()
    live = {name: operator.digests(operator.active(name)) for name in ("activities", "feed", "summaries")}
    database.execute(DAMAGE, (victim.stream_id,))
    worker.tables.release()
    with (
        healing(operator.url, operator.registry, MASTER) as healer,
        pytest.raises(Fault, match=f"stream {victim.stream_id} of user {victim.owner_id} cannot be read"),
    ):
        healer.rebuild_owners(None, [victim.owner_id])
    assert {name: operator.digests(operator.active(name)) for name in live} == live
    for one in audit(operator.url, operator.registry, MASTER, None, percent=100):
        assert (one.differing, one.left_out) == (0, 1)
    for build in operator.rebuild(*live):
        verdict = operator.lifecycle.verify(build)
        assert verdict is not None
        assert (verdict.equal, verdict.parked, verdict.left_out >= 1) == (True, 1, True)


def test_a_build_without_what_cannot_be_read_any_more_is_not_cut_over(
    operator: Operator, worker: Worker, database: Connection
) -> None:
    one, other = run(ANNA, at=MAY_1), run(ANNA, at=MAY_2)
    append(database, [Made(ANNA, made.activity_id, 1, made) for made in (one, other)])
    worker.catch_up()
    database.execute(DAMAGE, (other.activity_id,))
    worker.tables.release()
    (built,) = operator.rebuild("summaries")
    with following(operator.url):
        verdict = operator.lifecycle.verify(built)
        assert verdict is not None
        assert verdict.equal
        with pytest.raises(RowsMissing, match=r"1 streams of 1 users cannot be read.* cairn projections heal "):
            operator.lifecycle.cutover("summaries")
        assert states(operator) == {"summaries_v1": "active", "summaries_v1_b2": "ready"}
        operator.lifecycle.cutover("summaries", although_it_differs=True)
    assert states(operator) == {"summaries_v1": "standby", "summaries_v1_b2": "active"}
    assert operator.build("summaries_v1_b2").reason == "read although 1 streams could not be read"


def test_nobody_misses_a_stream_of_one_who_is_erased(operator: Operator, worker: Worker, database: Connection) -> None:
    one = run(ANNA)
    append(database, [Made(ANNA, one.activity_id, 1, one)])
    database.execute(DAMAGE, (one.activity_id,))
    worker.catch_up()
    assert parked_owners(database) == {ANNA: [one.activity_id]}
    append(database, [Made(ANNA, user_stream_id(ANNA), 1, UserErased(at=MAY_2))])
    worker.catch_up()
    assert parked_owners(database) == {}
    with healing(operator.url, operator.registry, MASTER) as healer:
        assert healer.parked() == []


def test_a_stream_that_has_yet_to_erase_its_owner_is_missed(worker: Worker, database: Connection) -> None:
    stream = user_stream_id(ANNA)
    append(database, [Made(ANNA, stream, version, UserErased(at=MAY_2)) for version in (1, 2)])
    database.execute(DAMAGE + " AND originator_version = 1", (stream,))
    worker.catch_up()
    assert parked_owners(database) == {ANNA: [stream]}


def test_healing_keeps_rows_of_a_stream_that_cannot_be_read_any_more(operator: Operator, database: Connection) -> None:
    bad, other = run(ANNA, at=MAY_1), run(ANNA, at=MAY_2)
    wrong = Projection(name="summaries", version=1, folds=(Poisoned(frozenset([bad.activity_id])),))
    append(database, [Made(ANNA, made.activity_id, 1, made) for made in (bad, other)])
    with Worker(operator.url, [wrong, *(one for one in PROJECTIONS if one is not SUMMARIES)]) as made:
        made.catch_up()
    rows = "SELECT * FROM summaries_v1.days ORDER BY local_date"
    before = database.execute(rows).fetchall()
    assert len(before) == 1
    state = database.execute(
        "SELECT state FROM stored_events WHERE originator_id = %s", (other.activity_id,)
    ).fetchone()
    database.execute(DAMAGE, (other.activity_id,))
    with following(operator.url):
        (told,) = healed(operator)
        assert (told.owners, told.left_out) == (0, 1)
        assert database.execute(rows).fetchall() == before
        with healing(operator.url, operator.registry, MASTER) as healer:
            (key,) = healer.quarantined()
            with pytest.raises(Fault, match=f"stream {other.activity_id} of user {ANNA} cannot be read"):
                healer.skip("summaries", key.position, "the last resort")
        database.execute(
            "UPDATE stored_events SET state = %s WHERE originator_id = %s", (*(state or ()), other.activity_id)
        )
        assert {(one.left_out, one.still_quarantined) for one in healed(operator)} == {(0, 0)}
    assert len(database.execute(rows).fetchall()) == 2
    assert parked_owners(database) == {}


def test_a_stream_that_can_be_read_again_waits_for_others_of_those_whom_it_concerns(
    operator: Operator, worker: Worker, database: Connection
) -> None:
    one, other, of_ben = run(ANNA, at=MAY_1), run(ANNA, at=MAY_2), run(BEN)
    append(database, [Made(made.user_id, made.activity_id, 1, made) for made in (one, other, of_ben)])
    whole: dict[UUID, bytes] = dict(database.execute("SELECT originator_id, state FROM stored_events").fetchall())
    for stream in whole:
        database.execute(DAMAGE, (stream,))
    worker.catch_up()
    rows = "SELECT user_id, count(*) FROM summaries_v1.days GROUP BY user_id ORDER BY user_id"
    with following(operator.url):
        for mended, counts in ([one, of_ben], [(BEN, 1)]), ([other], [(ANNA, 2), (BEN, 1)]):
            for made in mended:
                database.execute(
                    "UPDATE stored_events SET state = %s WHERE originator_id = %s",
                    (whole[made.activity_id], made.activity_id),
                )
            assert healed(operator)
            assert database.execute(rows).fetchall() == counts
    assert parked_owners(database) == {}


def test_rows_that_hang_on_a_stream_of_another_that_cannot_be_read_any_more_are_kept_and_not_compared(
    operator: Operator, worker: Worker, database: Connection
) -> None:
    stream = follow_id(BEN, ANNA)
    append(database, [Made(BEN, stream, 1, FollowStarted(follower_id=BEN, followee_id=ANNA, at=MAY_1))])
    worker.catch_up()
    database.execute(DAMAGE, (stream,))
    worker.tables.release()
    audited = {one.build: one for one in audit(operator.url, operator.registry, MASTER, None, percent=100)}
    assert {one.differing for one in audited.values()} == {0}
    assert {build: one.unread for build, one in audited.items() if one.unread} == {
        "feed v1": ["authors"],
        "people v1": ["degrees"],
    }
    with healing(operator.url, operator.registry, MASTER) as healer:
        for name in ("feed", "people"):
            with pytest.raises(Fault, match="hang on streams of others, of which some cannot be read"):
                healer.rebuild_owners(name, [ANNA])
        healer.rebuild_owners("summaries", [ANNA])
    for build in operator.rebuild("feed", "people"):
        verdict = operator.lifecycle.verify(build)
        assert verdict is not None
        assert verdict.equal
        assert (verdict.unread, [table.name for table in verdict.compared if table.name in verdict.unread]) == (
            audited[verdict.old].unread,
            [],
        )


def test_of_followers_of_a_runner_with_a_stream_that_cannot_be_read_only_what_is_derived_is_not_compared(
    operator: Operator, worker: Worker, database: Connection
) -> None:
    one, of_ben = run(ANNA), run(BEN)
    follow = FollowStarted(follower_id=BEN, followee_id=ANNA, at=MAY_1)
    append(
        database,
        [
            Made(BEN, follow_id(BEN, ANNA), 1, follow),
            *(Made(made.user_id, made.activity_id, 1, made) for made in (one, of_ben)),
        ],
    )
    worker.catch_up()
    database.execute(DAMAGE, (one.activity_id,))
    worker.tables.release()
    (built,) = operator.rebuild("feed")
    verdict = operator.lifecycle.verify(built)
    assert verdict is not None
    assert (verdict.equal, verdict.left_out) == (True, 2)
    assert {table.name: table.rows for table in verdict.compared if table.rows} == {"posts": 1, "follows": 1}
    database.execute("UPDATE feed_v1.posts SET private = NOT private WHERE author_id = %s", (BEN,))
    with pytest.raises(NotEqual, match="differs from feed v1: posts"):
        operator.lifecycle.verify(operator.build(built.schema_name))
