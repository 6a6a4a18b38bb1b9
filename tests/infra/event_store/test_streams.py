import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from domain.activity import Activity, RecordingDiffers
from domain.errors import StoreUnavailable
from domain.events.event import Event
from domain.events.user import ProfileChanged
from domain.follow import Follow, follow_id
from domain.streams import OwnerErased, Request, RequestDiffers, StreamContended, StreamUnreadable
from domain.user import Profile, User, user_stream_id
from infra.event_store.memory import MemoryKeys, MemoryLog
from infra.event_store.postgres import PostgresLog
from infra.event_store.rows import Row, Save
from infra.event_store.streams import EventStore
from infra.keys import UserKeys
from infra.positions import from_token, to_token
from tests.infra.event_store.conftest import MASTER, Store
from tests.scenarios import ANNA, BEN, MAY_1, run

RUN = run(ANNA)
REQUEST = Request(b"k" * 32, b"f" * 32)


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> EventStore:
    if request.param == "memory":
        return EventStore(MemoryLog(), MemoryKeys())
    opened: Store = request.getfixturevalue("opened")
    return opened.streams


async def rename(store: EventStore, name: str) -> None:
    await store.transact(
        User, user_stream_id(ANNA), ANNA, lambda user: user.change_profile(Profile(display_name=name), MAY_1)
    )


async def register(store: EventStore) -> str:
    return await store.transact(User, user_stream_id(ANNA), ANNA, lambda user: user.register("Anna", MAY_1))


async def test_what_was_decided_is_there_when_it_is_loaded_again(store: EventStore) -> None:
    await store.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=RUN))
    assert (await store.load(Activity, RUN.activity_id)).title == RUN.title


async def test_who_follows_the_log_is_told_of_an_append_and_of_nothing_else() -> None:
    told = list[bool]()
    store = EventStore(MemoryLog(), MemoryKeys(), appended=lambda: told.append(True))
    for _ in range(2):
        await store.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=RUN))
    assert told == [True]


async def test_a_stream_without_events_is_the_empty_state(store: EventStore) -> None:
    assert await store.load(Activity, uuid4()) == Activity()


async def test_a_repeat_appends_nothing_and_its_position_is_that_of_the_first(store: EventStore) -> None:
    record = partial(Activity.record, recorded=RUN)
    first = await store.transact(Activity, RUN.activity_id, ANNA, record)
    assert await store.transact(Activity, RUN.activity_id, ANNA, record) == first


async def test_what_changes_nothing_is_told_a_position_that_covers_what_was_written_before(store: EventStore) -> None:
    record = partial(Activity.record, recorded=RUN)
    await store.transact(Activity, RUN.activity_id, ANNA, record)
    renamed = await register(store)
    assert await store.transact(Activity, RUN.activity_id, ANNA, record) == renamed
    assert (await store.transact_once(Activity, RUN.activity_id, ANNA, record, REQUEST, b"done")).position == renamed


async def test_the_position_of_now_covers_what_another_store_has_written(opened: Store) -> None:
    other = EventStore(opened.log, opened.keys)
    written = await register(other)
    assert await opened.streams.position() == written


async def test_many_who_change_nothing_share_a_connection(opened: Store, database: Connection) -> None:
    record = partial(Activity.record, recorded=RUN)
    await opened.streams.transact(Activity, RUN.activity_id, ANNA, record)
    await asyncio.gather(*(opened.streams.transact(Activity, RUN.activity_id, ANNA, record) for _ in range(60)))
    backends = "SELECT count(*) < 12 FROM pg_stat_activity WHERE datname = current_database()"
    assert database.execute(backends).fetchone() == (True,)


async def test_what_a_rule_refuses_reaches_the_caller(store: EventStore) -> None:
    await store.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=RUN))
    other = run(ANNA, activity_id=RUN.activity_id, sha256="ff")
    with pytest.raises(RecordingDiffers):
        await store.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=other))


async def test_of_many_at_the_same_time_one_decides_and_the_others_see_it(store: EventStore) -> None:
    stream = follow_id(ANNA, BEN)
    positions = await asyncio.gather(
        *(store.transact(Follow, stream, ANNA, lambda it: it.start(ANNA, BEN, MAY_1)) for _ in range(6))
    )
    assert len(set(positions)) == 1
    ended = await store.transact(Follow, stream, ANNA, lambda it: it.end(ANNA, BEN, MAY_1))
    assert await store.transact(Follow, stream, ANNA, lambda it: it.end(ANNA, BEN, MAY_1)) == ended


async def test_every_one_of_many_changes_at_the_same_time_is_kept(opened: Store, database: Connection) -> None:
    await register(opened.streams)
    await asyncio.gather(*(rename(opened.streams, f"Anna {number}") for number in range(5)))
    versions = database.execute(
        "SELECT originator_version FROM stored_events WHERE topic = %s ORDER BY notification_id",
        (ProfileChanged.TOPIC,),
    ).fetchall()
    assert versions == [(2,), (3,), (4,), (5,), (6,)]


async def test_a_new_stream_is_not_looked_for_and_one_that_is_there_is_found(
    opened: Store, database: Connection, database_url: str
) -> None:
    loads = 0

    class Counting(PostgresLog):
        async def load(self, stream_id: UUID, after: int = 0, state_topic: str = "") -> Sequence[Row]:
            nonlocal loads
            loads += 1
            return await super().load(stream_id, after, state_topic)

    first, second = (EventStore(Counting(database_url), opened.keys) for _ in range(2))
    record = partial(Activity.record, recorded=RUN)
    position = await first.transact(Activity, RUN.activity_id, ANNA, record)
    assert loads == 0
    assert await second.transact(Activity, RUN.activity_id, ANNA, record) == position
    with pytest.raises(RecordingDiffers):
        await EventStore(second._log, opened.keys).transact(
            Activity,
            RUN.activity_id,
            ANNA,
            partial(Activity.record, recorded=run(ANNA, activity_id=RUN.activity_id, sha256="01")),
        )
    assert loads == 2
    assert database.execute("SELECT count(*) FROM stored_events").fetchone() == (1,)
    await first.close()
    await second.close()


async def test_of_an_erased_owner_a_repeat_is_a_repeat_and_what_is_new_is_refused(
    opened: Store, database_url: str
) -> None:
    record = partial(Activity.record, recorded=RUN)
    position = await opened.streams.transact(Activity, RUN.activity_id, ANNA, record)
    await opened.keys.destroy(ANNA)
    again, other = EventStore(PostgresLog(database_url), opened.keys), run(ANNA)
    assert await again.transact(Activity, RUN.activity_id, ANNA, record) == position
    with pytest.raises(OwnerErased):
        await again.transact(Activity, other.activity_id, ANNA, partial(Activity.record, recorded=other))
    await again.close()


async def test_of_an_owner_whose_key_is_damaged_a_stream_that_is_there_cannot_be_read(
    opened: Store, database: Connection, database_url: str
) -> None:
    record = partial(Activity.record, recorded=RUN)
    await opened.streams.transact(Activity, RUN.activity_id, ANNA, record)
    database.execute("UPDATE user_keys SET wrapped = '\\x00'")
    again = EventStore(PostgresLog(database_url), UserKeys(opened.keys._database, MASTER))
    with pytest.raises(StreamUnreadable):
        await again.transact(Activity, RUN.activity_id, ANNA, record)
    await again.close()


async def test_what_another_process_appended_is_seen(opened: Store, database_url: str) -> None:
    """Its cache is behind: a load, a decision that changes nothing and a refusal look again, an append is refused."""
    other = EventStore(PostgresLog(database_url), opened.keys)
    await register(opened.streams)
    await rename(other, "Bea")
    assert (await opened.streams.load(User, user_stream_id(ANNA))).profile.display_name == "Bea"
    await rename(other, "Cara")
    await rename(opened.streams, "Dora")
    await rename(other, "Eva")
    await rename(opened.streams, "Dora")
    assert (await other.load(User, user_stream_id(ANNA))).profile.display_name == "Dora"
    await other.close()


async def test_a_request_decided_on_an_old_state_is_decided_again_and_its_reply_is_of_that(
    opened: Store, database_url: str
) -> None:
    other = EventStore(PostgresLog(database_url), opened.keys)
    await register(opened.streams)
    await rename(other, "Bea")

    def rename_to_cara(user: User) -> Sequence[Event]:
        return user.change_profile(Profile(display_name="Cara"), MAY_1)

    once = partial(opened.streams.transact_once, User, user_stream_id(ANNA), ANNA, rename_to_cara, REQUEST)
    first, again = await once(b"one"), await once(b"two")
    assert (first.reply, first.again) == (b"one", False)
    assert (again.reply, again.again, again.position) == (b"one", True, first.position)
    assert (await other.load(User, user_stream_id(ANNA))).profile.display_name == "Cara"
    await other.close()


async def test_who_always_comes_second_is_told_so(opened: Store, database_url: str) -> None:
    rivals = 0
    rival = EventStore(PostgresLog(database_url), opened.keys)

    class Overtaken(PostgresLog):
        async def append(self, save: Save) -> int:
            nonlocal rivals
            rivals += 1
            await rename(rival, f"Rival {rivals}")
            return await super().append(save)

    await register(rival)
    store = EventStore(Overtaken(database_url), opened.keys)
    with pytest.raises(StreamContended):
        await rename(store, "Zoe")
    assert rivals > 2
    assert (await rival.load(User, user_stream_id(ANNA))).profile.display_name == f"Rival {rivals}"
    await store.close()
    await rival.close()


@pytest.fixture
def loaded(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each load took."""
    counts, load = list[int](), store._log.load

    async def counted(stream_id: UUID, after: int = 0, state_topic: str = "") -> Sequence[Row]:
        rows = await load(stream_id, after, state_topic)
        counts.append(len(rows))
        return rows

    monkeypatch.setattr(store._log, "load", counted)
    return counts


async def test_a_state_is_held_no_longer_than_the_key_that_opened_it(
    store: EventStore, loaded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(store)
    for lifetime in (300.0, 0.0):
        monkeypatch.setattr("infra.event_store.streams._LIFETIME_SECONDS", lifetime)
        await store.load(User, user_stream_id(ANNA))
    assert loaded == [0, 1]


async def test_of_more_streams_than_are_held_those_used_last_are(
    store: EventStore, loaded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.event_store.streams._CACHED", 2)
    runs = [run(ANNA) for _ in range(3)]
    for one in runs:
        await store.transact(Activity, one.activity_id, ANNA, partial(Activity.record, recorded=one))
    loaded.clear()
    for one in (*runs[1:], runs[0]):
        await store.load(Activity, one.activity_id)
    assert loaded == [0, 0, 1]


async def test_a_long_stream_is_loaded_from_its_snapshot(store: EventStore, loaded: list[int]) -> None:
    await register(store)
    for number in range(205):
        await rename(store, f"Anna {number}")
    await asyncio.gather(*store._summing)
    again = EventStore(store._log, store._keys)
    loaded.clear()
    assert (await again.load(User, user_stream_id(ANNA))).profile.display_name == "Anna 204"
    assert loaded == [7]  # the snapshot at version 200, and what came after it
    assert await again.load(User, user_stream_id(ANNA)) == await store.load(User, user_stream_id(ANNA))
    await rename(again, "Bea")
    assert (await store.load(User, user_stream_id(ANNA))).profile.display_name == "Bea"


async def test_who_closes_waits_for_the_snapshot_that_is_being_written(
    opened: Store, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.event_store.streams._SNAPSHOT_EVENTS", 1)
    await register(opened.streams)
    await opened.streams.close()
    assert database.execute("SELECT version FROM stream_snapshots").fetchall() == [(1,)]


async def test_a_damaged_snapshot_costs_time_and_nothing_else(opened: Store, database: Connection) -> None:
    await register(opened.streams)
    row = Row(1, user_stream_id(ANNA), 1, User.STATE, b"no snapshot at all, and no ciphertext", ANNA)
    await opened.log.snapshot(row)
    again = EventStore(opened.log, opened.keys)
    assert (await again.load(User, user_stream_id(ANNA))).profile.display_name == "Anna"
    assert database.execute("SELECT count(*) FROM stream_snapshots").fetchone() == (1,)


async def test_the_same_request_gets_the_same_reply(store: EventStore) -> None:
    def begin(user: User) -> list[object]:
        return user.register("Anna", MAY_1)  # type: ignore[return-value]

    assert await store.replied(REQUEST) is None
    first = await store.transact_once(User, user_stream_id(ANNA), ANNA, begin, REQUEST, b"one")  # type: ignore[arg-type]
    again = await store.transact_once(User, user_stream_id(ANNA), ANNA, begin, REQUEST, b"two")  # type: ignore[arg-type]
    assert (first.reply, first.again) == (b"one", False)
    assert (again.reply, again.again, again.position) == (b"one", True, first.position)
    assert await store.replied(REQUEST) == again


async def test_a_reply_is_kept_too_when_nothing_happens(store: EventStore) -> None:
    position = await register(store)
    once = partial(store.transact_once, User, user_stream_id(ANNA), ANNA)
    first = await once(lambda user: user.register("Anna", MAY_1), REQUEST, b"one")
    assert (first.position, first.again) == (position, False)
    assert (await once(lambda user: user.register("Anna", MAY_1), REQUEST, b"two")).reply == b"one"


async def test_the_same_key_with_another_request_is_refused(store: EventStore) -> None:
    once = partial(store.transact_once, User, user_stream_id(ANNA), ANNA, lambda user: user.register("Anna", MAY_1))
    await once(REQUEST, b"one")
    with pytest.raises(RequestDiffers):
        await once(Request(REQUEST.key_hash, b"g" * 32), b"two")


async def test_a_reply_without_a_stream_is_kept_once(store: EventStore) -> None:
    first = await store.keep(ANNA, REQUEST, b"one")
    again = await store.keep(ANNA, REQUEST, b"two")
    assert (first.reply, first.again, again.reply, again.again) == (b"one", False, b"one", True)
    assert await store.replied(REQUEST) == again
    with pytest.raises(RequestDiffers):
        await store.keep(ANNA, Request(REQUEST.key_hash, b"g" * 32), b"three")


async def test_a_damaged_reply_is_decided_anew_and_the_new_one_is_kept(
    opened: Store, database: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    once = partial(
        opened.streams.transact_once, User, user_stream_id(ANNA), ANNA, lambda user: user.register("Anna", MAY_1)
    )
    first = await once(REQUEST, b"one")
    for reply, replied in ((b"two", once), (b"three", partial(opened.streams.keep, ANNA))):
        database.execute("UPDATE kept_replies SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)")
        caplog.clear()
        anew = await replied(REQUEST, reply)
        assert (anew.reply, anew.again) == (reply, False)
        assert f"user {ANNA}" in caplog.text
        again = await once(REQUEST, b"four")
        assert (again.reply, again.again) == (reply, True)
    assert await opened.log.last() == from_token(first.position)


async def test_a_reply_is_dropped_unless_another_is_in_its_place(store: EventStore) -> None:
    await store.keep(ANNA, REQUEST, b"one")
    first = await store._log.reply(REQUEST.key_hash)
    assert first is not None
    await store._log.forget(first)
    assert await store.replied(REQUEST) is None
    second = await store.keep(ANNA, REQUEST, b"two")
    await store._log.forget(first)
    again = await store.replied(REQUEST)
    assert (second.again, again and again.reply) == (False, b"two")


def test_the_latest_of_positions_covers_them_all() -> None:
    tokens = [to_token(position) for position in (9, 1_000, 16)]
    assert EventStore(MemoryLog(), MemoryKeys()).latest(tokens) == to_token(1_000)


async def test_what_a_rule_refuses_is_not_kept(store: EventStore) -> None:
    once = partial(store.transact_once, Activity, RUN.activity_id, ANNA)
    await store.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=RUN))
    other = run(ANNA, activity_id=RUN.activity_id, sha256="ff")
    with pytest.raises(RecordingDiffers):
        await once(partial(Activity.record, recorded=other), REQUEST, b"one")
    assert await store.replied(REQUEST) is None


async def test_of_two_requests_under_one_key_that_change_different_streams_one_has_its_effect(opened: Store) -> None:
    def begin(user: User) -> list[object]:
        return user.register("?", MAY_1)  # type: ignore[return-value]

    replies = await asyncio.gather(
        *(
            opened.streams.transact_once(User, user_stream_id(who), who, begin, REQUEST, who.bytes)  # type: ignore[arg-type]
            for who in (ANNA, BEN)
        )
    )
    assert len({replied.reply for replied in replies}) == 1
    registered = [(await opened.streams.load(User, user_stream_id(who))).registered for who in (ANNA, BEN)]
    assert sorted(registered) == [False, True]


async def test_once_the_key_is_destroyed_states_are_redacted_and_nothing_is_written(opened: Store) -> None:
    await opened.streams.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=RUN))
    await opened.keys.destroy(ANNA)
    again = EventStore(opened.log, opened.keys)
    activity = await again.load(Activity, RUN.activity_id)
    assert (activity.title, activity.user_id) == ("", ANNA)
    with pytest.raises(OwnerErased):
        await again.transact(Activity, RUN.activity_id, ANNA, lambda it: it.edit(ANNA, MAY_1, title="Evening run"))


async def test_a_stream_with_an_event_that_cannot_be_read_says_so(
    opened: Store, caplog: pytest.LogCaptureFixture
) -> None:
    stream = uuid4()
    await opened.log.append(Save(stream, ANNA, 1, (("activity.teleported@9", b"{}"),)))
    with pytest.raises(StreamUnreadable):
        await opened.streams.load(Activity, stream)
    assert f"stream {stream} version 1" in caplog.text
    assert "activity.teleported@9" in caplog.text


async def test_a_server_that_is_away_is_said_to_be_so(opened: Store) -> None:
    store = EventStore(PostgresLog("host=127.0.0.1 port=1 user=nobody dbname=none"), opened.keys)
    with pytest.raises(StoreUnavailable):
        await store.load(Activity, uuid4())
    with pytest.raises(StoreUnavailable):
        await register(store)
    await store.close()


async def test_positions_grow(store: EventStore) -> None:
    first = await register(store)
    later = await store.transact(Activity, RUN.activity_id, ANNA, partial(Activity.record, recorded=RUN))
    assert from_token(later) > from_token(first)
