"""Events into rows, in memory: the one way, for pages as they come and for rebuilds."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from domain.events.event import Event, Recorded
from domain.events.user import UserErased
from domain.measures import UserId
from infra.event_store.rows import PARTITIONS
from projections.projection import Fold, Key, Projection

_Keys = Callable[[Recorded], Iterable[Key]]
_ERASED: Final = -1  # in place of a fold: all rows of the owner go

Step = tuple[int, Key, UserId, Recorded]  # which fold, which row, whose it is, and the event that it takes
Rows = list[dict[UserId, dict[Key, Any]]]  # by fold, owner and key
Held = dict[tuple[str, Key], int]  # by table and key: how many of its events were held back
LeftOut = Mapping[UUID, Sequence[int]]  # by stream: positions of its events that are left out, in their order
NOTHING: Final[LeftOut] = {}


class Fault(Struct, frozen=True):
    """A fold failed: its row stays as it was before the event, and later events of its key are held back."""

    table: str
    key: Key
    owner_id: UserId
    recorded: Recorded
    reason: str


class Folder:
    """The folds of one projection, for the rows of some partitions."""

    def __init__(
        self,
        projection: Projection,
        partitions: frozenset[int] | None = None,  # None: all
        skipped: LeftOut = NOTHING,
        numbers: Collection[int] | None = None,  # of the folds; None: all
    ) -> None:
        self.folds: Final[tuple[Fold[Any], ...]] = projection.folds
        self._partitions = partitions
        self._skipped = skipped
        self._by_event: dict[type[Event], list[tuple[int, _Keys, int | None, bool]]] = {}
        for number, fold in enumerate(self.folds):
            if numbers is not None and number not in numbers:
                continue
            owned = fold.table.key.index(fold.table.owner) if fold.foreign else None  # None: the stream's owner
            for event in fold.events:
                self._by_event.setdefault(event, []).append((number, fold.keys, owned, fold.adds))

    def steps(self, page: Iterable[Recorded]) -> list[Step]:
        """What the events do to which rows, in the order of the log."""
        found: list[Step] = []
        by_event, partitions, skipped = self._by_event, self._partitions, self._skipped
        for recorded in page:
            kind = type(recorded.event)
            left_out = skipped.get(recorded.stream_id, ()) if skipped else ()
            is_after = bool(left_out) and recorded.position > left_out[0]
            for number, keys, owned, adds in () if recorded.position in left_out else by_event.get(kind, ()):
                for key in () if is_after and adds else keys(recorded):
                    owner = recorded.owner_id if owned is None else key[owned]
                    if partitions is None or owner.int % PARTITIONS in partitions:
                        found.append((number, key, owner, recorded))
            if kind is UserErased and (partitions is None or recorded.owner_id.int % PARTITIONS in partitions):
                found.append((_ERASED, (), recorded.owner_id, recorded))
        return found

    def none(self) -> Rows:
        """No rows yet."""
        return [{} for _ in self.folds]

    def run(self, steps: Sequence[Step], rows: Rows, held: Held) -> list[Fault]:
        """Take the steps. Those of keys in `held` are left out and counted; keys whose fold fails are put there."""
        faults = []
        folds = [(fold.fold, fold.table.name, owners) for fold, owners in zip(self.folds, rows, strict=True)]
        for number, key, owner, recorded in steps:
            if number == _ERASED:
                for table in rows:
                    table.pop(owner, None)
                continue
            fold, name, owners = folds[number]
            if held and (name, key) in held:
                held[name, key] += 1
                continue
            owned = owners.get(owner)
            if owned is None:
                owned = owners[owner] = {}
            try:
                row = fold(key, owned.get(key), recorded)
            except Exception as error:  # noqa: BLE001 - a wrong fold may raise anything, and stops its key only
                held[name, key] = 0
                faults.append(Fault(name, key, owner, recorded, f"{type(error).__name__}: {error}".rstrip(": ")))
                continue
            if row is None:
                owned.pop(key, None)
            else:
                owned[key] = row
        return faults


def erased(steps: Iterable[Step]) -> list[UserId]:
    """The users who are erased on the way."""
    return [owner for number, _, owner, _ in steps if number == _ERASED]
