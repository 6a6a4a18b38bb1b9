"""The `eventsourcing` library on our log: its own recorder reads it at rest, ours appends to it and follows it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.application import Application
from eventsourcing.compressor import ZlibCompressor
from eventsourcing.persistence import IntegrityError, MapperDeserialisationError, OperationalError
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from domain.activity import Activity
from domain.events.activity import ActivityRecorded
from domain.events.follow import FollowStarted
from domain.streams import Aggregate
from domain.user import User, user_stream_id
from infra.event_store.library import LibraryEvent, LibraryMapper, OwnedEvent, Recorder
from infra.event_store.mapper import MAPPER
from infra.event_store.reader import LogReader
from tests.infra.event_store.conftest import Store
from tests.scenarios import ANNA, BEN, MAY_1, run


def datastore_of(database_url: str) -> PostgresDatastore:
    given = conninfo_to_dict(database_url)
    return PostgresDatastore(
        dbname=str(given["dbname"]),
        host=str(given["host"]),
        port=str(given["port"]),
        user=str(given["user"]),
        password=str(given.get("password", "")),
    )


@pytest.fixture
def datastore(database_url: str) -> Iterator[PostgresDatastore]:
    with datastore_of(database_url) as opened:
        yield opened


@pytest.fixture
def recorder(datastore: PostgresDatastore) -> Iterator[Recorder]:
    ours = Recorder(datastore)
    yield ours
    ours.close()


def started(stream: object, version: int = 1) -> OwnedEvent:
    topic, state = MAPPER.encode(FollowStarted(follower_id=ANNA, followee_id=BEN, at=MAY_1))
    return OwnedEvent(stream, version, topic, state, ANNA)  # type: ignore[arg-type]


class Stock(Application[UUID]):
    """Nothing of it is ours; without a name its table is `stored_events`."""

    name = ""


async def test_the_library_as_it_is_pages_and_maps_every_notification(
    opened: Store, datastore: PostgresDatastore, database_url: str, database: Connection
) -> None:
    for owner in (ANNA, BEN):
        await opened.streams.transact(
            User, user_stream_id(owner), owner, partial(User.register, display_name="x", at=MAY_1)
        )
        for _ in range(20):
            recorded = run(owner)
            await opened.streams.transact(
                Activity, recorded.activity_id, owner, partial(Activity.record, recorded=recorded)
            )
    recorder = PostgresApplicationRecorder(datastore, events_table_name="stored_events")
    paged, start = [], 1
    while page := recorder.select_notifications(start=start, limit=7):
        paged += page
        start = page[-1].id + 1
    stored = database.execute("SELECT notification_id, originator_version FROM stored_events ORDER BY 1").fetchall()
    assert [(notification.id, notification.originator_version) for notification in paged] == stored
    assert recorder.max_notification_id() == stored[-1][0]

    given = conninfo_to_dict(database_url)
    environ = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(given["dbname"]),
        "POSTGRES_HOST": str(given["host"]),
        "POSTGRES_PORT": str(given["port"]),
        "POSTGRES_USER": str(given["user"]),
        "POSTGRES_PASSWORD": str(given.get("password", "")),
        "CREATE_TABLE": "no",
        "MAPPER_TOPIC": "infra.event_store.library:LibraryMapper",
    }
    with Stock(env=environ) as app:
        assert type(app.recorder) is PostgresApplicationRecorder
        mapped: list[Any] = [app.mapper.to_domain_event(notification) for notification in paged]
        sections = app.notification_log.select(start=1, limit=10)
        assert [section.id for section in sections] == [notification.id for notification in paged[:10]]
        first = list[Any](app.events.get(user_stream_id(ANNA)))
        assert [event.event for event in first] == [
            event.event for event in mapped if event.originator_id == user_stream_id(ANNA)
        ]
    assert all(isinstance(event, LibraryEvent) for event in mapped)
    runs = [event.event for event in mapped if isinstance(event.event, ActivityRecorded)]
    assert len(runs) == 40
    assert {one.title for one in runs} == {""}  # the library knows no keys: what is private stays redacted
    state: Aggregate = User()
    for event in mapped:
        if event.originator_id == user_stream_id(ANNA):
            state = state.evolve(event.event)
    assert isinstance(state, User)
    assert state.registered


def test_our_recorder_appends_for_many_threads_and_says_who_lost(
    recorder: Recorder, database: Connection, reader: LogReader
) -> None:
    streams = [uuid4() for _ in range(50)]
    with ThreadPoolExecutor(16) as threads:
        positions = list(threads.map(lambda stream: recorder.insert_events([started(stream)]), streams))
    assert len({tuple(position or ()) for position in positions}) == 50
    with pytest.raises(IntegrityError):
        recorder.insert_events([started(streams[0])])
    both = recorder.insert_events([started(streams[0], 2), started(streams[0], 3)])
    assert both is not None
    assert both[1] > both[0]
    assert database.execute("SELECT count(*) FROM stored_events").fetchone() == (52,)
    assert len(reader.page(0, 100)[0]) == 52
    assert recorder.insert_events([]) == []


def test_our_recorder_reads_only_what_is_decided(recorder: Recorder, database_url: str) -> None:
    with psycopg.connect(database_url) as slow:
        slow.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)"
            " VALUES (%s, 1, 'follow.started@1', '{}', %s, 1)",
            (uuid4(), ANNA),
        )
        recorder.insert_events([started(uuid4())])
        assert recorder.select_notifications(start=1, limit=10) == []
        slow.rollback()
    assert len(recorder.select_notifications(start=1, limit=10)) == 1


def test_what_our_recorder_cannot_do_it_refuses(recorder: Recorder, datastore: PostgresDatastore) -> None:
    with pytest.raises(ValueError, match="one stream at once"):
        recorder.insert_events([started(uuid4()), started(uuid4())])
    with pytest.raises(ValueError, match="one log"):
        Recorder(datastore, events_table_name="other_events")


def test_an_event_that_does_not_decode_is_named_for_the_library_too() -> None:
    stream = uuid4()
    stored = OwnedEvent(stream, 7, "activity.teleported@9", b"{}", ANNA)
    with pytest.raises(MapperDeserialisationError, match=f"stream {stream} version 7.*activity.teleported@9"):
        LibraryMapper().to_domain_event(stored)


def test_the_mapper_goes_there_and_back() -> None:
    event = LibraryEvent(uuid4(), 3, run(ANNA), ANNA)
    stored = LibraryMapper().to_stored_event(event)
    back = LibraryMapper().to_domain_event(stored)
    assert (back.originator_id, back.originator_version, back.event) == (event.originator_id, 3, event.event)
    with pytest.raises(ValueError, match="needs an owner_id"):
        LibraryMapper().to_stored_event(LibraryEvent(uuid4(), 1, run(ANNA)))


def test_a_server_that_is_away_is_the_librarys_error(recorder: Recorder) -> None:
    recorder._log._channels._database_url = "host=127.0.0.1 port=1"
    with pytest.raises(OperationalError):
        recorder.insert_events([started(uuid4())])


def test_a_mapper_with_a_cipher_of_the_librarys_is_refused() -> None:
    with pytest.raises(ValueError, match="CIPHER_TOPIC"):
        LibraryMapper(compressor=ZlibCompressor())
