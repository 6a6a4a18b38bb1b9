"""Workers whose turns a test takes one by one, and what tables hold."""

from collections.abc import Sequence
from uuid import uuid4

import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from infra.event_store.reader import LogReader
from infra.projecting.builds import Build, Registry
from infra.projecting.live import LiveTables
from infra.projecting.shards import LeaseLost
from infra.projecting.tables import prepare
from infra.shared_reads import Changes
from projections import PROJECTIONS
from projections.projection import Projection
from tests.infra.projecting.histories import MASTER
from workers.projector import Projector


class Worker:
    """As `cairn worker projector` has it, but for its clock: it renews its leases when it is told to."""

    def __init__(
        self,
        url: str,
        projections: Sequence[Projection] = PROJECTIONS,
        page: int = 2_000,
        changes: Changes | None = None,
    ) -> None:
        self._connections = [psycopg.connect(url, autocommit=True) for _ in range(2)]
        self.reader = LogReader(self._connections[0], MASTER)
        self.tables = LiveTables(
            prepare(self._connections[1], live=True),
            self.reader,
            uuid4(),
            changes,
            defined={(projection.name, projection.version): projection for projection in projections},
        )
        self._now = 0.0
        self._projector = Projector(self.tables, LeaseLost, page, clock=lambda: self._now)

    def turn(self, *, renew: bool = True) -> int:
        """One page wherever one is waiting; how many events that was."""
        if renew:
            self._now += 10
        return self._projector.turn()

    def catch_up(self) -> None:
        """Turns until there is nothing to do, all within a second: it renews its leases once, and when it lost one."""
        self.turn()
        while self.turn(renew=False) or self.turn(renew=False):  # a turn that loses a lease does nothing
            pass

    def kill(self) -> None:
        """Gone, without giving its shards back."""
        for connection in self._connections:
            connection.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.tables.release()
        self.kill()


def expire_leases(connection: Connection) -> None:
    """As time would."""
    connection.execute("UPDATE projection_shards SET leased_until = now() - interval '1 second'")
    connection.execute("UPDATE projection_workers SET seen_at = now() - interval '1 hour'")


def digests(connection: Connection, projection: Projection, schema: str) -> dict[str, tuple[int, str]]:
    """Of all rows of each table: how many, and a digest."""
    found = {}
    for table in projection.tables:
        row = connection.execute(_DIGEST.format(Identifier(schema, table.name))).fetchone()
        assert row is not None
        found[table.name] = row[0], row[1]
    return found


def active(registry: Registry) -> dict[str, Build]:
    """The builds that are read."""
    builds = {build.schema_name: build for build in registry.builds()}
    return {name: builds[pointer.active] for name, pointer in registry.pointers().items()}


_DIGEST = SQL("""SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text COLLATE "C"), '')) FROM {} t""")
