"""No event at or below a decided position may appear later."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection

from domain.errors import StoreUnavailable
from domain.events.follow import FollowStarted
from infra import migrations
from infra.embedded.postgres import EmbeddedPostgres
from infra.event_store.fence import Fence
from infra.event_store.mapper import MAPPER
from infra.event_store.reader import LogReader
from tests.infra.event_store.conftest import MASTER
from tests.scenarios import ANNA, BEN, MAY_1
from tests.servers import running

INSERT = """
    INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
    VALUES (%s, 1, %s, %s, %s, 1) RETURNING notification_id
"""
EVENT = MAPPER.encode(FollowStarted(follower_id=ANNA, followee_id=BEN, at=MAY_1))


def insert(connection: Connection) -> int:
    (position,) = connection.execute(INSERT, (uuid4(), *EVENT, ANNA)).fetchone() or (0,)
    return int(position)


def test_an_empty_log_is_decided_up_to_nothing(database: Connection) -> None:
    assert Fence(database).decided() == 0


def test_what_commits_late_is_waited_for(database: Connection, database_url: str) -> None:
    fence = Fence(database)
    with psycopg.connect(database_url) as slow, psycopg.connect(database_url, autocommit=True) as fast:
        before = insert(fast)
        assert fence.decided() == before
        late = insert(slow)
        later = insert(fast)
        assert fence.decided() == before
        slow.commit()
        assert fence.decided() == later > late > before


def test_what_is_rolled_back_holds_nothing_up(database: Connection, database_url: str) -> None:
    fence = Fence(database)
    with psycopg.connect(database_url) as slow, psycopg.connect(database_url, autocommit=True) as fast:
        insert(slow)
        later = insert(fast)
        slow.rollback()
        assert fence.decided() == later


def test_a_lock_that_was_taken_before_the_first_draw_counts(database: Connection, database_url: str) -> None:
    """The transaction may have drawn between the two looks."""
    with psycopg.connect(database_url) as slow, psycopg.connect(database_url, autocommit=True) as fast:
        slow.execute("LOCK TABLE stored_events IN ROW EXCLUSIVE MODE")
        insert(fast)
        assert Fence(database).decided() == 0


def test_who_is_waited_for_too_long_is_told_once(
    database: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fence = Fence(database)
    with psycopg.connect(database_url) as idle, psycopg.connect(database_url, autocommit=True) as fast:
        idle.execute("LOCK TABLE stored_events IN ROW EXCLUSIVE MODE")
        for _ in range(2):
            insert(fast)
            fence.decided()
        assert not caplog.records
        monkeypatch.setattr("infra.event_store.fence._LONG_SECONDS", 0.0)
        for _ in range(2):
            insert(fast)
            fence.decided()
        (told,) = caplog.records
        assert told.levelname == "WARNING"
        assert f"may write some is open, of pid {idle.info.backend_pid} in Postgres" in told.getMessage()


def test_who_takes_it_for_the_end_of_the_log_waits_for_all_that_is_under_way(
    database: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.event_store.fence._PATIENCE_SECONDS", 0.0)
    with psycopg.connect(database_url) as slow, ThreadPoolExecutor() as threads:
        late = insert(slow)
        assert Fence(database).last_event() == 0
        waiting = threads.submit(Fence(database).last_event, of_all=True)
        time.sleep(0.2)
        assert not waiting.done()
        slow.commit()
        assert waiting.result() == late
        insert(slow)
        monkeypatch.setattr("infra.event_store.fence._NEEDED_SECONDS", 0.1)
        with pytest.raises(StoreUnavailable, match="is open for"):
            Fence(database).last_event(of_all=True)


def test_a_scan_waits_for_the_position_that_another_has_decided(
    database: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.event_store.fence._PATIENCE_SECONDS", 0.0)
    with psycopg.connect(database_url) as slow, psycopg.connect(database_url, autocommit=True) as fast:
        late = insert(slow)
        position = insert(fast)
        assert Fence(database).decided() == 0
        with ThreadPoolExecutor() as threads:
            reader = LogReader(database, MASTER)
            waiting = threads.submit(lambda: [row.position for rows in reader.scan(upto=position) for row in rows])
            time.sleep(0.1)
            slow.commit()
            assert waiting.result() == [late, position]


def test_with_always_some_transaction_under_way_the_fence_moves_on(database: Connection, database_url: str) -> None:
    fence = Fence(database)
    fence._look()
    with (
        psycopg.connect(database_url) as first,
        psycopg.connect(database_url) as second,
        psycopg.connect(database_url, autocommit=True) as fast,
    ):
        before = insert(first)
        for _ in range(100):
            before = insert(fast)
            fence._look()
        insert(second)
        first.commit()
        for _ in range(100):
            insert(fast)
            fence._look()
        assert 0 < fence._decided < before + 1


def test_long_transactions_that_only_read_hold_nothing_up(database: Connection, database_url: str) -> None:
    with psycopg.connect(database_url) as reading, psycopg.connect(database_url, autocommit=True) as fast:
        reading.execute("SELECT count(*) FROM stored_events, pg_sleep(0)")
        reading.execute("CREATE TEMP TABLE other AS SELECT 1")
        position = insert(fast)
        assert Fence(database).decided() == position


def test_writers_of_another_database_hold_nothing_up(
    database: Connection, database_url: str, fresh_database: Callable[[], str]
) -> None:
    with psycopg.connect(fresh_database()) as other, psycopg.connect(database_url, autocommit=True) as fast:
        insert(other)
        position = insert(fast)
        assert Fence(database).decided() == position


def test_more_waiting_fences_than_are_kept_do_no_harm(database: Connection, database_url: str) -> None:
    """With always one transaction under way, some fence gets through, and none too far."""
    fence = Fence(database)
    fence._look()
    with psycopg.connect(database_url) as slow, psycopg.connect(database_url, autocommit=True) as fast:
        late = insert(slow)
        for _ in range(100):
            insert(fast)
            fence._look()
        assert fence._decided < late
        assert len(fence._pending) == 64
        slow.commit()
        assert fence.decided() > late


def test_the_last_draw_is_never_read_too_high(database: Connection, database_url: str) -> None:
    """While nextval() logs, a plain SELECT of the sequence shows a value that nobody drew yet."""
    drawing = "SELECT nextval('stored_events_notification_id_seq') FROM generate_series(1, 100000)"
    code = f"import psycopg\nwith psycopg.connect({database_url!r}) as c:\n  while True: c.execute({drawing!r})"
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    try:
        fence, last, until = Fence(database), 0, time.monotonic() + 3
        while time.monotonic() < until:
            drawn = fence._look()
            assert drawn >= last
            last = drawn
        assert last > 1_000
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


@pytest.mark.timeout(60)
def test_followers_see_everything_once_and_in_order_while_writers_commit_late(
    database_url: str, database: Connection
) -> None:
    """The storm, without killing anybody and in a second: see storm.py."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(database_url) as connection:
            while not stop.is_set():
                insert(connection)
                stop.wait(0.002)
                connection.commit()

    writers = [threading.Thread(target=write) for _ in range(8)]
    for writer in writers:
        writer.start()
    reader, seen, position, until = LogReader(database, MASTER), list[int](), 0, time.monotonic() + 1
    while time.monotonic() < until:
        events, position = reader.page(position, 100)
        seen += [recorded.position for recorded in events]
    stop.set()
    for writer in writers:
        writer.join()
    while (page := reader.page(position, 100))[0]:
        position = page[1]
        seen += [recorded.position for recorded in page[0]]
    stored = database.execute("SELECT notification_id FROM stored_events ORDER BY 1").fetchall()
    assert seen == [number for (number,) in stored]


def test_a_standby_is_refused(tmp_path: Path) -> None:
    with running(EmbeddedPostgres, tmp_path) as server:
        migrations.upgrade(server.url)
    (EmbeddedPostgres(tmp_path)._home.cluster / "standby.signal").touch()
    with (
        running(EmbeddedPostgres, tmp_path) as standby,
        psycopg.connect(standby.url, autocommit=True) as connection,
        pytest.raises(StoreUnavailable, match="give the primary"),
    ):
        Fence(connection).decided()
