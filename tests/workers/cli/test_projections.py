"""`cairn projections` as scripts see it: JSON, exit codes, and the operators' log. What it does is told elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg.errors import DeadlockDetected

from infra.faults import Fault
from infra.positions import to_token
from infra.projecting.lifecycle import Lifecycle
from infra.projecting.shards import change_shards, stop
from tests.infra.projecting.conftest import Operator, history, operator, worker
from tests.infra.projecting.histories import History, append
from tests.infra.projecting.live import Worker
from tests.infra.projecting.test_lifecycle import following
from tests.infra.projecting.test_quarantine import poisoned
from tests.infra.projecting.test_watch import appended_a_minute_ago
from tests.workers.cli.commands import Run, running
from workers.cli.projections.command import projections_command

__all__ = ["history", "operator", "worker"]


@pytest.fixture
def projections(database_url: str, tmp_path: Path) -> Run:
    """The command, on the test's database."""
    return running(projections_command, database_url, tmp_path)


def told(run: Run, *arguments: object, code: int = 0) -> Any:
    """What it says in JSON."""
    result = run(*arguments, "--json")
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout)


@pytest.mark.usefixtures("history")
def test_a_migration_in_json(projections: Run, operator: Operator, worker: Worker) -> None:
    worker.tables.release()
    planned = told(projections, "plan", "summaries")
    assert (planned["build"], planned["how"]) == ("summaries v1", "a new build of the version that is read")
    assert planned["events"] > 100
    with following(operator.url):
        (built,) = told(projections, "rebuild", "summaries", "--workers", "1", "--reason", "rows are in doubt")
        assert (built["build"], built["verified"]) == ("summaries v1 (build 2)", True)
        assert built["verdict"]["compared"][0]["buckets"] == 0
        assert told(projections, "verify", "summaries")["position"].startswith("p1-")
        shadow = told(projections, "shadow", "summaries", "--percent", "10")
        assert shadow == {"name": "summaries", "percent": 10, "build": "summaries v1 (build 2)"}
        exchanged = told(projections, "cutover", "summaries")
        assert (exchanged["before"], exchanged["now"]) == ("summaries v1", "summaries v1 (build 2)")
        assert told(projections, "rollback", "summaries")["now"] == "summaries v1"
        assert {one["state"] for one in told(projections, "list")} == {"active", "standby"}
        standings = told(projections, "status")
        assert {one["lag"]["events"] for one in standings} == {0}
        assert told(projections, "gc", "summaries", "--abandon") == []
        assert told(projections, "gc", "summaries") == ["summaries v1 (build 2)"]
    done = operator.connection.execute("SELECT action, outcome, arguments FROM operator_actions ORDER BY action_id")
    rows = done.fetchall()
    assert [row[:2] for row in rows] == [
        (action, "done") for action in ("rebuild", "verify", "shadow", "cutover", "rollback", "gc", "gc")
    ]
    assert rows[0][2] == {"names": ["summaries"], "reason": "rows are in doubt"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("rebuild", "summaries", "--users", ""),  # as of a variable that is not set: not all of them
        ("rebuild", "summaries", "--users", "5f0c7e4e-3f0e-4a55-9a43-0c9d8f5a2b11", "--auto-cutover"),
        ("rebuild", "summaries", "--users", "5f0c7e4e-3f0e-4a55-9a43-0c9d8f5a2b11", "--restart"),
        ("skip", "summaries", "1", "--reason", " "),
    ],
)
@pytest.mark.usefixtures("history")
def test_what_says_too_little_or_too_much_is_refused_and_changes_nothing(
    arguments: tuple[str, ...], projections: Run, operator: Operator
) -> None:
    refused = projections(*arguments)
    assert isinstance(refused.exception, Fault)
    assert len(operator.registry.builds("summaries")) == 1
    assert operator.connection.execute("SELECT count(*) FROM skipped_events").fetchone() == (0,)


@pytest.mark.usefixtures("history")
def test_a_row_that_differs_is_told_with_the_user_whose_rows_mend_it(
    projections: Run, operator: Operator, worker: Worker
) -> None:
    """A follow's key has two users; it is the follower's."""
    worker.tables.release()
    row = operator.connection.execute(
        "DELETE FROM people_v1.follows WHERE ctid = (SELECT min(ctid) FROM people_v1.follows) "
        "RETURNING followee_id::text, follower_id::text"
    ).fetchone()
    assert row is not None
    followee, follower = row
    (audited,) = told(projections, "audit", "people", "--sample", "100%", code=1)
    assert audited["differences"] == [
        {"table": "follows", "key": [followee, follower], "owner": follower, "what": "is missing"}
    ]
    shown = projections("audit", "people", "--sample", "100%").output
    assert f'follows ["{followee}", "{follower}"] of user {follower}: is missing' in shown
    assert f"cairn projections rebuild people --users {follower}\n" in shown
    with following(operator.url):
        (built,) = told(projections, "rebuild", "people", "--workers", "1", code=1)
        (difference,) = [one for table in built["verdict"]["compared"] for one in table["differences"]]
        assert difference["owner"] == follower
        assert f"of user {follower}" in projections("verify", "people").output
    assert projections("rebuild", "people", "--users", follower).exit_code == 0
    assert told(projections, "audit", "people", "--sample", "100%")[0]["differences"] == []


@pytest.mark.usefixtures("history")
def test_rows_that_differ_are_told_in_json_and_by_the_exit_code(
    projections: Run, operator: Operator, worker: Worker
) -> None:
    worker.tables.release()
    operator.connection.execute("UPDATE summaries_v1.days SET count = count + 1")
    audited = told(projections, "audit", "summaries", "--sample", "100%", code=1)
    assert {one["what"] for one in audited[0]["differences"]} == {"differs in count"}
    days = operator.connection.execute("SELECT count(*) FROM summaries_v1.days").fetchone()
    assert (len(audited[0]["differences"]), (audited[0]["differing"],)) == (10, days)
    shown = projections("audit", "summaries", "--sample", "100%").output
    assert f"{audited[0]['differing']} DIFFER" in shown
    assert f"... and {audited[0]['differing'] - 10} more" in shown
    with following(operator.url):
        (built,) = told(projections, "rebuild", "summaries", "--workers", "1", code=1)
        assert built["verified"] is False
        differences = built["verdict"]["compared"][0]["differences"]
        assert [one["old"]["count"] - one["new"]["count"] for one in differences] == [1] * len(differences)
        refused = projections("cutover", "summaries")
    assert isinstance(refused.exception, Fault)
    assert "not verified" in str(refused.exception)
    (row,) = operator.connection.execute("SELECT outcome FROM operator_actions WHERE action = 'cutover'").fetchall()
    assert row[0].startswith("failed: summaries v1 (build 2) is verifying and not verified")
    assert "rebuild summaries --users ID,... mends the rows of some users" in row[0]


@pytest.mark.usefixtures("history")
def test_a_build_is_read_although_it_differs_where_what_is_read_is_wrong(
    projections: Run, operator: Operator, worker: Worker
) -> None:
    worker.tables.release()
    right = operator.digests("summaries_v1")
    operator.connection.execute("UPDATE summaries_v1.days SET count = count + 1")
    cutover = ("cutover", "summaries", "--although-it-differs")
    with following(operator.url):
        operator.rebuild("summaries")
        assert "catching up and not verified" in str(projections(*cutover, "--reason", "x").exception)
        refused = str(projections("verify", "summaries").exception)
        assert "audit summaries --sample 100% finds that what is read is wrong" in refused
        assert "cutover summaries --although-it-differs" in str(projections("cutover", "summaries").exception)
        assert "takes a --reason" in str(projections(*cutover).exception)
        assert told(projections, *cutover, "--reason", "audit: all off by one")["now"] == "summaries v1 (build 2)"
    assert operator.digests(operator.active("summaries")) == right
    assert "although it differed" in projections("list").output
    noted = operator.connection.execute("SELECT arguments FROM operator_actions ORDER BY action_id DESC LIMIT 1")
    assert noted.fetchone() == ({"name": "summaries", "although_it_differs": True, "reason": "audit: all off by one"},)


@pytest.mark.usefixtures("history")
def test_a_build_that_is_filled_makes_room_for_another_but_not_while_it_is_tried(
    projections: Run, operator: Operator, worker: Worker
) -> None:
    worker.tables.release()
    rebuild = ("rebuild", "summaries", "--workers", "1")
    with following(operator.url):
        told(projections, *rebuild)
        for state in ("ready", "one that differs"):
            operator.connection.execute("UPDATE summaries_v1_b2.days SET count = count + 1")
            if state != "ready":
                assert isinstance(projections("verify", "summaries").exception, Fault)
            assert told(projections, "rebuild", code=0) == []  # without names: what is not filled
            (anew,) = told(projections, *rebuild)
            assert (anew["build"], anew["verified"]) == ("summaries v1 (build 2)", True)
        projections("shadow", "summaries", "--percent", "50")
        for more in ([], ["--restart"]):
            assert "is read by 50 % of the users: end that first" in str(projections(*rebuild, *more).exception)
        assert operator.digests("summaries_v1_b2") == operator.digests("summaries_v1")


@pytest.fixture
def quarantined(projections: Run, operator: Operator) -> Any:
    """A key that code since mended failed at, as it is listed."""
    log = History(11).take(300)
    wrong, poison = poisoned(log, 1)
    append(operator.connection, log)
    with Worker(operator.url, wrong) as failing:
        failing.catch_up()
    listed = told(projections, "quarantine", "list", "summaries")
    (key,) = listed["keys"]
    assert (key["topic"], key["stream_id"]) == ("activity.recorded@2", str(next(iter(poison))))
    assert listed["streams"] == listed["skipped"] == []
    return key


@pytest.mark.usefixtures("quarantined")
def test_quarantine_and_heal(projections: Run, operator: Operator) -> None:
    with Worker(operator.url) as mended, following(operator.url):
        mended.tables.release()
        (healed,) = told(projections, "heal")
        assert (healed["build"], healed["still_quarantined"]) == ("summaries v1", 0)
    assert told(projections, "quarantine", "list") == {"keys": [], "streams": [], "skipped": []}


def test_skip_and_its_undoing(quarantined: Any, projections: Run, operator: Operator) -> None:
    arguments = {"name": "summaries", "position": quarantined["position"], "reason": "a test"}
    name, position, reason = arguments.values()
    (left_out,) = told(projections, "skip", name, position, "--reason", reason)
    assert (left_out["build"], left_out["still_quarantined"]) == ("summaries v1", 0)
    listed = told(projections, "quarantine", "list", name)
    assert [{**arguments, "skipped_at": one["skipped_at"]} for one in listed["skipped"]] == listed["skipped"]
    assert f"{name} leaves out {position} since " in projections("quarantine", "list").output
    (taken_back,) = told(projections, "skip", name, position, "--undo", "--reason", reason)
    assert taken_back["rows"] - left_out["rows"] in {0, 1}  # its day may have other runs
    assert told(projections, "quarantine", "list") == {"keys": [], "streams": [], "skipped": []}
    done = operator.connection.execute("SELECT action, arguments FROM operator_actions ORDER BY action_id").fetchall()
    assert done == [("skip", arguments), ("skip", {**arguments, "undo": True})]


def test_a_command_that_postgres_ended_for_another_says_so(projections: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_each_others_way(*_: object, **__: object) -> None:
        raise DeadlockDetected

    monkeypatch.setattr(Lifecycle, "pause", in_each_others_way)
    refused = projections("pause", "feed")
    assert isinstance(refused.exception, Fault)
    assert "each waited for the other" in str(refused.exception)


@pytest.mark.usefixtures("history")
def test_streams_that_cannot_be_read_are_counted_in_status(projections: Run, operator: Operator) -> None:
    assert "cannot be read" not in projections("status").output
    operator.connection.execute(
        "INSERT INTO parked_streams (stream_id, owner_id, version, position, reason) "
        "VALUES (gen_random_uuid(), gen_random_uuid(), 1, 1, 'damaged')"
    )
    assert "1 streams cannot be read" in projections("status").output


@pytest.mark.usefixtures("history")
def test_a_build_without_what_cannot_be_read_is_not_cut_over_by_itself(
    projections: Run, operator: Operator, worker: Worker
) -> None:
    worker.tables.release()
    rebuild = ("rebuild", "summaries", "goals", "--workers", "1", "--auto-cutover")
    operator.connection.execute(
        "INSERT INTO parked_streams (stream_id, owner_id, version, position, reason) "
        "VALUES (gen_random_uuid(), gen_random_uuid(), 1, 1, 'damaged')"
    )
    with following(operator.url):
        built = told(projections, *rebuild, code=1)
        assert [(one["verified"], "cutover" in one) for one in built] == [(True, False)] * 2
        assert "1 streams of 1 users cannot be read" in built[0]["refused"]
        shown = projections("rebuild", "summaries", "--workers", "1").output
        assert "next: cairn projections quarantine list" in shown
        assert "cutover summaries" not in shown
        operator.connection.execute("DELETE FROM parked_streams")
        assert all("cutover" in one for one in told(projections, *rebuild))


def test_pause_is_seen_in_status_and_ended_by_resume(projections: Run, operator: Operator) -> None:
    assert told(projections, "pause", "feed") == {"name": "feed", "shards": 1, "paused": True}
    found = {one["build"]: one["trouble"] for one in told(projections, "status", code=1)}
    assert found["feed v1"] == "PAUSED"
    assert told(projections, "resume", "feed")["paused"] is False
    with Worker(operator.url) as made:
        made.turn()
        assert {one["trouble"] for one in told(projections, "status")} == {""}


@pytest.mark.usefixtures("history")
def test_what_is_read_on_trial_and_does_not_go_on_is_trouble(
    projections: Run, operator: Operator, worker: Worker
) -> None:
    worker.tables.release()
    with following(operator.url):
        told(projections, "rebuild", "summaries", "--workers", "1")
    worker.turn()
    trial = "summaries_v1_b2"
    stop(operator.connection, trial, "of a wrong fold")
    troubles = {one["schema_name"]: one["trouble"] for one in told(projections, "status")}  # nobody reads it
    assert {schema: trouble for schema, trouble in troubles.items() if trouble} == {trial: "STOPPED: of a wrong fold"}
    told(projections, "shadow", "summaries", "--percent", "50")
    assert "STOPPED: of a wrong fold" in projections("status").output
    change_shards(operator.connection, [trial], "stopped = NULL, holder = NULL")
    troubles = {one["schema_name"]: one["trouble"] for one in told(projections, "status", code=1) if one["read"]}
    assert {schema: trouble for schema, trouble in troubles.items() if trouble} == {trial: "NO WORKER"}


@pytest.mark.usefixtures("history")
def test_what_is_read_and_late_is_trouble(projections: Run, operator: Operator, worker: Worker) -> None:
    worker.turn()
    append(operator.connection, History(40).take(3))
    assert {one["trouble"] for one in told(projections, "status")} == {""}  # it is a moment behind
    appended_a_minute_ago(operator)
    assert {one["trouble"][:8] for one in told(projections, "status", code=1)} == {"LATE: 60"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("verify", "sumaries"), "there is no projection 'sumaries': there are activities, changes, feed, goals"),
        (("rebuild", "--users", "anna"), "--users takes ids of users"),
        (("rebuild", "summaries", "--memory", "much"), "'much' is no size: give it as 512M or 2G"),
        (("rebuild", "summaries", "--memory", "64M"), "--memory is too little"),
        (("rebuild", "summaries", "--max-live-lag", "soon"), "'soon' is no time"),
        (("audit", "--sample", "0%"), "give a percentage above 0"),
        (("skip", "summaries", "42", "--reason", "x"), "'42' is no position"),
        (("skip", "summaries", to_token(4_242), "--reason", "x"), "no key of summaries is quarantined at p1-1092"),
        (("skip", "summaries", to_token(4_242), "--reason", "x", "--undo"), "summaries does not leave out p1-1092"),
        (("gc", "--abandon"), "--abandon takes the NAME of one projection"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_what_cannot_be_done_is_refused_in_one_line(projections: Run, arguments: tuple[str, ...], reason: str) -> None:
    result = projections(*arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, Fault)
    assert reason in str(result.exception)
