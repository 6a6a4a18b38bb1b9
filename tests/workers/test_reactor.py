"""Reactors tell once, whatever crashes, runs twice or is rebuilt."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection
from redis import Redis

from domain.events.event import Recorded
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.user import UserErased
from domain.follow import follow_id
from domain.measures import UserId
from domain.notices import REACTIONS, Notice, Reaction
from domain.user import user_stream_id
from infra.event_store.reader import LogReader
from infra.outbox import PostgresOutbox
from infra.shared_reads import Changes
from tests.infra.projecting.histories import MASTER, Made, append
from tests.scenarios import ANNA, BEN, CARA, MAY_1
from workers.reactor import Reactor


def follows(follower: UserId, followee: UserId, version: int = 1) -> Made:
    started = FollowStarted(follower_id=follower, followee_id=followee, at=MAY_1)
    return Made(follower, follow_id(follower, followee), version, started)


def reactor(connection: Connection, reading: Connection, reactions: dict[str, Reaction] | None = None) -> Reactor:
    known = reactions or dict(REACTIONS)
    outbox = PostgresOutbox(connection)
    outbox.register(known)
    return Reactor(LogReader(reading, MASTER).page, outbox, known)


def told(database: Connection) -> list[tuple[object, ...]]:
    return database.execute("SELECT recipient_id, kind, about_id FROM outbox ORDER BY at, notice_id").fetchall()


def test_a_follower_is_told_of_once_and_only_from_now_on(database_url: str, database: Connection) -> None:
    append(database, [follows(CARA, ANNA)])
    with psycopg.connect(database_url, autocommit=True) as reading:
        made = reactor(database, reading)
        assert not made.turn()  # what was before it began is nobody's news
        append(database, [follows(BEN, ANNA)])
        assert made.turn()
        assert not made.turn()
        assert told(database) == [(ANNA, "new_follower", BEN)]
        database.execute("UPDATE reactors SET position = 0")  # as after a restore of an older position
        made.turn()
    assert sorted(told(database), key=str) == sorted(
        [(ANNA, "new_follower", CARA), (ANNA, "new_follower", BEN)], key=str
    )


def test_who_follows_again_and_again_is_told_of_the_first_time_only(database_url: str, database: Connection) -> None:
    with psycopg.connect(database_url, autocommit=True) as reading:
        made = reactor(database, reading)
        ended = FollowEnded(follower_id=BEN, followee_id=ANNA, at=MAY_1)
        append(database, [follows(BEN, ANNA), Made(BEN, follow_id(BEN, ANNA), 2, ended), follows(BEN, ANNA, 3)])
        append(database, [follows(CARA, ANNA)])
        made.turn()
    assert sorted(told(database), key=str) == sorted(
        [(ANNA, "new_follower", BEN), (ANNA, "new_follower", CARA)], key=str
    )


def test_one_process_at_a_time_has_a_reaction(database_url: str, database: Connection) -> None:
    with (
        psycopg.connect(database_url, autocommit=True) as reading,
        psycopg.connect(database_url, autocommit=True) as other,
    ):
        made = reactor(database, reading)
        append(database, [follows(BEN, ANNA)])
        with other.transaction():
            other.execute("SELECT FROM reactors FOR UPDATE")
            assert not made.turn()
        assert made.turn()
    assert len(told(database)) == 1


def test_who_finds_that_another_has_told_meanwhile_tells_nothing(database: Connection) -> None:
    outbox = PostgresOutbox(database)
    outbox.register(REACTIONS)
    (name, *_) = REACTIONS

    def step(position: int) -> tuple[list[Any], list[UserId], int]:
        database.execute("UPDATE reactors SET position = %s WHERE name = %s", (position + 2, name))
        return [], [], position + 1

    assert outbox.advance(name, step) is None
    assert outbox.advance(name, lambda position: ([], [], position + 1)) is not None


def test_a_reaction_that_fails_is_noted_and_the_others_go_on(database_url: str, database: Connection) -> None:
    def wrong(recorded: Recorded) -> list[Notice]:
        if isinstance(recorded.event, FollowStarted) and recorded.event.follower_id == BEN:
            raise ZeroDivisionError
        return [Notice(ANNA, "new_follower", CARA)]

    with psycopg.connect(database_url, autocommit=True) as reading:
        made = reactor(database, reading, {"wrong": Reaction("wrong", (FollowStarted,), wrong), **REACTIONS})
        append(database, [follows(BEN, ANNA), follows(CARA, ANNA)])
        made.turn()
    assert database.execute("SELECT reactor, reason FROM reactor_faults").fetchall() == [("wrong", "ZeroDivisionError")]
    assert len(told(database)) == 3


def level(valkey: Redis, user_id: UserId) -> int:
    return int(valkey.get(f"cairn:level:{{{user_id.hex}}}") or -1)


def test_whose_notices_change_is_said_before_that_is_done(
    database_url: str, database: Connection, redis_url: str
) -> None:
    """So that no answer from before can stay, though the process dies in between."""
    valkey = Redis.from_url(redis_url, protocol=2)
    with psycopg.connect(database_url, autocommit=True) as reading:
        outbox = PostgresOutbox(database, Changes(valkey))
        outbox.register(REACTIONS)
        made = Reactor(LogReader(reading, MASTER).page, outbox, dict(REACTIONS))
        epoch = valkey.get("cairn:reads:epoch")
        assert not made.turn()
        assert valkey.get("cairn:reads:epoch") != epoch  # of what was said before it began nothing is known
        ben, dora = UserId(uuid4()), UserId(uuid4())
        database.execute(_REFUSES)
        position = append(database, [follows(ben, dora)])
        with pytest.raises(psycopg.errors.RaiseException):
            made.turn()
        assert (level(valkey, dora), level(valkey, ben)) == (position, -1)
        database.execute("DROP TRIGGER refuses ON outbox")
        made.turn()
        erased = append(database, [Made(ben, user_stream_id(ben), 1, UserErased(at=MAY_1))])
        made.turn()
        assert level(valkey, ben) == erased > position  # who tells of ben is told of by ben's own level
    valkey.close()


_REFUSES = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
    CREATE CONSTRAINT TRIGGER refuses AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.parametrize("erased", [ANNA, BEN])
def test_an_erased_runner_is_in_no_notice(erased: UserId, database_url: str, database: Connection) -> None:
    with psycopg.connect(database_url, autocommit=True) as reading:
        made = reactor(database, reading)
        append(database, [follows(BEN, ANNA)])
        made.turn()
        append(database, [Made(erased, user_stream_id(erased), 1, UserErased(at=MAY_1))])
        made.turn()
    assert told(database) == []
