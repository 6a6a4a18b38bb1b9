import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import pytest
from eventsourcing.persistence import IntegrityError
from eventsourcing.postgres import PostgresApplicationRecorder
from psycopg import Connection

from domain.activity import Activity, RecordingDiffers
from domain.errors import StoreUnavailable
from domain.events.user import ProfileChanged
from domain.follow import Follow, follow_id
from domain.streams import StreamContended
from domain.user import Profile, User, user_stream_id
from infra.event_store import EventStore, OwnedEvent, memory_recorder, postgres_recorder
from infra.positions import from_token
from tests.scenarios import ANNA, BEN, MAY_1, run

RUN = run(ANNA)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[EventStore]:
    if request.param == "memory":
        recorder = memory_recorder()
    else:
        recorder = postgres_recorder(request.getfixturevalue("database_url"), connections=8)
    opened = EventStore(recorder)
    yield opened
    opened.close()


async def test_what_was_decided_is_there_when_it_is_loaded_again(store: EventStore) -> None:
    await store.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=RUN))
    assert (await store.load(Activity, RUN.activity_id)).title == RUN.title


async def test_a_stream_without_events_is_the_empty_state(store: EventStore) -> None:
    assert await store.load(Activity, uuid4()) == Activity()


async def test_a_repeat_appends_nothing_and_its_position_covers_the_first(store: EventStore) -> None:
    record = partial(Activity.record, recorded=RUN)
    first = await store.transact(Activity, RUN.activity_id, ANNA, record)
    again = await store.transact(Activity, RUN.activity_id, ANNA, record)
    assert from_token(again) >= from_token(first)


async def test_what_a_rule_refuses_reaches_the_caller(store: EventStore) -> None:
    await store.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=RUN))
    other = run(ANNA, activity_id=RUN.activity_id, sha256="ff")
    with pytest.raises(RecordingDiffers):
        await store.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=other))


async def test_of_many_at_the_same_time_one_decides_and_the_others_see_it(store: EventStore) -> None:
    stream = follow_id(ANNA, BEN)
    await asyncio.gather(
        *(store.transact(Follow, stream, ANNA, lambda it: it.start(ANNA, BEN, MAY_1)) for _ in range(6))
    )
    ended = await store.transact(Follow, stream, ANNA, lambda it: it.end(ANNA, BEN, MAY_1))
    assert await store.transact(Follow, stream, ANNA, lambda it: it.end(ANNA, BEN, MAY_1)) == ended


async def test_every_one_of_many_changes_at_the_same_time_is_kept(database_url: str, database: Connection) -> None:
    store = EventStore(postgres_recorder(database_url, connections=8))
    stream = user_stream_id(ANNA)
    await store.transact(User, stream, ANNA, lambda user: user.register("Anna", MAY_1))

    async def rename(number: int) -> None:
        await store.transact(
            User, stream, ANNA, lambda user: user.change_profile(Profile(display_name=f"Anna {number}"), MAY_1)
        )

    await asyncio.gather(*(rename(number) for number in range(5)))
    versions = database.execute(
        "SELECT originator_version FROM stored_events WHERE topic = %s ORDER BY notification_id",
        (ProfileChanged.TOPIC,),
    ).fetchall()
    assert versions == [(2,), (3,), (4,), (5,), (6,)]
    store.close()


async def test_who_always_comes_second_is_told_so(database_url: str) -> None:
    store = EventStore(postgres_recorder(database_url, connections=2))
    recorder = postgres_recorder(database_url, connections=1)
    stream, version = user_stream_id(ANNA), 0

    def overtaken(user: User) -> list[ProfileChanged]:
        nonlocal version
        version += 1
        event = OwnedEvent(
            stream, version, "user.registered@1", b'{"at":"2026-05-01T08:00:00Z","display_name":"A"}', ANNA
        )
        recorder.insert_events([event])
        return [ProfileChanged(display_name=user.profile.display_name, at=MAY_1)]

    with pytest.raises(StreamContended):
        await store.transact(User, stream, ANNA, overtaken)
    store.close()
    recorder.datastore.close()


def test_a_save_wins_or_loses_as_a_whole(database_url: str, database: Connection) -> None:
    recorder = postgres_recorder(database_url, connections=1)
    stream = uuid4()
    recorder.insert_events([OwnedEvent(stream, 2, "t@1", b"{}", ANNA)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([OwnedEvent(stream, 1, "t@1", b"{}", ANNA), OwnedEvent(stream, 2, "t@1", b"{}", ANNA)])
    assert database.execute("SELECT count(*) FROM stored_events").fetchone() == (1,)
    recorder.datastore.close()


def test_an_event_is_stored_with_its_owner_and_partition(database_url: str, database: Connection) -> None:
    recorder = postgres_recorder(database_url, connections=1)
    recorder.insert_events([OwnedEvent(uuid4(), 1, "t@1", b"{}", BEN)])
    assert database.execute("SELECT owner_id, partition_id FROM stored_events").fetchone() == (BEN, BEN.bytes[-1])
    recorder.datastore.close()


def test_the_librarys_own_recorder_reads_our_log(database_url: str) -> None:
    recorder = postgres_recorder(database_url, connections=1)
    stream = uuid4()
    positions = recorder.insert_events([OwnedEvent(stream, n, "t@1", b"{}", ANNA) for n in (1, 2, 3)])
    stock = PostgresApplicationRecorder(recorder.datastore, events_table_name="stored_events")
    found = stock.select_notifications(start=1, limit=10)
    assert [notification.id for notification in found] == list(positions or ())
    assert [event.originator_version for event in stock.select_events(stream)] == [1, 2, 3]
    recorder.datastore.close()


def test_the_log_is_read_in_order_and_in_pages(database_url: str) -> None:
    recorder = postgres_recorder(database_url, connections=1)
    state = b'{"at":"2026-05-01T08:00:00Z","display_name":"A"}'
    recorder.insert_events([OwnedEvent(uuid4(), 1, "user.registered@1", state, ANNA) for _ in range(5)])
    first = recorder.read(0, 3)
    rest = recorder.read(first[-1].position, 3)
    positions = [recorded.position for recorded in [*first, *rest]]
    assert positions == sorted(set(positions))
    assert (len(first), len(rest), first[0].owner_id) == (3, 2, ANNA)
    recorder.datastore.close()


async def test_a_server_that_is_away_is_said_to_be_so() -> None:
    store = EventStore(postgres_recorder("host=127.0.0.1 port=1 user=nobody dbname=none", connections=1))
    with pytest.raises(StoreUnavailable):
        await store.load(Activity, uuid4())
    store.close()
