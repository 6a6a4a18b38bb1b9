"""A log, keys and a write port over a database of the test's own."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from infra.event_store.postgres import PostgresLog
from infra.event_store.reader import LogReader
from infra.event_store.streams import EventStore
from infra.keys import MasterKeys, UserKeys
from infra.views import ReadModels

MASTER = MasterKeys([b"m" * 32])


@dataclass(frozen=True)
class Store:
    log: PostgresLog
    keys: UserKeys
    streams: EventStore


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Store]:
    read_models = ReadModels(database_url, connections=4)
    await read_models.open()
    log, keys = PostgresLog(database_url), UserKeys(read_models, MASTER)
    streams = EventStore(log, keys)
    yield Store(log, keys, streams)
    await streams.close()
    await read_models.close()


@pytest.fixture
def reader(database_url: str) -> Iterator[LogReader]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield LogReader(connection, MASTER)
