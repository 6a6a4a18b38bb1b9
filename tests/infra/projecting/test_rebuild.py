"""A rebuild resumes, keeps within its memory, gives way to live projections, and says why it cannot finish."""

import base64
import random
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from domain.events.activity import ActivityRecorded
from domain.events.follow import FollowStarted
from domain.events.measured import Measured
from domain.events.packing import pack
from domain.measures import UserId
from infra import migrations
from infra.embedded.postgres import EmbeddedPostgres
from infra.faults import Fault
from infra.projecting import rebuild as rebuilds
from infra.projecting.builds import Registry
from infra.projecting.healing import healing
from infra.projecting.lag import live_lag_seconds
from infra.projecting.lifecycle import Lifecycle
from infra.projecting.planning import plan
from infra.projecting.rebuild import Options, Progress, rebuilding
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import MASTER, MASTER_KEY, History, Made, append
from tests.infra.projecting.live import Worker
from tests.infra.projecting.test_lifecycle import following
from tests.scenarios import ANNA, MAY_1, MAY_2, run
from tests.servers import start, stop

ROOMY = Options(1, 512 * 1024**2, 60.0)


@pytest.mark.usefixtures("history")
def test_a_rebuild_that_was_cut_off_goes_on_where_it_was(operator: Operator, database: Connection) -> None:
    live = {name: operator.digests(operator.active(name)) for name in ("activities", "feed", "people")}

    finished = "SELECT schema_name, first_partition, done_at FROM rebuild_parts WHERE done_at IS NOT NULL"

    def cut(_progress: Progress) -> None:
        if database.execute(finished).fetchone() is not None:
            raise KeyboardInterrupt

    with rebuilding(database, operator.registry, operator.url, [MASTER_KEY], cut) as begun:
        builds = begun.start([*live], restart=False)
        with pytest.raises(KeyboardInterrupt):
            begun.fill(builds, Options(6, 2 * 1024**3, 60.0))
    first = database.execute(finished).fetchall()
    assert 0 < len(first) < 20
    append(database, History(50).take(50))  # these are for the workers: each build is filled to where it began
    again = operator.rebuild(*live)
    assert [build.schema_name for build in again] == [build.schema_name for build in builds]
    assert {name: operator.digests(build.schema_name) for name, build in zip(live, again, strict=True)} == live
    for schema, partition, done_at in first:
        assert database.execute(
            "SELECT done_at FROM rebuild_parts WHERE schema_name = %s AND first_partition = %s AND done_at = %s",
            (schema, partition, done_at),
        ).fetchone() == (done_at,)


@pytest.mark.usefixtures("history")
def test_another_start_is_made_when_it_is_asked_for(operator: Operator, database: Connection) -> None:
    (built,) = operator.rebuild("goals")
    database.execute("DELETE FROM goals_v1_b2.goals")
    (same,) = operator.rebuild("goals")
    assert operator.digests(same.schema_name)["goals"][0] == 0
    (anew,) = operator.rebuild("goals", restart=True)
    assert (anew.schema_name, operator.digests(anew.schema_name)) == (built.schema_name, operator.digests("goals_v1"))


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("name", ["activities", "feed"])  # of the feed, rows of others' streams are made beside
def test_parts_that_do_not_fit_are_halved_and_then_it_says_so(
    name: str, operator: Operator, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Fault, match=r"--memory is too little for 4 workers: give at least \d+M, or fewer"):
        _fill(operator, [name], Options(4, 100 * 1024**2, 60.0))
    with monkeypatch.context() as patched:
        patched.setattr(rebuilds, "_WORKER_BYTES", 1024**2)  # it takes its workers for smaller than they are
        with pytest.raises(Fault, match=r"rows of partition \d+ alone do not fit into the memory given"):
            _fill(operator, [name], Options(1, 20 * 1024**2, 60.0))
    [begun] = [build for build in operator.registry.builds() if build.name == name and build.state == "building"]
    parts = database.execute(
        "SELECT count(*) FROM rebuild_parts WHERE schema_name = %s", (begun.schema_name,)
    ).fetchone()
    assert parts is not None
    assert parts[0] > 2
    (built,) = operator.rebuild(name)
    assert operator.digests(built.schema_name) == operator.digests(operator.active(name))


@pytest.mark.usefixtures("history")
def test_what_others_streams_say_is_read_together_with_the_smallest_part(
    operator: Operator, database: Connection
) -> None:
    (built,) = operator.rebuild("people", workers=2)
    parts = "SELECT last_partition - first_partition, events FROM rebuild_parts WHERE NOT foreign_rows ORDER BY 1"
    [(small, events), (large, others)] = database.execute(parts).fetchall()
    assert small < large
    assert events != others
    assert database.execute("SELECT events FROM rebuild_parts WHERE foreign_rows").fetchall() == [(events,)]
    assert operator.digests(built.schema_name) == operator.digests("people_v1")


def _fill(operator: Operator, names: list[str], options: Options) -> None:
    with rebuilding(operator.connection, operator.registry, operator.url, [MASTER_KEY], lambda _told: None) as made:
        made.fill(made.start(names, restart=False), options)


def test_it_rests_while_live_projections_are_behind_and_only_for_those_that_somebody_fills(
    operator: Operator, database: Connection, worker: Worker
) -> None:
    append(database, History(51).take(100))
    assert live_lag_seconds(database) == 0.0  # nobody fills them
    worker.turn()
    append(database, History(52).take(100))
    database.execute("UPDATE stored_events SET recorded_at = recorded_at - interval '1 minute'")
    assert live_lag_seconds(database) > 50
    rested: list[bool] = []

    def look(progress: Progress) -> None:
        rested.append(progress.throttled)
        if progress.throttled:
            worker.catch_up()

    with rebuilding(database, operator.registry, operator.url, [MASTER_KEY], look) as made:
        (build,) = made.start(["summaries"], restart=False)
        made.fill([build], Options(1, 512 * 1024**2, 2.0))
    assert any(rested)
    assert operator.digests(build.schema_name) == operator.digests("summaries_v1")


@pytest.mark.usefixtures("history")
def test_without_a_worker_that_knows_it_the_wait_ends_with_what_to_do(
    operator: Operator, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.projecting.lifecycle.LEASE_SECONDS", 0.2)
    worker.tables.release()
    (build,) = operator.rebuild("summaries")
    append(operator.connection, History(53).take(5))
    with pytest.raises(Fault, match="no worker runs whose code declares summaries v1"):
        operator.lifecycle.catch_up(build, lambda _behind: None, 10)


@pytest.mark.usefixtures("history")
def test_the_rows_of_chosen_users_are_made_anew_in_every_live_build(operator: Operator, worker: Worker) -> None:
    worker.tables.release()
    before = {name: operator.digests(operator.active(name)) for name in ("activities", "feed", "summaries", "people")}
    (users,) = [operator.connection.execute("SELECT array_agg(user_id) FROM people_v1.profiles").fetchone() or ([],)]
    chosen = users[0][:3]
    for statement in (
        "UPDATE activities_v4.cards SET title = 'other' WHERE user_id = ANY(%s)",
        "DELETE FROM summaries_v1.days WHERE user_id = ANY(%s)",
        "DELETE FROM feed_v1.entries WHERE viewer_id = ANY(%s)",
        "UPDATE people_v1.degrees SET followers = 99 WHERE user_id = ANY(%s)",
    ):
        assert operator.connection.execute(statement, (chosen,)).rowcount > 0
    with healing(operator.url, operator.registry, MASTER) as healer:
        assert {one.build for one in healer.rebuild_owners(None, chosen)} == {
            "activities v4",
            *(f"{name} v1" for name in ("changes", "feed", "goals", "people", "summaries")),
        }
    assert {name: operator.digests(operator.active(name)) for name in before} == before


@pytest.mark.usefixtures("history")
def test_rows_made_anew_are_not_ahead_of_the_position_at_which_workers_go_on(
    operator: Operator, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are behind, and then a writer whose transaction is open keeps the log's end from being known."""
    append(operator.connection, [_of(run(ANNA)) for _ in range(10)])
    worker.tables.release()
    with psycopg.connect(operator.url) as writer, healing(operator.url, operator.registry, MASTER) as healer:
        ended = threading.Timer(0.5, writer.rollback)

        def write(*_: object) -> None:
            writer.execute("LOCK TABLE stored_events IN ROW EXCLUSIVE MODE")
            ended.start()

        monkeypatch.setattr(healer, "_derive", write)
        healer.rebuild_owners("summaries", [ANNA])
        ended.join()
    worker.catch_up()
    live = operator.digests("summaries_v1")
    (built,) = operator.rebuild("summaries")
    assert operator.digests(built.schema_name) == live


@pytest.mark.usefixtures("history")
def test_rows_that_are_right_are_not_written_again(operator: Operator, worker: Worker) -> None:
    worker.tables.release()
    everybody = [user for (user,) in operator.connection.execute("SELECT user_id FROM people_v1.profiles")]
    tables = ("activities_v4.cards", "summaries_v1.days", "feed_v1.posts", "feed_v1.follows", "feed_v1.entries")
    versions = [SQL("SELECT ctid, xmin FROM {}").format(Identifier(*table.split("."))) for table in tables]
    before = [operator.connection.execute(of_one).fetchall() for of_one in versions]
    assert all(before)
    with healing(operator.url, operator.registry, MASTER) as healer:
        assert all(one.rows for one in healer.rebuild_owners(None, everybody))
    assert [operator.connection.execute(of_one).fetchall() for of_one in versions] == before


@pytest.mark.usefixtures("history")
def test_an_author_whom_many_follow_is_made_anew_while_they_run(
    operator: Operator, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.projecting.healing._DERIVED", 2)
    monkeypatch.setattr("infra.projecting.holding._HOLD_SECONDS", 0.2)
    worker.tables.release()
    runners = [UserId(uuid4()) for _ in range(30)]
    follows = [FollowStarted(follower_id=runner, followee_id=ANNA, at=MAY_1) for runner in runners]
    append(operator.connection, [Made(one.follower_id, uuid4(), 1, one) for one in follows])
    append(operator.connection, [_of(run(ANNA)) for _ in range(20)])
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(operator.url, autocommit=True) as connection:
            while not stop.wait(0.01):
                started = FollowStarted(follower_id=UserId(uuid4()), followee_id=ANNA, at=MAY_2)
                append(connection, [_of(run(ANNA)), Made(started.follower_id, uuid4(), 1, started)])

    writing = threading.Thread(target=write)
    with following(operator.url), healing(operator.url, operator.registry, MASTER) as healer:
        operator.lifecycle.catch_up(operator.build("feed_v1"), lambda _behind: None, 10)
        operator.connection.execute("DELETE FROM feed_v1.entries WHERE get_byte(uuid_send(activity_id), 0) < 128")
        operator.connection.execute("UPDATE feed_v1.viewers SET entries = 1")
        operator.connection.execute("DELETE FROM feed_v1.posts WHERE get_byte(uuid_send(activity_id), 0) > 128")
        writing.start()
        try:
            assert {one.build for one in healer.rebuild_owners("feed", [ANNA, *runners[:20]])} == {"feed v1"}
        finally:
            stop.set()
            writing.join()
        operator.lifecycle.catch_up(operator.build("feed_v1"), lambda _behind: None, 10)
    (built,) = operator.rebuild("feed")
    of_anna = SQL("SELECT viewer_id, activity_id FROM {} WHERE author_id = %s ORDER BY 1, 2")
    entries = [
        operator.connection.execute(of_anna.format(Identifier(schema, "entries")), (ANNA,)).fetchall()
        for schema in ("feed_v1", built.schema_name)
    ]
    assert entries[0] == entries[1]
    assert len(entries[0]) > 600


def _of(event: ActivityRecorded) -> Made:
    return Made(event.user_id, event.activity_id, 1, event)


@pytest.mark.usefixtures("history")
def test_a_plan_tells_what_a_rebuild_would_read_and_changes_nothing(operator: Operator) -> None:
    before = operator.registry.builds()
    made = plan(operator.connection, operator.registry, "summaries")
    assert made.events > 50
    assert made.log_bytes > 100_000
    assert made.table_bytes
    assert (made.build, made.how, made.changes) == (
        "summaries v1",
        "a new build of the version that is read",
        ["nothing in shape"],
    )
    assert operator.registry.builds() == before
    assert "a guess" in made.seconds_from
    operator.rebuild("goals")
    operator.connection.execute("UPDATE rebuild_parts SET done_at = done_at - interval '3 days'")
    operator.rebuild("people")
    again = plan(operator.connection, operator.registry, "summaries")
    assert "by what rebuilds did here" in again.seconds_from
    assert again.seconds < 3_600  # the days between are not of a rebuild


@pytest.fixture
def own_server() -> Iterator[tuple[str, int]]:
    """A server of the test's own, and its process."""
    with TemporaryDirectory(prefix="cairn-") as folder:
        server = EmbeddedPostgres(Path(folder) / "server")
        process = start(server)
        yield server.url, process.pid
        stop(server, process)


def test_a_full_disk_stops_it_with_the_reason_and_live_reads_go_on(own_server: tuple[str, int]) -> None:
    """No file may grow past a limit: what a full disk is to who writes. Then there is room, and it goes on."""
    url, pid = own_server
    migrations.upgrade(url)
    dice = random.Random(1)
    with psycopg.connect(url, autocommit=True) as database:
        registry = Registry(database)
        registry.register()
        for _ in range(12):
            append(database, [_long_run(dice) for _ in range(10)])
        with Worker(url) as worker:
            worker.catch_up()
        limit = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (17 * 1024**2, limit[1]))  # a file of the write-ahead log fits
        with psycopg.connect(url, autocommit=True) as limited:
            tight = Registry(limited)
            with (
                rebuilding(limited, tight, url, [MASTER_KEY], lambda _told: None) as made,
                pytest.raises(Fault, match=r"File too large|No space left.*Run the same command again"),
            ):
                made.fill(made.start(["activities"], restart=False), ROOMY)
            (build,) = [one for one in tight.builds("activities") if one.build == 2]
            assert build.state == "building"
            assert "too large" in str(build.reason)
            assert limited.execute("SELECT count(*) FROM activities_v4.cards").fetchone() == (120,)
            with pytest.raises(Fault, match="building and not verified"):
                Lifecycle(limited, tight, url).cutover("activities")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
        with psycopg.connect(url, autocommit=True) as roomy:
            with rebuilding(roomy, Registry(roomy), url, [MASTER_KEY], lambda _told: None) as made:
                made.fill(made.start(["activities"], restart=False), ROOMY)
            assert roomy.execute("SELECT count(*) FROM activities_v4_b2.cards").fetchone() == (120,)


def _long_run(dice: random.Random) -> Made:
    recorded: ActivityRecorded = run(ANNA)
    line = base64.b85encode(dice.randbytes(160_000)).decode()
    recorded = replace(recorded, measured=pack(Measured(polyline=line)))
    return Made(ANNA, recorded.activity_id, 1, recorded)
