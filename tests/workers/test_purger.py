"""Shared caches are told of what changed: never before the read models say so, twice, and until they have heard it."""

import asyncio
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from msgspec import Struct
from psycopg import Connection

from api.publishing import OLDEST_SECONDS
from domain.events.activity import ActivityEdited
from domain.measures import Sport, Visibility
from domain.publishing import activity_key, list_key
from infra.cdn import HttpCache, PurgePlace, register_caches
from infra.event_store.reader import LogReader
from infra.settings import Cdn
from infra.views import _STANDINGS, REACTORS
from tests.infra.projecting.histories import MASTER, Made, append
from tests.infra.projecting.live import Worker
from tests.instance_settings import settings_of
from tests.scenarios import ANNA, MAY_2, run
from workers.cli.worker import run_purgers
from workers.purger import AGAIN_SECONDS, Purger

RUN = run(ANNA)
HIDDEN = ActivityEdited(
    user_id=ANNA,
    activity_id=RUN.activity_id,
    visibility=Visibility.PRIVATE,
    sport=Sport.RUNNING,
    tally=RUN.tally,
    at=MAY_2,
)
PAGES = {activity_key(RUN.activity_id), list_key(ANNA)}


class Cache(Struct):
    """One that notes what it is told, or is out of order."""

    url: str
    told: list[set[str]]
    header: str = ""
    status: int = 200


@pytest.fixture
def cache() -> Iterator[Cache]:
    made = Cache("", [])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.header = self.headers["Cache-Key"]
            if made.status == HTTPStatus.OK:
                made.told.append(set(self.headers["Surrogate-Key"].split()))
            self.send_response(made.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}/purge"
        Thread(target=server.serve_forever, args=(0.02,)).start()
        yield made
        server.shutdown()


class Teller:
    """A purger as a worker runs it, but for its clock."""

    def __init__(self, url: str, cache: Cache) -> None:
        self._connections = [psycopg.connect(url, autocommit=True) for _ in range(2)]
        cdn = Cdn((cache.url,), ("Cache-Key", "let me in"))
        self.cache = HttpCache(cdn, cache.url)
        register_caches(self._connections[1], cdn.purge_urls)
        self.place = PurgePlace(self._connections[1], cache.url)
        self.now = 0.0
        reader = LogReader(self._connections[0], MASTER)
        self._purger = Purger(reader.page, self.place, self.cache, clock=lambda: self.now)

    def turn(self, after: float = 0.0) -> bool:
        self.now += after
        return self._purger.turn()

    def end(self) -> None:
        for connection in self._connections:
            connection.close()
        self.cache.close()


@pytest.fixture
def teller(database_url: str, cache: Cache) -> Iterator[Teller]:
    made = Teller(database_url, cache)
    yield made
    made.end()


@pytest.fixture
def worker(database_url: str) -> Iterator[Worker]:
    with Worker(database_url) as made:
        yield made


def recorded(database: Connection) -> int:
    return append(database, [Made(ANNA, RUN.activity_id, 1, RUN)])


def hidden(database: Connection) -> int:
    return append(database, [Made(ANNA, RUN.activity_id, 2, HIDDEN)])


def test_nothing_is_told_before_the_read_models_say_so(
    teller: Teller, cache: Cache, database: Connection, worker: Worker
) -> None:
    recorded(database)
    worker.catch_up()
    while teller.turn(AGAIN_SECONDS):
        pass
    cache.told.clear()
    position = hidden(database)
    assert not teller.turn()
    assert cache.told == []
    worker.catch_up()
    assert teller.turn()
    assert cache.told == [PAGES]
    assert teller.place.position() < position  # an answer from before may still be on its way
    assert not teller.turn(AGAIN_SECONDS - 0.1)
    assert teller.turn(0.2)
    assert cache.told == [PAGES, PAGES]
    assert teller.place.position() == position
    assert not teller.turn(AGAIN_SECONDS)
    assert cache.header == "let me in"


def test_the_second_time_no_answer_from_before_the_first_is_on_its_way_any_more() -> None:
    assert AGAIN_SECONDS > OLDEST_SECONDS


def test_who_comes_after_a_crash_tells_all_that_was_not_told_twice(
    teller: Teller, cache: Cache, database: Connection, database_url: str, worker: Worker
) -> None:
    recorded(database)
    worker.catch_up()
    next_one = Teller(database_url, cache)
    assert teller.turn()
    assert not next_one.turn()  # one of them tells
    teller.end()
    until = time.monotonic() + 30
    while not next_one.turn():  # the server frees a lock a moment after its holder's connection has ended
        assert time.monotonic() < until
        time.sleep(0.01)
    assert next_one.turn(AGAIN_SECONDS)
    next_one.end()
    assert cache.told == [PAGES] * 3


def test_a_cache_that_is_away_is_told_when_it_is_back(
    teller: Teller, cache: Cache, database: Connection, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    before = teller.place.position()
    recorded(database)
    cache.status = 503
    worker.catch_up()
    assert not teller.turn()
    hidden(database)
    worker.catch_up()
    assert not teller.turn(1.0)
    assert (cache.told, teller.place.position()) == ([], before)
    assert [record.getMessage() for record in caplog.records if record.name == "workers.purger"] == [
        "a shared cache keeps what has changed: number 1 of CAIRN_CDN_PURGE_URL: it answers 503"
    ]
    cache.status = 200
    assert teller.turn(1.0)
    assert cache.told == [PAGES]  # both events in one
    cache.status = 503
    assert not teller.turn(AGAIN_SECONDS)
    assert teller.place.position() == before
    cache.status = 200
    assert teller.turn(1.0)
    assert cache.told == [PAGES, PAGES]
    assert teller.place.position() > before


async def test_a_cache_that_is_away_keeps_no_other_waiting_and_has_a_place_of_its_own(
    database: Connection, database_url: str, cache: Cache, worker: Worker, tmp_path: Path
) -> None:
    urls = ("http://127.0.0.1:9/", cache.url)
    position = recorded(database)
    database.execute("INSERT INTO reactors (name, position) VALUES ('cdn', %s)", (position - 1,))  # as all had it once
    worker.catch_up()
    stop, cdn = threading.Event(), Cdn(urls, None)
    settings = settings_of(tmp_path, database_url, "redis://127.0.0.1:9")
    running = run_purgers(settings, cdn, stop)
    away, well = (PurgePlace(database, url) for url in urls)
    async with asyncio.timeout(30):
        while well.position() < position:
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*running)
    assert cache.told == [PAGES, PAGES]
    assert away.position() == position - 1  # what happened before it had one is not forgotten


def test_a_new_cache_begins_at_the_end_of_the_log(database: Connection, cache: Cache) -> None:
    register_caches(database, [cache.url])
    first, new = recorded(database), "http://new.example/"
    register_caches(database, [cache.url, new])
    assert PurgePlace(database, new).position() == first
    assert PurgePlace(database, cache.url).position() < first


def test_read_models_that_stay_behind_are_complained_about(
    teller: Teller, cache: Cache, database: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    recorded(database)
    for _ in range(5):
        assert not teller.turn(1.0)
    assert cache.told == []
    told = [record.getMessage() for record in caplog.records if record.name == "workers.purger"]
    assert told == [
        "a shared cache waits for the read models: number 1 of CAIRN_CDN_PURGE_URL: 1 events or more, for 3 s"
    ]


def test_a_cache_that_cannot_be_reached_is_away(teller: Teller, database: Connection, worker: Worker) -> None:
    teller.cache._url = "http://127.0.0.1:9/"
    recorded(database)
    worker.catch_up()
    assert not teller.turn()


def test_a_cache_that_refuses_has_dropped_nothing(
    teller: Teller, cache: Cache, database: Connection, worker: Worker
) -> None:
    before = teller.place.position()
    recorded(database)
    worker.catch_up()
    cache.status = 403  # as with a wrong key: no fault of its own
    assert not teller.turn()
    assert not teller.turn(AGAIN_SECONDS)
    assert teller.place.position() == before
    cache.status = 200
    assert teller.turn(1.0)
    assert cache.told == [PAGES]


def test_many_pages_are_told_by_the_hundred(teller: Teller, cache: Cache) -> None:
    pages = [f"activity-{number:03}" for number in range(250)]
    teller.cache.purge(pages)
    assert cache.told == [set(pages[:100]), set(pages[100:200]), set(pages[200:])]


def test_a_place_moves_never_back(teller: Teller) -> None:
    last = teller.place.position() + 5
    teller.place.move(last)
    teller.place.move(last - 1)
    assert teller.place.position() == last


def test_what_one_read_model_has_not_passed_is_not_to_be_read(
    teller: Teller, database: Connection, worker: Worker
) -> None:
    position = recorded(database)
    worker.catch_up()
    assert teller.place.readable() == position
    database.execute("UPDATE projection_shards SET position = 0 WHERE schema_name = 'people_v1' AND shard = 0")
    assert teller.place.readable() == 0


def test_notices_do_not_wait_for_a_cache(teller: Teller, database: Connection) -> None:
    database.execute(
        "INSERT INTO reactors (name, position) VALUES ('new-follower', %s)", (teller.place.position() + 5,)
    )
    reactors = [row[-1] for row in database.execute(_STANDINGS) if row[0] == REACTORS]
    assert reactors == [teller.place.position() + 5]
