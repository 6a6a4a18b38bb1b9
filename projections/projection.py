"""What a projection is, and where its tables stand."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final, LiteralString, Protocol
from uuid import UUID

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from domain.events.event import Recorded

Place = tuple[datetime, UUID]  # in a list that is ordered by start and id, the latest first
BEFORE_ALL: Final[Place] = datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1)


class Projection(Protocol):
    """One read model. Another `version` is another set of tables, filled from the log."""

    name: ClassVar[str]
    version: ClassVar[int]

    def tables(self) -> Iterable[LiteralString]:
        """Statements that make the tables, which stand in the schema `{s}`. Repeatable."""
        ...

    def apply(self, page: Sequence[Recorded], rows: Connection) -> None:
        """Bring the tables from the page before to this one: no clock, no reads but of these tables."""
        ...


def statement(projection: Projection | type[Projection], text: LiteralString) -> Composed:
    """The statement over this version's tables: `{s}` is its schema."""
    return SQL(text).format(s=Identifier(f"{projection.name}_v{projection.version}"))
