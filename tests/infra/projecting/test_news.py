"""Whose rows changed is told, also when Valkey was away at that moment."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from psycopg import Connection
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.embedded.valkey import EmbeddedValkey
from infra.shared_reads import Changes
from tests.infra.projecting.histories import History, append
from tests.infra.projecting.live import Worker, expire_leases
from tests.servers import running, start, stop

EPOCH: Final = "cairn:reads:epoch"


class Away:
    """A Valkey that is there, then is not, then is again."""

    def __init__(self, data: Path) -> None:
        self._data = data
        server = EmbeddedValkey(data)
        self._server, self._process = server, start(server)
        self.redis = Redis.from_url(server.url, protocol=2, socket_timeout=1.0, retry=Retry(NoBackoff(), 1))

    def goes(self) -> None:
        stop(self._server, self._process)

    def makes_all_old(self, worker: Worker, before: object) -> bool:
        """Whether such a worker says so, once it is back."""
        with running(EmbeddedValkey, self._data):
            for _ in range(100):  # it is left alone for a second after it did not answer
                worker.turn()
                if self.redis.get(EPOCH) not in {None, before}:
                    return True
                time.sleep(0.05)
        return False


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Away]:
    opened = Away(tmp_path)
    yield opened
    opened.redis.close()
    if opened._process.poll() is None:
        opened.goes()


def test_a_page_that_could_not_be_told_of_makes_all_old_without_another_page(
    database_url: str, database: Connection, valkey: Away
) -> None:
    with Worker(database_url, changes=Changes(valkey.redis)) as worker:
        worker.catch_up()
        before = valkey.redis.get(EPOCH)
        assert before is not None
        valkey.goes()
        append(database, History(1).take(20))
        worker.catch_up()
        assert valkey.makes_all_old(worker, before)


def test_a_takeover_that_could_not_be_told_of_makes_all_old_without_a_page(
    database_url: str, database: Connection, valkey: Away
) -> None:
    first = Worker(database_url)
    first.turn()
    with Worker(database_url, changes=Changes(valkey.redis)) as worker:
        worker.turn()
        before = valkey.redis.get(EPOCH)
        valkey.goes()
        first.kill()
        expire_leases(database)
        worker.turn()
        assert valkey.makes_all_old(worker, before)
