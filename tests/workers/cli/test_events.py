"""`cairn events` over a log with all that may be wrong with one."""

import asyncio
import hashlib
import json
import subprocess
from functools import partial
from pathlib import Path
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from domain.activity import Activity
from domain.follow import Follow, follow_id
from domain.goal import Goal, Target, goal_stream_id
from domain.measures import GoalId, GoalMetric, Period
from domain.streams import Request
from domain.user import Profile, User, user_stream_id
from infra import migrations
from infra.embedded.postgres import EmbeddedPostgres
from infra.event_store.reader import LogReader
from infra.event_store.rows import Save
from infra.faults import Fault
from infra.positions import from_token, to_token
from infra.processes import child_environ
from tests.infra.event_store.conftest import MASTER, Store, opened
from tests.scenarios import ANNA, BEN, MAY_1, run
from tests.servers import running as running_server
from tests.workers.cli.commands import Run, running
from workers.cli.events import events_command

__all__ = ["opened"]

RUN = run(ANNA)
GOAL_ID = GoalId(UUID("90000000-0000-4000-8000-000000000001"))


@pytest.fixture
def events(database_url: str, tmp_path: Path) -> Run:
    """The command, on the test's database."""
    return running(events_command, database_url, tmp_path)


@pytest.fixture
async def log(opened: Store) -> Store:
    """Anna registers and runs, and Ben registers."""
    for who, name in ((ANNA, "Anna"), (BEN, "Ben")):
        await opened.streams.transact(
            User, user_stream_id(who), who, partial(User.register, display_name=name, at=MAY_1)
        )
    await opened.streams.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=RUN))
    return opened


def lines(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


async def asked(events: Run, *arguments: object) -> Result:
    return await asyncio.to_thread(events, *arguments)


@pytest.mark.usefixtures("log")
async def test_tail_prints_the_log_in_order_from_a_position(events: Run) -> None:
    everything = lines(await asked(events, "tail", "--no-follow", "--json"))
    assert [one["topic"] for one in everything] == ["user.registered@1", "user.registered@1", "activity.recorded@2"]
    assert [from_token(str(one["position"])) for one in everything] == sorted(
        from_token(str(one["position"])) for one in everything
    )
    rest = lines(await asked(events, "tail", "--no-follow", "--json", "--after", everything[0]["position"]))
    assert rest == everything[1:]
    assert lines(await asked(events, "tail", "--no-follow", "--json", "--limit", 1)) == everything[2:]


@pytest.mark.usefixtures("log")
async def test_private_fields_are_shown_only_when_they_are_asked_for(events: Run) -> None:
    plain = (await asked(events, "tail", "--no-follow")).stdout
    assert "Anna" not in plain
    assert "Morning run" not in plain
    assert "sealed" not in plain
    assert "Anna" in (await asked(events, "tail", "--no-follow", "--private")).stdout
    shown = lines(await asked(events, "show", RUN.activity_id, "--json", "--private"))
    assert shown[0]["event"]["title"] == "Morning run"  # type: ignore[index]
    assert shown[0]["event"]["measured"]["points"] == 100  # type: ignore[index]
    assert "title" not in lines(await asked(events, "show", RUN.activity_id, "--json"))[0]["event"]  # type: ignore[operator]


async def test_show_tells_what_cannot_be_read_and_what_is_erased(log: Store, events: Run) -> None:
    stream = uuid4()
    await log.log.append(Save(stream, ANNA, 1, (("activity.teleported@9", b"{}"),)))
    result = await asked(events, "show", stream)
    assert "unknown topic 'activity.teleported@9'" in result.stdout
    await log.keys.destroy(ANNA)
    (erased,) = lines(await asked(events, "show", RUN.activity_id, "--json", "--private"))
    assert erased["erased"] is True
    assert "title" not in erased["event"]  # type: ignore[operator]


@pytest.mark.usefixtures("log")
async def test_a_stream_that_is_not_there_and_a_wrong_position_are_told(events: Run) -> None:
    missing = await asked(events, "show", uuid4())
    assert isinstance(missing.exception, Fault)
    assert "there is no stream" in str(missing.exception)
    malformed = await asked(events, "tail", "--after", "yesterday")
    assert isinstance(malformed.exception, Fault)
    assert "p1-2a" in str(malformed.exception)
    assert (await asked(events, "show", "activity")).exit_code == 2


async def test_what_a_terminal_would_obey_is_not_printed(log: Store, events: Run) -> None:
    profile = Profile(display_name="\x1b[2J\u202eAnna")
    await log.streams.transact(User, user_stream_id(ANNA), ANNA, lambda user: user.change_profile(profile, MAY_1))
    shown = (await asked(events, "show", user_stream_id(ANNA), "--private")).stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown


async def test_tail_waits_for_transactions_that_may_still_come_in_between(
    log: Store, events: Run, database_url: str
) -> None:
    with psycopg.connect(database_url) as slow:
        slow.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)"
            " VALUES (%s, 1, 'goal.dropped@1', '{}', %s, 1)",
            (uuid4(), ANNA),
        )
        await log.streams.transact(
            User, user_stream_id(ANNA), ANNA, lambda user: user.change_profile(Profile(display_name="Bea"), MAY_1)
        )
        waiting = await asked(events, "tail", "--no-follow")
        assert (waiting.stdout, "still writes" in waiting.stderr) == ("", True)
        figures = json.loads((await asked(events, "stats", "--json")).stdout)
        assert (figures["writing"], figures["events"]) == (1, 4)
        slow.rollback()
    assert len(lines(await asked(events, "tail", "--no-follow", "--json"))) == 4


async def test_stats_counts_what_is_there(log: Store, events: Run, database: Connection) -> None:
    stream = uuid4()
    position = await log.log.append(Save(stream, ANNA, 1, (("activity.teleported@9", b"{}"),)))
    assert LogReader(database, MASTER).page(0, 100)[1] == position  # and parks it
    await log.keys.destroy(BEN)
    figures = json.loads((await asked(events, "stats", "--json")).stdout)
    counted = {name: figures[name] for name in ("events", "streams", "owners", "keys_live", "keys_destroyed")}
    assert counted == {"events": 4, "streams": 4, "owners": 2, "keys_live": 1, "keys_destroyed": 1}
    assert figures["topics"]["user.registered@1"] == 2
    assert figures["last_position"] == to_token(position)
    assert [(held["stream_id"], held["version"]) for held in figures["parked"]] == [(str(stream), 1)]
    told = (await asked(events, "stats")).stdout
    assert f"{stream} from version 1 on" in told
    assert "activity.teleported@9" in told


async def test_verify_finds_nothing_in_a_sound_log_also_after_an_erasure(log: Store, events: Run) -> None:
    await log.keys.destroy(BEN)
    result = await asked(events, "verify")
    assert result.exit_code == 0, result.output
    assert "3 events of 3 streams" in result.stdout
    assert "all is well" in result.stdout


async def test_verify_passes_positions_that_were_drawn_and_rolled_back(
    log: Store, events: Run, database: Connection
) -> None:
    """More of them in a row than a page has."""
    database.execute("SELECT nextval('stored_events_notification_id_seq') FROM generate_series(1, 40000)")
    other = run(ANNA)
    await log.streams.transact(Activity, other.activity_id, ANNA, partial(Activity.record, recorded=other))
    result = await asked(events, "verify")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "4 events of 4 streams" in result.stdout


DAMAGES = {
    "a gap": ("DELETE FROM stored_events WHERE originator_version = 2", "version 2 is missing before it"),
    "its bytes": ("UPDATE stored_events SET state = '{' WHERE topic = 'user.registered@1'", "does not decode"),
    "a sealed part": (
        "UPDATE stored_events SET state = overlay(state PLACING '1' FROM length(state) - 20)",
        "does not open",
    ),
    "an owner": (
        "UPDATE stored_events SET owner_id = gen_random_uuid() WHERE originator_version = 2",
        "its owner is",
    ),
    "a partition": (
        "UPDATE stored_events SET partition_id = 77 WHERE originator_version = 2",
        "its partition is 77",
    ),
    "a topic": (
        "UPDATE stored_events SET topic = 'user.erased@1' WHERE originator_version = 2",
        "topic 'user.erased@1' has no sealed part, and this state has one",
    ),
    "a topic of another kind": (
        "UPDATE stored_events SET topic = 'user.profile_changed@1' WHERE topic LIKE 'activity.recorded@%'",
        "topic 'user.profile_changed@1' has no activity_id",
    ),
    "the topic of a later event": (
        "UPDATE stored_events SET topic = 'follow.ended@1' WHERE originator_version = 2",
        "its topic is follow.ended@1, in a stream that begins with user",
    ),
    "the keys": ("DELETE FROM user_keys", "put the table user_keys back from a backup"),
    "the sequence": ("SELECT setval('stored_events_notification_id_seq', 1)", "past the last that was drawn"),
    "a snapshot": (
        "INSERT INTO stream_snapshots VALUES (gen_random_uuid(), 'user@1', 9, '', 9, gen_random_uuid())",
        "the snapshot user@1 sums it up",
    ),
}


@pytest.mark.parametrize(("damage", "problem"), DAMAGES.values(), ids=DAMAGES)
async def test_verify_finds_damage_to(
    damage: LiteralString, problem: str, log: Store, events: Run, database: Connection
) -> None:
    for name in ("Bea", "Cara"):
        change = partial(User.change_profile, profile=Profile(display_name=name), at=MAY_1)
        await log.streams.transact(User, user_stream_id(ANNA), ANNA, change)
    database.execute(damage)
    result = await asked(events, "verify", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["findings"] > 0
    assert told["events"] == (4 if "DELETE FROM stored" in damage else 5)  # also what is past the sequence
    assert problem in " ".join(finding["problem"] for finding in told["first_findings"])


async def test_verify_finds_a_kept_reply_that_does_not_open_and_leaves_out_those_of_erased_accounts(
    log: Store, events: Run, database: Connection
) -> None:
    for who in (ANNA, BEN):
        for number in range(600):  # more of them than are looked at at once
            key_hash = hashlib.sha256(who.bytes + bytes([number % 256, number // 256])).digest()
            await log.streams.keep(who, Request(key_hash, b"f" * 32), b"reply")
    assert (await asked(events, "verify")).exit_code == 0
    database.execute("UPDATE kept_replies SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)")
    await log.keys.destroy(BEN)
    counted = json.loads((await asked(events, "verify", "--json")).stdout)
    assert (counted["findings"], counted["events"]) == (600, 3)
    assert {(found["stream_id"], found["version"]) for found in counted["first_findings"]} == {(None, None)}
    plain = await asked(events, "verify")
    assert plain.exit_code == 1
    ((first,),) = database.execute(
        "SELECT encode(key_hash, 'hex') FROM kept_replies WHERE owner_id = %s ORDER BY key_hash LIMIT 1", (ANNA,)
    )
    told = f"the reply kept for user {ANNA} under {first} does not open: its bytes were changed"
    assert plain.stdout.splitlines()[0] == told


async def test_verify_tells_of_a_kept_reply_whose_key_cannot_be_used(
    log: Store, events: Run, database: Connection
) -> None:
    await log.streams.keep(ANNA, Request(b"k" * 32, b"f" * 32), b"reply")
    database.execute("UPDATE kept_replies SET owner_id = gen_random_uuid()")
    result = await asked(events, "verify")
    assert result.exit_code == 1
    assert f"under {b'k'.hex() * 32} does not open: the key of user" in result.stdout


TOLD = {
    "of an activity": ("activity.recorded@2", RUN.activity_id, "it belongs to stream"),
    "of the runner of an activity": ("activity.recorded@2", ANNA, "it is told of user"),
    "of a follower": ("follow.started@1", ANNA, "it is told of user"),
    "of who is followed": ("follow.started@1", BEN, "it belongs to stream"),
    "of the runner of a goal": ("goal.set@1", ANNA, "it is told of user"),
    "of a goal": ("goal.set@1", GOAL_ID, "it belongs to stream"),
}


@pytest.mark.parametrize(("topic", "told", "problem"), TOLD.values(), ids=TOLD)
async def test_verify_finds_a_bit_changed_in_the_id(
    topic: str, told: UUID, problem: str, log: Store, events: Run, database: Connection
) -> None:
    target = Target(metric=GoalMetric.DISTANCE, target=5_000.0, period=Period.WEEK, starts_on=MAY_1.date())
    await log.streams.transact(
        Follow, follow_id(ANNA, BEN), ANNA, partial(Follow.start, follower_id=ANNA, followee_id=BEN, at=MAY_1)
    )
    await log.streams.transact(
        Goal,
        goal_stream_id(ANNA, GOAL_ID),
        ANNA,
        partial(Goal.set, user_id=ANNA, goal_id=GOAL_ID, target=target, at=MAY_1),
    )
    assert (await asked(events, "verify")).exit_code == 0
    ((position, state),) = database.execute(
        "SELECT notification_id, state FROM stored_events WHERE topic = %s", (topic,)
    ).fetchall()
    changed = state.replace(told.bytes, (UUID(int=told.int ^ 4)).bytes)
    assert changed != state
    database.execute("UPDATE stored_events SET state = %s WHERE notification_id = %s", (changed, position))
    result = await asked(events, "verify", "--json")
    assert result.exit_code == 1
    found = " ".join(finding["problem"] for finding in json.loads(result.stdout)["first_findings"])
    assert problem in found


async def test_verify_warns_of_a_server_that_keeps_no_checksums(events: Run, tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "without")
    server.make()
    told = subprocess.run(
        server._command("pg_checksums", ["--disable", "--pgdata", str(server.folder)]),
        env=dict(child_environ()),
        check=True,
        capture_output=True,
        text=True,
    )
    assert "disabled" in told.stdout
    with running_server(EmbeddedPostgres, tmp_path / "without"):
        migrations.upgrade(server.url)
        url = make_conninfo(server.url, dbname="cairn")  # in the form that `running` takes
        without = await asyncio.to_thread(running(events_command, url, tmp_path), "verify")
    assert (without.exit_code, "pg_checksums --enable" in without.stderr) == (0, True)
    assert "all is well" in without.stdout
    assert "pg_checksums" not in (await asked(events, "verify")).stderr


async def test_without_an_instance_it_is_said_how_to_start_one(tmp_path: Path) -> None:
    result = await asyncio.to_thread(CliRunner().invoke, events_command, ["stats", "--data", str(tmp_path)], env={})
    assert isinstance(result.exception, Fault)
    assert "./cairn up" in str(result.exception)
