"""From one build to the next: proof, trial, cutover, back again, clean-up; what is not right is refused."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
import pytest
from psycopg import Connection

from domain.events.event import Recorded
from infra.faults import Fault
from infra.projecting import holding
from infra.projecting.builds import Build, Registry
from infra.projecting.lifecycle import Lifecycle, NotEqual
from infra.projecting.planning import plan
from infra.projecting.rebuild import rebuilding
from infra.projecting.tables import make_tables
from projections import PROJECTIONS
from projections.projection import Comparison, Fold, Key, Projection, Table
from projections.summaries import SUMMARIES, Day, Days
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import History, append
from tests.infra.projecting.live import Worker


@contextmanager
def following(url: str, projections: Any = PROJECTIONS) -> Iterator[None]:
    """A worker beside the test."""
    stop = threading.Event()

    def run() -> None:
        with Worker(url, projections) as worker:
            while not stop.is_set():
                if worker.turn() == 0:
                    stop.wait(0.005)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def states(operator: Operator, name: str = "summaries") -> dict[str, str]:
    return {build.schema_name: build.state for build in operator.registry.builds(name)}


@pytest.mark.usefixtures("history")
def test_rebuild_verify_shadow_cutover_rollback_cutover_and_clean_up(
    operator: Operator, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.tables.release()
    lifecycle = operator.lifecycle
    (built,) = operator.rebuild("summaries")
    assert (built.schema_name, built.state) == ("summaries_v1_b2", "catching up")
    with following(operator.url):
        lifecycle.catch_up(built, lambda _behind: None, 10)
        verdict = lifecycle.verify(operator.build("summaries_v1_b2"))
        assert verdict is not None
        assert [(table.name, table.buckets) for table in verdict.compared] == [("days", 0)]
        assert verdict.compared[0].rows > 10
        assert lifecycle.shadow("summaries", 10) is not None
        assert lifecycle.shadow("summaries", 0) is None
        exchanged = lifecycle.cutover("summaries")
        assert (exchanged.before, exchanged.now) == ("summaries v1", "summaries v1 (build 2)")
        assert states(operator) == {"summaries_v1": "standby", "summaries_v1_b2": "active"}
        end = append(operator.connection, History(40).take(30))  # the one on standby is filled on
        lifecycle.catch_up(operator.build("summaries_v1"), lambda _behind: None, 10)
        assert lifecycle.rollback("summaries").now == "summaries v1"
        assert operator.active("summaries") == "summaries_v1"
        lifecycle.shadow("summaries", 50)
        with pytest.raises(Fault, match=r"build 2\) is read by 50 % .*shadow summaries --percent 0"):
            lifecycle.collect(None)
        assert lifecycle.cutover("summaries").now == "summaries v1 (build 2)"
        assert operator.positions("summaries_v1") == {end}
        assert operator.digests("summaries_v1") == operator.digests("summaries_v1_b2")
        there = "SELECT to_regclass('summaries_v1.days') IS NOT NULL"
        waited = []
        with monkeypatch.context() as patched:
            patched.setattr("infra.projecting.lifecycle._READERS_SECONDS", 3_600.0)
            patched.setattr(
                "infra.projecting.lifecycle.time.sleep",
                lambda seconds: waited.append((seconds > 0, operator.connection.execute(there).fetchone())),
            )
            assert [build.schema_name for build in lifecycle.collect("summaries")] == ["summaries_v1"]
        assert waited == [(True, (True,))]  # readers may still know it
    assert states(operator) == {"summaries_v1_b2": "active"}
    assert operator.connection.execute(there).fetchone() == (False,)
    with pytest.raises(Fault, match="nothing on standby to go back to"):
        lifecycle.rollback("summaries")


@pytest.mark.usefixtures("history")
def test_a_rebuild_after_two_cutovers_is_a_new_one(operator: Operator, worker: Worker) -> None:
    worker.tables.release()
    with following(operator.url):
        for _ in range(2):
            (built,) = operator.rebuild("summaries")
            operator.lifecycle.catch_up(built, lambda _behind: None, 10)
            operator.lifecycle.verify(operator.build(built.schema_name))
            operator.lifecycle.cutover("summaries")
        assert states(operator)["summaries_v1"] == "retired"  # nobody fills it any more
        (built,) = operator.rebuild("summaries")
        assert (built.schema_name, built.state) == ("summaries_v1_b4", "catching up")


@pytest.mark.usefixtures("history")
def test_builds_are_compared_and_exchanged_while_events_come_in(operator: Operator, worker: Worker) -> None:
    worker.tables.release()
    stop = threading.Event()

    def write() -> None:
        more = History(41)
        with psycopg.connect(operator.url, autocommit=True) as connection:
            while not stop.wait(0.001):
                append(connection, more.take(5))

    writing = threading.Thread(target=write)
    with following(operator.url):
        writing.start()
        builds = operator.rebuild("summaries", "feed", "people")
        for build in builds:
            operator.lifecycle.catch_up(build, lambda _behind: None, 10)
            verdict = operator.lifecycle.verify(operator.build(build.schema_name))
            assert verdict is not None
            assert verdict.equal
            operator.lifecycle.cutover(build.name)
            operator.lifecycle.rollback(build.name)
        stop.set()
        writing.join()


@pytest.mark.usefixtures("history")
def test_a_difference_is_named_with_both_rows_and_blocks_the_cutover(operator: Operator) -> None:
    (built,) = operator.rebuild("summaries")
    changed = operator.connection.execute(
        "UPDATE summaries_v1_b2.days SET distance_m = distance_m + 1 "
        "WHERE ctid = (SELECT min(ctid) FROM summaries_v1_b2.days) RETURNING user_id, local_date, sport, distance_m"
    ).fetchone()
    assert changed is not None
    with pytest.raises(NotEqual, match=r"summaries v1 \(build 2\) differs from summaries v1: days \(1 of") as refused:
        operator.lifecycle.verify(built)
    (difference,) = refused.value.verdict.compared[0].differences
    assert difference.key == {"user_id": str(changed[0]), "local_date": str(changed[1]), "sport": changed[2]}
    assert difference.old is not None
    assert difference.new is not None
    assert difference.new["distance_m"] - difference.old["distance_m"] == 1
    with pytest.raises(Fault, match="verifying and not verified: run cairn projections verify summaries first"):
        operator.lifecycle.cutover("summaries")
    assert operator.active("summaries") == "summaries_v1"


@pytest.mark.usefixtures("history")
def test_what_was_private_of_one_who_is_being_erased_is_not_compared(operator: Operator) -> None:
    """The key is gone, the event is yet to come: rows that are written in between have nothing private."""
    (built,) = operator.rebuild("activities")
    (owner,) = operator.connection.execute("SELECT user_id FROM activities_v4.cards LIMIT 1").fetchone() or (None,)
    operator.connection.execute("UPDATE activities_v4_b2.cards SET title = '' WHERE user_id = %s", (owner,))
    operator.connection.execute("UPDATE user_keys SET destroyed_at = destroyed_at - interval '1 hour'")
    operator.connection.execute(_DESTROY, (owner,))
    verdict = operator.lifecycle.verify(built)
    assert verdict is not None
    assert (verdict.equal, verdict.left_out) == (True, 1)


_DESTROY: Final = """
    UPDATE user_keys SET wrapped = NULL, destroyed_at = e.recorded_at - interval '30 seconds'
    FROM (SELECT max(recorded_at) AS recorded_at FROM stored_events) e WHERE owner_id = %s
"""  # clocks are read before transactions commit


@pytest.mark.usefixtures("history")
def test_rows_too_many_and_rows_missing_are_differences(operator: Operator) -> None:
    (built,) = operator.rebuild("goals")
    operator.connection.execute("DELETE FROM goals_v1_b2.goals WHERE ctid = (SELECT min(ctid) FROM goals_v1_b2.goals)")
    operator.connection.execute(
        "INSERT INTO goals_v1_b2.goals SELECT gen_random_uuid(), goal_id, metric, target, period, starts_on "
        "FROM goals_v1_b2.goals LIMIT 1"
    )
    with pytest.raises(NotEqual) as refused:
        operator.lifecycle.verify(built)
    differences = refused.value.verdict.compared[0].differences
    assert sorted((one.old is None, one.new is None) for one in differences) == [(False, True), (True, False)]


def test_what_is_not_there_or_not_ready_is_refused(operator: Operator) -> None:
    lifecycle = operator.lifecycle
    for command in (lifecycle.candidate, lifecycle.cutover, lifecycle.rollback):
        with pytest.raises(
            Fault, match="there is no projection 'sumaries': there are activities, changes, feed, goals"
        ):
            command("sumaries")
    with pytest.raises(Fault, match="there is no projection"):
        operator.rebuild("sumaries")
    with pytest.raises(Fault, match="no build but the one that is read: run cairn projections rebuild summaries"):
        lifecycle.cutover("summaries")
    operator.registry.insert(SUMMARIES, 2, "planned")
    with pytest.raises(Fault, match="planned and not verified"):
        lifecycle.cutover("summaries")
    with pytest.raises(Fault, match="planned: run cairn projections rebuild summaries until it is caught up"):
        lifecycle.verify(lifecycle.candidate("summaries"))
    with pytest.raises(Fault, match="not ready: verify it first"):
        lifecycle.shadow("summaries", 10)


@pytest.mark.usefixtures("history")
def test_a_build_is_dropped_under_those_who_fill_it(operator: Operator) -> None:
    (built,) = operator.rebuild("summaries")
    dropping = threading.Thread(target=operator.registry.drop, args=(built,))
    with psycopg.connect(operator.url, autocommit=True) as filling, filling.transaction():
        filling.execute("SELECT FROM projection_shards WHERE schema_name = 'summaries_v1_b2' FOR UPDATE")
        dropping.start()
        while filling.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is None:
            time.sleep(0.01)
        assert filling.execute("SELECT count(*) > 0 FROM summaries_v1_b2.days").fetchone() == (True,)
    dropping.join()
    assert states(operator) == {"summaries_v1": "active"}


@pytest.mark.usefixtures("history")
def test_a_build_that_nobody_wants_is_dropped_unless_somebody_reads_or_fills_it(
    operator: Operator, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.projecting.lifecycle._READERS_SECONDS", 0.0)
    worker.tables.release()
    lifecycle = operator.lifecycle
    assert lifecycle.abandon("summaries") == []  # what is read stays
    operator.rebuild("summaries")
    with following(operator.url):
        lifecycle.verify(lifecycle.candidate("summaries"))
        lifecycle.shadow("summaries", 10)
    with pytest.raises(Fault, match="is read by 10 % of the users"):
        lifecycle.abandon("summaries")
    lifecycle.shadow("summaries", 0)
    with psycopg.connect(operator.url, autocommit=True) as other:
        rebuilding_elsewhere = Registry(other)
        rebuilding_elsewhere.claim("summaries")
        with pytest.raises(Fault, match="is being rebuilt by another command"):
            lifecycle.abandon("summaries")
        rebuilding_elsewhere.release("summaries")
    assert [str(build) for build in lifecycle.abandon("summaries")] == ["summaries v1 (build 2)"]
    assert states(operator) == {"summaries_v1": "active"}


@pytest.mark.usefixtures("history")
def test_two_operators_at_once(operator: Operator) -> None:
    with psycopg.connect(operator.url, autocommit=True) as other:
        with rebuilding(other, Registry(other), operator.url, [], lambda _progress: None) as under_way:
            under_way.start(["summaries"], restart=False)
            with pytest.raises(Fault, match="summaries is being rebuilt by another command: wait for it"):
                operator.rebuild("summaries")
        (built,) = operator.rebuild("summaries")
        operator.lifecycle.verify(built)
        outcomes: list[str] = []

        def cut_over(connection: Connection) -> None:
            try:
                Lifecycle(connection, Registry(connection), operator.url).cutover("summaries")
            except Fault as fault:
                outcomes.append(str(fault))
            else:
                outcomes.append("done")

        both = [threading.Thread(target=cut_over, args=(connection,)) for connection in (operator.connection, other)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        done, refused = sorted(outcomes, key=lambda outcome: outcome != "done")
        assert done == "done"
        assert "exchanged by another operator" in refused or "no build but the one that is read" in refused
        assert operator.active("summaries") == "summaries_v1_b2"
        with pytest.raises(Fault, match="goals has nothing on standby"):
            operator.lifecycle.rollback("goals")


def test_without_a_worker_a_comparison_says_so_and_nothing_is_held_afterwards(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.projecting.holding._PATIENCE_SECONDS", 0.1)
    (built,) = operator.rebuild("summaries")
    append(operator.connection, History(42).take(10))
    with pytest.raises(Fault, match="is a worker running, and does it keep up"):
        operator.lifecycle.verify(built)
    assert operator.connection.execute("SELECT count(hold_at) FROM projection_shards").fetchone() == (0,)
    operator.lifecycle.pause("summaries", paused=True)
    with pytest.raises(Fault, match=r"is paused \(cairn projections resume\)"):
        operator.lifecycle.verify(operator.build(built.schema_name))


@pytest.mark.usefixtures("history")
def test_builds_that_a_worker_moved_before_they_were_locked_are_left_as_they_are(
    operator: Operator, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = holding._late

    def late_and_slow(*arguments: Any) -> str | None:
        found = late(*arguments)
        append(operator.connection, History(43).take(10))
        worker.catch_up()
        return found

    monkeypatch.setattr(holding, "_HOLD_SECONDS", 0.0)
    monkeypatch.setattr(holding, "_late", late_and_slow)
    (built,) = operator.rebuild("summaries")
    operator.registry.set_state(built, "ready")
    worker.catch_up()
    with pytest.raises(Fault, match="did not stay at one position until they could be locked: nothing was changed"):
        operator.lifecycle.cutover("summaries")
    assert operator.active("summaries") == "summaries_v1"


class Climb(Day, frozen=True, kw_only=True, gc=False):
    """A day, and how much of its distance went up."""

    climb: float = 0.0


class Climbs(Fold[Climb]):
    """Days with their climbs."""

    table = Table(name="days", row=Climb, key=("user_id", "local_date", "sport"), owner="user_id")
    events = Days.events
    _days: Final = Days()

    def keys(self, recorded: Recorded) -> Any:
        return self._days.keys(recorded)

    def fold(self, key: Key, row: Climb | None, recorded: Recorded) -> Climb | None:
        day = self._days.fold(key, row, recorded)
        if day is None:
            return None
        fields = {name: getattr(day, name) for name in Day.__struct_fields__}
        return Climb(**{**fields, "climb": round(day.elevation_gain_m / 1_000, 6)})


def with_climb(version: int, **more: Any) -> Projection:
    """Summaries whose days have a column more."""
    return Projection(name="summaries", version=version, folds=(Climbs(),), **more)


def test_a_changed_shape_under_an_unchanged_version_is_refused_with_what_to_do(database: Connection) -> None:
    others = [one for one in PROJECTIONS if one.name != "summaries"]
    with pytest.raises(Fault, match=r"declare the new one as version 2 beside it in projections/__init__\.py"):
        Registry(database, [*others, with_climb(1)]).register()
    with pytest.raises(Fault, match=r"keep it in projections/__init__\.py beside the newer version"):
        Registry(database, [*others, with_climb(2)]).register()
    Registry(database, [*PROJECTIONS, with_climb(2)]).register()


def test_a_new_installation_begins_with_the_newest_version_only(database: Connection) -> None:
    database.execute("DELETE FROM projection_pointers")
    registry = Registry(database, [*PROJECTIONS, with_climb(2)])
    for build in registry.builds():
        registry.drop(build)
    registry.register()
    assert {(build.name, build.version, build.state) for build in registry.builds("summaries")} == {
        ("summaries", 2, "active")
    }


@pytest.mark.usefixtures("history")
def test_versions_of_other_shapes_are_compared_in_what_both_have(operator: Operator, worker: Worker) -> None:
    worker.tables.release()
    new = with_climb(2)
    registry = Registry(operator.connection, [*PROJECTIONS, new])
    lifecycle = Lifecycle(operator.connection, registry, operator.url)
    build = filled_live(registry, operator, new)
    with following(operator.url, registry.projections):
        lifecycle.catch_up(build, lambda _behind: None, 10)
        verdict = lifecycle.verify(build)
        assert verdict is not None
        assert verdict.equal
        assert "column days.climb (double precision) is new" in plan(operator.connection, registry, "summaries").changes
        operator.connection.execute("UPDATE summaries_v2.days SET count = count + 1")
        with pytest.raises(NotEqual):
            lifecycle.verify(build)
    meant = with_climb(2, differs=frozenset({"count"}))
    again = Lifecycle(operator.connection, Registry(operator.connection, [*PROJECTIONS, meant]), operator.url)
    assert again.verify(build) is not None
    sums: LiteralString = "SELECT user_id, sum(distance_m)::text AS metres FROM {s}.days GROUP BY user_id"
    compares = (Comparison("totals", ("user_id", "metres"), sums, sums),)
    summed = with_climb(2, compares=compares)
    last = Lifecycle(operator.connection, Registry(operator.connection, [*PROJECTIONS, summed]), operator.url)
    totals = last.verify(build)
    assert totals is not None
    assert [(table.name, table.buckets) for table in totals.compared] == [("totals", 0)]


def filled_live(registry: Registry, operator: Operator, projection: Projection) -> Build:
    """A build that workers fill from the beginning of the log."""
    build = registry.insert(projection, 1, "catching up")
    make_tables(operator.connection, projection, build.schema_name, indexed=True)
    registry.follow(build, 0)
    return build
