"""Pages of the log into the tables of all builds that this worker fills, one transaction for rows and positions."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar
from uuid import UUID

from msgspec.structs import replace
from psycopg import Connection

from domain.errors import StoreUnavailable
from domain.events.event import Recorded
from infra.away import or_unavailable
from infra.event_store.reader import LogReader
from infra.projecting.folding import LeftOut
from infra.projecting.pages import Pages
from infra.projecting.refold import left_out, private_topics
from infra.projecting.shards import LeaseLost, Leases, Shard, stop
from infra.shared_reads import Changes
from projections import PROJECTIONS
from projections.projection import Projection

_log = logging.getLogger(__name__)

T = TypeVar("T")

_DEFINED: Final = {(projection.name, projection.version): projection for projection in PROJECTIONS}


class LiveTables:
    """The projector's hand on the tables. Implements `workers.projector.Tables`."""

    def __init__(
        self,
        connection: Connection,
        reader: LogReader,
        holder: UUID,
        changes: Changes | None = None,
        defined: Mapping[tuple[str, int], Projection] = _DEFINED,
    ) -> None:
        self._connection = connection
        self._leases = Leases(connection, holder, defined)
        self._reader = reader
        self._changes = changes
        self._held: frozenset[tuple[str, int]] = frozenset()
        self._defined = defined
        self._left_out: Callable[[str], LeftOut] = lambda _name: {}
        self._pages: dict[tuple[str, frozenset[int] | None], Pages] = {}

    def renew(self) -> Sequence[Shard]:
        """The shards that this worker has from now on."""
        self._pages.clear()
        self._reader.look_again()
        with or_unavailable():
            shards = self._leases.renew()
            self._left_out = left_out(self._connection)  # after: who changes it takes the shards away as the last thing
        held = frozenset((shard.schema_name, shard.shard) for shard in shards)
        if self._changes is not None:
            if held <= self._held:
                self._changes.tell([], -1)  # what could not be told before: no page may come that would be told of
            else:
                self._changes.all_of_it()  # who had them until now may have died between a commit and its news
        self._held = held
        return shards

    def release(self) -> None:
        """Give all of them back."""
        with or_unavailable():
            self._leases.release()

    def page(self, shards: Sequence[Shard], after: int, limit: int) -> tuple[Sequence[Recorded], int]:
        """The next events, as `LogReader.page` gives them, with what is private where one of these builds reads it."""
        projections = {self._defined[shard.name, shard.version] for shard in shards}
        opened = private_topics(fold for projection in projections for fold in projection.folds)
        return self._reader.page(after, limit, opened)

    def apply(self, shards: Sequence[Shard], page: Sequence[Recorded], ceiling: int) -> Sequence[Shard]:
        """Bring the shards, which are at one position, to the ceiling, and give them. `LeaseLost`, `StoreUnavailable`.

        Where one build cannot take the page, the others go on, and it is stopped with the reason.
        """
        try:
            self._write(shards, page, ceiling)
        except (LeaseLost, StoreUnavailable):
            raise
        except Exception:  # noqa: BLE001 - it may be anything: found again below, where it concerns one build only
            shards = self._apply_singly(shards, page, ceiling)
        return [replace(shard, position=ceiling) for shard in shards]

    def _apply_singly(self, shards: Sequence[Shard], page: Sequence[Recorded], ceiling: int) -> Sequence[Shard]:
        self._pages.clear()
        moved: list[Shard] = []
        for own in _by_schema(shards).values():
            try:
                self._write(own, page, ceiling, row_by_row=True)
                moved += own
            except (LeaseLost, StoreUnavailable):
                raise
            except Exception as fault:  # noqa: BLE001 - whatever it is, it stops this build only, and is told
                _log.exception("%s is stopped: it cannot take a page", own[0].schema_name, exc_info=fault)
                reason = f"{type(fault).__name__}: {fault}".strip()
                with or_unavailable():
                    stop(self._connection, own[0].schema_name, reason)
        return moved

    def _write(
        self, shards: Sequence[Shard], page: Sequence[Recorded], ceiling: int, *, row_by_row: bool = False
    ) -> None:
        owners: set[UUID] = set()
        with or_unavailable(), self._connection.transaction():
            self._leases.advance(shards, ceiling)
            for own in _by_schema(shards).values():
                owners |= self._pages_of(own).take(page, row_by_row=row_by_row)
        if self._changes is not None:
            self._changes.tell(owners, ceiling)

    def _pages_of(self, shards: Sequence[Shard]) -> Pages:
        shard, partitions = shards[0], _partitions(shards)
        found = self._pages.get((shard.schema_name, partitions))
        if found is None:
            projection = self._defined[shard.name, shard.version]
            found = Pages(self._connection, projection, shard.schema_name, partitions, self._left_out(shard.name))
            self._pages[shard.schema_name, partitions] = found
        return found


def _by_schema(shards: Sequence[Shard]) -> dict[str, list[Shard]]:
    found: dict[str, list[Shard]] = {}
    for shard in shards:
        found.setdefault(shard.schema_name, []).append(shard)
    return found


def _partitions(shards: Sequence[Shard]) -> frozenset[int] | None:
    """Of these shards of one build; None: all."""
    if len(shards) == shards[0].shards:
        return None
    return frozenset(partition for shard in shards for partition in shard.partitions)
