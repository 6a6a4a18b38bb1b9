"""A database with a history, and what operators work with."""

from collections.abc import Iterator

import pytest
from msgspec import Struct
from psycopg import Connection

from infra.projecting.builds import Build, Registry
from infra.projecting.lifecycle import Lifecycle
from infra.projecting.rebuild import Options, rebuilding
from tests.infra.projecting.histories import MASTER_KEY, History, append
from tests.infra.projecting.live import Worker, active, digests


class Operator(Struct, frozen=True):
    """One who changes shapes in flight."""

    url: str
    connection: Connection
    registry: Registry
    lifecycle: Lifecycle

    def rebuild(self, *names: str, workers: int = 1, restart: bool = False) -> list[Build]:
        with rebuilding(self.connection, self.registry, self.url, [MASTER_KEY], lambda _progress: None) as rebuild:
            builds = rebuild.start(names, restart=restart)
            rebuild.fill(builds, Options(workers, 512 * 1024**2, 60.0))
        return [self.build(build.schema_name) for build in builds]

    def build(self, schema: str) -> Build:
        return next(build for build in self.registry.builds() if build.schema_name == schema)

    def digests(self, schema: str) -> dict[str, tuple[int, str]]:
        return digests(self.connection, self.registry.definition(self.build(schema)), schema)

    def active(self, name: str) -> str:
        return active(self.registry)[name].schema_name

    def positions(self, schema: str) -> set[int]:
        found = self.connection.execute("SELECT position FROM projection_shards WHERE schema_name = %s", (schema,))
        return {position for (position,) in found}


@pytest.fixture
def operator(database_url: str, database: Connection) -> Operator:
    registry = Registry(database)
    return Operator(database_url, database, registry, Lifecycle(database, registry, database_url))


@pytest.fixture
def worker(database_url: str) -> Iterator[Worker]:
    with Worker(database_url) as made:
        yield made


@pytest.fixture
def history(database: Connection, worker: Worker) -> History:
    """Some hundred events, and live rows of all of them."""
    made = History(4)
    append(database, made.take(400))
    worker.catch_up()
    return made
