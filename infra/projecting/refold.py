"""Rows as the log has them: what a rebuild writes, what heals a key, and what live rows are checked against."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, LiteralString
from uuid import UUID

from msgspec import Struct
from psycopg import Connection

from domain.events.event import Recorded
from domain.events.user import UserErased
from infra.event_store.mapper import MAPPER
from infra.event_store.reader import AnyOf, LogReader, Selection
from infra.projecting.folding import Fault, Folder, Held, LeftOut, Rows
from projections.projection import Fold, Key, Projection


def private_topics(folds: Iterable[Fold[Any]]) -> set[str]:
    """Topics of which one of the folds reads what is private."""
    return MAPPER.topics_of(event for fold in folds if fold.reads_private for event in fold.events if event.PRIVATE)


class Part(Struct, frozen=True):
    """What of the rows is made: those of some owners or partitions; None: of all.

    Rows whose owners' own streams say everything are `foreign=False`; for the others everybody's streams are read.
    """

    foreign: bool
    partitions: frozenset[int] | None = None
    owners: frozenset[UUID] | None = None

    def selection(self, projections: Sequence[Projection]) -> Selection:
        """What of the log it needs."""
        events = {event for projection in projections for fold in self.folds(projection) for event in fold.events}
        topics = MAPPER.topics_of({*events, UserErased})
        if self.foreign:
            return Selection(topics=topics)
        return Selection(self.partitions, self.owners, topics)

    def opened(self, projections: Sequence[Projection]) -> set[str]:
        """Topics of which somebody reads what is private."""
        return private_topics(fold for projection in projections for fold in self.folds(projection))

    def pages(
        self, reader: LogReader, projections: Sequence[Projection], after: int, upto: int
    ) -> Iterator[tuple[Sequence[Recorded], int, int]]:
        """What of the log it needs, as `LogReader.replay` has it."""
        return reader.replay(after, upto, self.selection(projections), self.opened(projections))

    def folds(self, projection: Projection) -> list[Fold[Any]]:
        """Of the projection's, those that it fills."""
        return [fold for fold in projection.folds if fold.foreign is self.foreign]


class Refold:
    """Folds pages for one projection, and keeps what is of the part."""

    def __init__(self, projection: Projection, part: Part, skipped: LeftOut, *, among_others: bool = False) -> None:
        """`among_others`: it is given what is of other parts too."""
        self.projection: Final = projection
        self.part: Final = part
        self._numbers = {number for number, fold in enumerate(projection.folds) if fold.foreign is part.foreign}
        partitions = part.partitions if part.foreign or among_others else None
        self._folder = Folder(projection, partitions, skipped, self._numbers)
        self._held: Held = {}
        self.rows: Final[Rows] = self._folder.none()
        self.faults: Final[list[Fault]] = []

    def take(self, page: Sequence[Recorded]) -> None:
        """The next events of the part's selection."""
        steps = self._folder.steps(page)
        if self.part.owners is not None:
            steps = [step for step in steps if step[2] in self.part.owners]
        self.faults.extend(self._folder.run(steps, self.rows, self._held))

    def of_table(self, name: str) -> Iterator[Any]:
        """The rows of a table."""
        for fold, owned in zip(self.projection.folds, self.rows, strict=True):
            if fold.table.name == name:
                for rows in owned.values():
                    yield from rows.values()

    def blamed(self, reader: LogReader, table: str, keys: Mapping[Key, str], upto: int) -> list[Fault]:
        """For keys whose rows are refused, with the reasons: their last events."""
        found: dict[Key, Fault] = {}
        for page, *_ in self.part.pages(reader, [self.projection], 0, upto):
            for number, key, owner, recorded in self._folder.steps(page):
                if number >= 0 and key in keys and self.projection.folds[number].table.name == table:
                    found[key] = Fault(table, key, owner, recorded, keys[key])
        return list(found.values())

    @property
    def tables(self) -> list[str]:
        """Those that it fills."""
        return [fold.table.name for fold in self.part.folds(self.projection)]

    @property
    def held(self) -> Held:
        """How many events of each quarantined key were held back."""
        return self._held


def refold(
    reader: LogReader,
    wanted: Sequence[tuple[Projection, Part]],
    upto: int,
    skipped: Callable[[str], LeftOut],
    after_page: Callable[[int, int], None] = lambda _events, _position: None,
) -> list[Refold]:
    """One pass of the log for all of these; `after_page` hears how many events, and up to where."""
    wanted = [(projection, part) for projection, part in wanted if part.folds(projection)]
    parts: dict[Part, list[Projection]] = {}
    for projection, part in wanted:
        parts.setdefault(part, []).append(projection)
    mixed = len(parts) > 1
    made = [Refold(projection, part, skipped(projection.name), among_others=mixed) for projection, part in wanted]
    if made:
        selection = AnyOf([part.selection(projections) for part, projections in parts.items()])
        opened = {topic for part, projections in parts.items() for topic in part.opened(projections)}
        with closing(reader.replay(0, upto, selection, opened)) as pages:
            for page, count, position in pages:
                for one in made:
                    one.take(page)
                after_page(count, position)
    return made


def left_out(connection: Connection, but: tuple[str, int] = ("", 0)) -> Callable[[str], LeftOut]:
    """What operators had projections skip, by projection. `but`: as if this one did not skip the event at this
    position.
    """
    found: dict[str, dict[UUID, list[int]]] = {}
    for name, position, stream in connection.execute(_SKIPPED, but):
        found.setdefault(name, {}).setdefault(stream, []).append(position)
    return lambda name: found.get(name, {})


# The log is looked up row by row: a join over a table that was never analysed might scan it all.
_SKIPPED: Final[LiteralString] = """
    SELECT name, position, (SELECT originator_id FROM stored_events WHERE notification_id = position)
    FROM skipped_events WHERE (name, position) <> (%s, %s) ORDER BY position
"""
