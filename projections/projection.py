"""What a projection is: tables, how events fold into their rows, and which version of it is read."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Generic, LiteralString, Protocol, TypeVar
from uuid import UUID

from msgspec import Struct
from psycopg import Connection

from domain.events.event import Event, Recorded

Key = tuple[Any, ...]
Place = tuple[datetime, UUID]  # in a list that is ordered by start and id, the latest first
BEFORE_ALL: Final[Place] = datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1)

R = TypeVar("R", bound=Struct)


class Table(Struct, Generic[R], frozen=True):
    """A row for each key, a column for each field of `row`, in that order. A nested structure is stored as JSON.

    `owner` names the column with the id that the row belongs to. It decides which partition has the row, it is what a
    rebuild of chosen users replaces, and an erasure of that user takes the row away.
    """

    name: LiteralString
    row: type[R]
    key: tuple[str, ...]
    owner: str
    indexes: tuple[LiteralString, ...] = ()  # beyond the key's: `UNIQUE`-less definitions, `(user_id, started_at)`


class Fold(ABC, Generic[R]):
    """How events fill one table, row by row. Live pages and rebuilds both come through here.

    No I/O, no clock: the same events give the same row.
    """

    table: ClassVar[Table[Any]]
    # Only these are given. Events of the owner's own streams are enough unless `foreign` says otherwise.
    events: ClassVar[tuple[type[Event], ...]]
    # The owner of a row may be another user than the one whose stream tells of it: these events are then given to
    # every part of a rebuild, not to that of their stream's owner alone. The owner is in the key.
    foreign: ClassVar[bool] = False
    # Whether it looks at the private fields of its events. Where nobody does, a rebuild leaves them sealed.
    reads_private: ClassVar[bool] = True

    # Whether a row is a sum of what many streams add and take back. Where an event is to be left out, the later ones of
    # its stream are then left out too: they would take back what was never added.
    adds: ClassVar[bool] = False

    @abstractmethod
    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The rows that the event touches: each folds it once."""

    @abstractmethod
    def fold(self, key: Key, row: R | None, recorded: Recorded) -> R | None:
        """The row after the event; None: no row."""


Change = tuple[Any, Any]  # a row before and after; None where there was or is none


class Derived(Protocol):
    """Tables that are made of the folded ones of the same projection: what crosses users.

    They depend on what those tables hold, never on the way there, so that they can be made anew at any time, for all
    or for some owners.
    """

    tables: ClassVar[Sequence[Table[Any]]]

    def update(self, changes: Mapping[str, Sequence[Change]], rows: Connection, schema: str) -> Collection[UUID]:
        """Follow what a page changed in the folded tables, which hold it already; the owners of what this changed."""
        ...

    def derive(self, owners: Sequence[UUID] | None, rows: Connection, schema: str) -> None:
        """Make the rows of these owners anew, or of all where there are none yet."""
        ...

    def touched(self, owners: Sequence[UUID], rows: Connection, schema: str) -> Sequence[UUID]:
        """Whose derived rows may depend on folded rows of these owners, themselves among them."""
        ...


class Comparison(Struct, frozen=True):
    """What must be equal in an older version and in this one, where their tables differ in shape.

    Both statements give these columns, the owner's id first; `{s}` is each version's schema.
    """

    name: LiteralString
    columns: tuple[str, ...]
    before: LiteralString
    after: LiteralString


class Projection(Struct, frozen=True, kw_only=True, eq=False):
    """One version of a read model. Another version is another set of tables, filled by a rebuild."""

    name: LiteralString
    version: int
    folds: tuple[Fold[Any], ...]
    derived: Derived | None = None
    shards: int = 4  # how many workers can fill it at the same time
    # How this version is compared with the one before. Columns that only one of them has are left out, and so are
    # those in `differs`, whose values are meant to be others. Where rows have other keys, `compares` says what is
    # compared instead.
    differs: frozenset[str] = frozenset()
    compares: tuple[Comparison, ...] = ()

    @property
    def tables(self) -> tuple[Table[Any], ...]:
        """All of them, the folded ones first."""
        return (*(fold.table for fold in self.folds), *(self.derived.tables if self.derived else ()))


class Query(Struct, frozen=True):
    """A statement over a projection's tables; `{s}` is the schema of the version that is read.

    Where versions need other statements, `others` has them by version. All give the columns that the reader wants.
    """

    projection: str
    text: LiteralString
    others: Mapping[int, LiteralString] = {}


class Reading(Struct, frozen=True):
    """What is read of some projections: their schemas, and the log and the versions by name.

    Positions in what has another name are not comparable.
    """

    name: str
    schemas: tuple[str, ...]


class View(Protocol):
    """The read models as one reader sees them: of each projection the version that is read now."""

    def reading(self, names: Sequence[str]) -> Reading:
        """Of these projections. `StoreUnavailable` while one is not built."""
        ...

    async def rows(self, query: Query, parameters: Sequence[Any] | Mapping[str, Any]) -> list[dict[str, Any]]:
        """What it finds, in its order."""
        ...
