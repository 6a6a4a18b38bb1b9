"""Pages for followers and scans for replays."""

import base64
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.sql import SQL

from domain.errors import StoreUnavailable
from domain.events import EVENTS
from domain.events.activity import ActivityRecorded
from domain.events.event import Recorded
from domain.events.user import UserRegistered
from infra.event_store.mapper import MAPPER, Mapper, associated
from infra.event_store.reader import LogReader, Selection
from infra.event_store.rows import Row, Save, partition_of
from infra.keys import MasterKeys
from infra.projecting.refold import Part
from projections.summaries import SUMMARIES
from tests.infra.event_store import samples
from tests.infra.event_store.conftest import MASTER, Store
from tests.scenarios import ANNA, BEN, CARA, MAY_1, run


async def append(store: Store, owner: object, *events: object) -> tuple[object, int]:
    """A new stream with these events."""
    stream = uuid4()
    cipher = await store.keys.to_seal(owner)  # type: ignore[arg-type]
    states = [
        MAPPER.encode(event, cipher, associated(owner, stream, version))  # type: ignore[arg-type]
        for version, event in enumerate(events, 1)
    ]
    return stream, await store.log.append(Save(stream, owner, 1, tuple(states)))  # type: ignore[arg-type]


def fill(database: Connection, owner: UUID, count: int, state: LiteralString = "''") -> None:
    """So many rows; `state`: that of the n-th, a text in SQL."""
    database.execute(
        SQL(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)"
            " SELECT gen_random_uuid(), 1, 'follow.ended@1', convert_to({}, 'utf8'), %s, %s"
            " FROM generate_series(1, %s) AS n"
        ).format(SQL(state)),
        (owner, partition_of(owner), count),
    )


def scanned(reader: LogReader, **arguments: object) -> list[Row]:
    return [row for page in reader.scan(**arguments) for row in page]  # type: ignore[arg-type]


def replayed(reader: LogReader, upto: int, of: Selection, opened: Collection[str]) -> list[Recorded]:
    return [event for page, *_ in reader.replay(0, upto, of, opened) for event in page]


PRIVATE = {event.TOPIC for event in EVENTS if event.PRIVATE}


async def test_pages_are_bounded_and_lead_to_the_end(opened: Store, reader: LogReader) -> None:
    for _ in range(5):
        await append(opened, ANNA, run(ANNA), run(ANNA))
    position, seen = 0, list[Recorded]()
    while True:
        events, ceiling = reader.page(position, 3)
        assert len(events) <= 3
        if ceiling == position:
            break
        position = ceiling
        seen += events
    assert len(seen) == 10
    assert all(isinstance(recorded.event, ActivityRecorded) for recorded in seen)
    assert [recorded.position for recorded in seen] == sorted(recorded.position for recorded in seen)
    assert {recorded.event.title for recorded in seen if isinstance(recorded.event, ActivityRecorded)} == {
        "Morning run"
    }


async def test_a_scan_gives_the_rows_as_they_are_stored(opened: Store, reader: LogReader, database: Connection) -> None:
    for owner in (ANNA, BEN, ANNA):
        await append(opened, owner, run(owner), UserRegistered(display_name="x", at=MAY_1))
    columns = "notification_id, originator_id, originator_version, topic, state, owner_id"
    stored = [
        Row(*row)
        for row in database.execute(f"SELECT {columns} FROM stored_events ORDER BY 1")  # noqa: S608 # type: ignore[arg-type]
    ]
    assert scanned(reader) == stored
    assert scanned(reader, after=stored[1].position) == stored[2:]
    assert scanned(reader, after=stored[1].position, upto=stored[3].position) == stored[2:4]
    assert scanned(reader, of=Selection(owners=[BEN])) == stored[2:4]
    assert scanned(reader, of=Selection(owners=[CARA])) == []
    assert {row.stream_id: 1 for row in scanned(reader)} == {row.stream_id: 1 for row in stored}  # hashed as others are


def test_a_scan_of_many_pages_gives_each_row_once(reader: LogReader, database: Connection) -> None:
    fill(database, ANNA, 12_345, "repeat('x', mod(n, 50))")
    pages = list(reader.scan())
    assert [len(page) for page in pages] == [5_000, 5_000, 2_345]
    positions = [row.position for page in pages for row in page]
    assert positions == sorted(set(positions))
    assert [len(row.state) for row in pages[0][:51]] == [*range(1, 50), 0, 1]


def test_a_scan_leaves_out_nothing_where_many_rows_follow_few(reader: LogReader, database: Connection) -> None:
    fill(database, BEN, 5_000)  # which widens the window of positions for the next page
    fill(database, ANNA, 6_000)
    positions = [row.position for row in scanned(reader, of=Selection(owners=[ANNA]))]
    assert len(positions) == 6_000
    assert positions == sorted(set(positions))


def test_a_scan_that_is_given_up_leaves_the_connection_usable(reader: LogReader, database: Connection) -> None:
    fill(database, ANNA, 20_000, "repeat('x', 1000)")
    scan = reader.scan()
    assert len(next(iter(scan))) == 5_000
    scan.close()  # type: ignore[attr-defined]
    assert len(scanned(reader)) == 20_000


async def test_between_the_pages_of_a_scan_the_connection_answers_others(opened: Store, reader: LogReader) -> None:
    """A replay opens what it scans, for which it asks for keys."""
    for owner in (ANNA, BEN):
        await append(opened, owner, run(owner))
    events = [recorded.event for rows in reader.scan() for recorded in reader.events(rows)]
    assert [event.title for event in events if isinstance(event, ActivityRecorded)] == ["Morning run"] * 2


async def test_a_scan_stops_where_the_log_is_decided(opened: Store, reader: LogReader, database_url: str) -> None:
    _, position = await append(opened, ANNA, run(ANNA))
    assert reader.decided() == position
    with psycopg.connect(database_url) as slow:
        slow.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)"
            " VALUES (%s, 1, 'follow.ended@1', '{}', %s, 1)",
            (uuid4(), ANNA),
        )
        await append(opened, ANNA, run(ANNA))
        assert [row.position for row in scanned(reader)] == [position]
        slow.rollback()
    assert len(scanned(reader)) == 2


@pytest.mark.parametrize("path", sorted((samples.FOLDER / "sealed").glob("*.json")), ids=lambda path: path.stem)
def test_what_was_stored_as_json_is_read_and_replayed(path: Path, reader: LogReader, database: Connection) -> None:
    sample = json.loads(path.read_text())
    owner, stream = UUID(sample["owner_id"]), UUID(sample["stream_id"])
    clear = MAPPER.decode(path.stem, (samples.FOLDER / "events" / path.name).read_bytes())
    wrapped = MASTER.wrap(owner, base64.b64decode(sample["key"])).wrapped
    database.execute(
        "INSERT INTO user_keys (owner_id, master_id, wrapped) VALUES (%s, %s, %s)", (owner, MASTER.current, wrapped)
    )
    row = (stream, sample["version"], path.stem, sample["state"].encode(), owner, partition_of(owner))
    database.execute(
        "INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        row,
    )
    (read,), position = reader.page(0, 10)
    assert read.event == clear
    topics = MAPPER.topics_of([type(clear)])
    assert [one.event for one in replayed(reader, position, Selection(topics=topics), topics)] == [clear]
    (closed,) = replayed(reader, position, Selection(), ())
    assert closed.event == MAPPER.decode(path.stem, row[3]) != clear


async def test_without_the_key_private_fields_are_redacted_and_the_rest_is_there(
    opened: Store, reader: LogReader, database_url: str
) -> None:
    await append(opened, ANNA, run(ANNA, 7_000))
    await append(opened, BEN, run(BEN))
    await opened.keys.destroy(ANNA)
    events, _ = reader.page(0, 10)
    titles = [recorded.event.title for recorded in events if isinstance(recorded.event, ActivityRecorded)]
    assert titles == ["", "Morning run"]
    first = events[0].event
    assert isinstance(first, ActivityRecorded)
    assert (first.user_id, first.tally.distance_m) == (ANNA, 7_000)
    with psycopg.connect(database_url, autocommit=True) as connection:
        redacted = LogReader(connection, MASTER).events(scanned(reader), opened=())
        assert {recorded.event.title for recorded in redacted if isinstance(recorded.event, ActivityRecorded)} == {""}


DAMAGES = {
    "a topic of newer code": (
        "UPDATE stored_events SET topic = 'activity.recorded@9' WHERE originator_id = %s AND originator_version = 2",
        r"unknown topic 'activity\.recorded@9'",
    ),
    "bytes that are no JSON": (
        "UPDATE stored_events SET state = '{\"at\":' WHERE originator_id = %s AND originator_version = 2",
        r"state of topic 'activity\.recorded@2' does not decode",
    ),
    "a sealed part that was changed": (
        "UPDATE stored_events SET state = overlay(state PLACING 'xx' FROM length(state) - 20)"
        " WHERE originator_id = %s AND originator_version = 2",
        "does not open",
    ),
    "a sealed part from another row": (
        "UPDATE stored_events SET state = (SELECT state FROM stored_events o WHERE o.originator_version = 1"
        " AND o.originator_id = stored_events.originator_id) WHERE originator_id = %s AND originator_version = 2",
        "does not open",
    ),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
async def test_a_stream_that_cannot_be_read_is_parked_told_and_passed(
    damage: str,
    reason: str,
    opened: Store,
    database: Connection,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream, _ = await append(opened, ANNA, run(ANNA), run(ANNA), run(ANNA))
    await append(opened, ANNA, run(ANNA))
    _, last = await append(opened, BEN, run(BEN))
    database.execute(damage, (stream,))
    for _ in range(2):  # a second follower finds it parked, and does not tell again
        with psycopg.connect(database_url, autocommit=True) as connection:
            events, ceiling = LogReader(connection, MASTER).page(0, 10)
        assert ceiling == last
        assert [(recorded.stream_id == stream, recorded.version) for recorded in events] == [
            (True, 1),
            (False, 1),
            (False, 1),
        ]
    told = [record.getMessage() for record in caplog.records if record.name == "infra.event_store.reader"]
    assert len(told) == 1
    assert f"stream {stream} version 2" in told[0]
    (parked,) = database.execute("SELECT stream_id, version, reason FROM parked_streams").fetchall()
    assert parked[:2] == (stream, 2)
    assert f"stream {stream} version 2" in parked[2]
    assert re.search(reason, parked[2])


async def test_a_page_opens_what_is_asked_for_and_nothing_else(
    opened: Store, reader: LogReader, database: Connection, database_url: str
) -> None:
    await append(opened, ANNA, UserRegistered(display_name="x", at=MAY_1), run(ANNA))
    (user, activity), last = reader.page(0, 10, MAPPER.topics_of([UserRegistered]))
    assert isinstance(user.event, UserRegistered)
    assert isinstance(activity.event, ActivityRecorded)
    assert (user.event.display_name, activity.event.title) == ("x", "")
    assert activity.event.tally == run(ANNA).tally
    assert last == activity.position
    database.execute("UPDATE user_keys SET wrapped = '\\x00'")
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert len(LogReader(connection, MASTER).page(0, 10, ())[0]) == 2  # what stays sealed needs no key


async def test_a_replay_gives_what_pages_give(opened: Store, reader: LogReader) -> None:
    for owner in (ANNA, BEN, ANNA):
        await append(opened, owner, UserRegistered(display_name="x", at=MAY_1), run(owner))
    events, last = reader.page(0, 10)
    assert replayed(reader, last, Selection(), PRIVATE) == events
    assert replayed(reader, last, Selection(owners=[BEN]), PRIVATE) == [one for one in events if one.owner_id == BEN]
    assert replayed(reader, events[1].position, Selection(), PRIVATE) == events[:2]


async def test_a_replay_is_in_order_whatever_the_form_in_which_events_are_stored(
    opened: Store, reader: LogReader
) -> None:
    as_json, last = (samples.FOLDER / "events" / "follow.ended@1.json").read_bytes(), 0
    topic, packed = MAPPER.encode(MAPPER.decode("follow.ended@1", as_json))
    for state in (as_json, packed) * 3:
        last = await opened.log.append(Save(uuid4(), ANNA, 1, ((topic, state),)))
    positions = [one.position for one in replayed(reader, last, Selection(), ())]
    assert len(positions) == 6
    assert positions == sorted(positions)


async def test_what_a_replay_need_not_open_does_not_leave_the_server(
    opened: Store, reader: LogReader, database: Connection
) -> None:
    """It is there without its key too, and whatever is wrong with its bytes."""
    stream, last = await append(opened, ANNA, UserRegistered(display_name="x", at=MAY_1), run(ANNA))
    database.execute("UPDATE user_keys SET wrapped = '\\x00'")
    (user, activity) = replayed(reader, last, Selection(), ())
    assert isinstance(user.event, UserRegistered)
    assert isinstance(activity.event, ActivityRecorded)
    assert (user.event.display_name, activity.event.title) == ("", "")
    assert activity.event.tally == run(ANNA).tally
    assert (activity.stream_id, activity.version, activity.owner_id) == (stream, 2, ANNA)
    assert reader.parked() == {}


@pytest.mark.parametrize("at_once", [1, 128])  # lines: with one, others are still to come when it is parked
async def test_a_replay_holds_back_what_follows_an_event_that_cannot_be_read(
    opened: Store, reader: LogReader, database: Connection, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("infra.event_store.copying._AT_ONCE", at_once)
    stream, _ = await append(opened, ANNA, run(ANNA), run(ANNA), run(ANNA))
    _, last = await append(opened, BEN, run(BEN))
    database.execute("UPDATE stored_events SET state = '{' WHERE originator_version = 2")
    for _ in range(2):  # found then, and known
        assert [(one.owner_id, one.version) for one in replayed(reader, last, Selection(), ())] == [(ANNA, 1), (BEN, 1)]
    assert reader.parked().keys() == {stream}


async def test_a_replay_asks_for_what_it_lacks_in_the_middle_of_a_page(
    opened: Store, reader: LogReader, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that it does not know, and where to park: the connection still has lines to come then."""
    monkeypatch.setattr("infra.event_store.copying._AT_ONCE", 2)
    _, known = await append(opened, ANNA, run(ANNA))
    assert len(replayed(reader, known, Selection(), PRIVATE)) == 1  # Anna's key is known from here on
    for owner in (ANNA, ANNA, BEN, ANNA, CARA, ANNA):
        await append(opened, owner, run(owner))
    broken, _ = await append(opened, BEN, run(BEN), run(BEN))
    _, last = await append(opened, CARA, run(CARA), run(CARA), run(CARA))
    database.execute("UPDATE stored_events SET state = '{' WHERE originator_id = %s", (broken,))
    found = replayed(reader, last, Selection(), PRIVATE)
    assert [one.owner_id for one in found] == [ANNA, ANNA, ANNA, BEN, ANNA, CARA, ANNA, CARA, CARA, CARA]
    assert {one.event.title for one in found if isinstance(one.event, ActivityRecorded)} == {"Morning run"}
    assert reader.parked().keys() == {broken}


COPYING = "FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%COPY%TO STDOUT%'"


async def many(opened: Store, database: Connection) -> int:
    """So many events that they do not all wait in the connection's buffers."""
    await append(opened, ANNA, run(ANNA))
    database.execute(
        "INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)"
        " SELECT gen_random_uuid(), 1, topic, state, owner_id, partition_id"
        " FROM stored_events, generate_series(2, 4500)"
    )
    return 4_500


async def test_a_replay_gives_events_while_the_server_still_sends_and_may_rest_or_be_left(
    opened: Store, reader: LogReader, database: Connection
) -> None:
    count = await many(opened, database)
    pages = reader.replay(0, reader.decided(), Selection(), ())
    first, *_ = next(pages)
    assert database.execute(f"SELECT count(pid) {COPYING}").fetchone() == (1,)
    reader.take_in()
    assert database.execute(f"SELECT count(pid) {COPYING}").fetchone() == (0,)
    assert len([event for page, *_ in pages for event in page]) == count - len(first)
    pages = reader.replay(0, reader.decided(), Selection(), ())
    next(pages)
    pages.close()
    assert len(replayed(reader, reader.decided(), Selection(), ())) == count


async def test_a_server_that_goes_away_in_the_middle_of_a_replay_is_said_to_be_so(
    opened: Store, reader: LogReader, database: Connection
) -> None:
    await many(opened, database)
    pages = reader.replay(0, reader.decided(), Selection(), ())
    next(pages)
    database.execute(f"SELECT pg_terminate_backend(pid) {COPYING}")
    with pytest.raises(StoreUnavailable):
        list(pages)


async def test_what_is_stored_under_an_older_topic_is_replayed_too(
    opened: Store, reader: LogReader, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = Mapper(EVENTS, {f"activity.recorded@{n}": (f"activity.recorded@{n + 1}", dict) for n in (0, 1)})
    monkeypatch.setattr("infra.event_store.reader.MAPPER", older)
    monkeypatch.setattr("infra.projecting.refold.MAPPER", older)
    _, last = await append(opened, ANNA, run(ANNA), run(ANNA), run(ANNA))
    database.execute("UPDATE stored_events SET topic = 'activity.recorded@' || 3 - notification_id")
    part = Part(foreign=False)
    events = [one.event for page, *_ in part.pages(reader, [SUMMARIES], 0, last) for one in page]
    assert [type(event) for event in events] == [ActivityRecorded] * 3
    assert older.topics_of([ActivityRecorded]) == {f"activity.recorded@{n}" for n in range(3)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DELETE FROM user_keys WHERE owner_id = %s", "put the table user_keys back from a backup"),
        ("UPDATE user_keys SET wrapped = '\\x00' WHERE owner_id = %s", "was changed: put it back from a backup"),
        ("UPDATE user_keys SET master_id = 'nobody' WHERE owner_id = %s", "master key"),
    ],
)
async def test_streams_whose_key_is_missing_or_damaged_are_parked(
    change: str, reason: str, opened: Store, reader: LogReader, database: Connection
) -> None:
    stream, _ = await append(opened, ANNA, run(ANNA))
    await append(opened, BEN, run(BEN))
    database.execute(change, (ANNA,))
    events, _ = reader.page(0, 10)
    assert [recorded.owner_id for recorded in events] == [BEN]
    assert reader.parked().keys() == {stream}
    assert reason in reader.parked()[stream].reason  # type: ignore[index]
    assert f"stream {stream} version 1" in reader.parked()[stream].reason  # type: ignore[index]


async def test_with_another_master_key_nothing_is_opened_and_nothing_is_lost(opened: Store, database_url: str) -> None:
    """The start-up check refuses it before; should it come so far, everything sealed is held back, not redacted."""
    await append(opened, ANNA, run(ANNA))
    with psycopg.connect(database_url, autocommit=True) as connection:
        events, _ = LogReader(connection, MasterKeys([b"w" * 32])).page(0, 10)
        assert events == []


async def test_a_server_that_went_away_is_said_to_be_so(opened: Store, reader: LogReader, database: Connection) -> None:
    await append(opened, ANNA, run(ANNA))
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(StoreUnavailable):
        reader.page(0, 10)
