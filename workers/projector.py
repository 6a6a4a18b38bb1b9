"""The live projections: pages of the log into the read models, one transaction for rows and positions."""

import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from domain.events.event import Recorded

PAGE: Final = 2_000  # events
# For `gc.set_threshold`. A page is thousands of tuples without cycles: by Python's own (700, 10, 10), looking for some
# in them takes a sixth of the time.
COLLECTIONS: Final = (5_000, 10, 10)
_RENEW_SECONDS: Final = 1.0  # a fifth of a lease

Page = tuple[Sequence[Recorded], int]  # events, and the position up to which they are all there is to apply


class Shard(Protocol):
    """A part of a build that this worker fills."""

    @property
    def position(self) -> int:
        """How far it is."""
        ...

    @property
    def hold_at(self) -> int | None:
        """A position not to be passed for now."""
        ...


S = TypeVar("S", bound=Shard)


class Tables(Protocol, Generic[S]):
    """The read models, as far as the projector goes."""

    def renew(self) -> Sequence[S]:
        """The shards that this worker has from now on, for some seconds."""
        ...

    def page(self, shards: Sequence[S], after: int, limit: int) -> Page:
        """The next events past a position, as these shards need them."""
        ...

    def apply(self, shards: Sequence[S], page: Sequence[Recorded], ceiling: int) -> Sequence[S]:
        """Rows and positions in one transaction; the shards as they are then, without those that cannot go on.

        Raises the error that `Projector` was given when a shard is another's now.
        """
        ...


class Projector(Generic[S]):
    """Keeps the shards that it gets at the end of the log. A crash resumes after the last committed position.

    Shards at one position take the same page: one read, one decoding, one transaction. Those that are behind read on
    exactly to where the next ones are, and go on together with them.
    """

    def __init__(
        self,
        tables: Tables[S],
        lost: type[Exception],
        page: int = PAGE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = tables
        self._lost = lost
        self._page = page
        self._clock = clock
        self._shards: dict[int, list[S]] = {}
        self._renew_at = 0.0

    def turn(self) -> int:
        """Apply one page wherever one is waiting, the most advanced shards first; how many events that was."""
        if self._clock() >= self._renew_at:
            self._renew()
        return sum(self._advance(position) for position in sorted(self._shards, reverse=True))

    def _renew(self) -> None:
        self._shards = {}
        for shard in self._tables.renew():
            self._shards.setdefault(shard.position, []).append(shard)
        self._renew_at = self._clock() + _RENEW_SECONDS

    def _advance(self, after: int) -> int:
        held = [shard for shard in self._shards[after] if shard.hold_at is not None and shard.hold_at <= after]
        shards = [shard for shard in self._shards[after] if shard not in held]
        if not shards:
            return 0
        events, ceiling = self._tables.page(shards, after, self._page)
        bounds = [at for at in self._shards if at > after] + [s.hold_at for s in shards if s.hold_at is not None]
        bound = min(bounds, default=ceiling)
        if bound < ceiling:
            events, ceiling = [recorded for recorded in events if recorded.position <= bound], bound
        if ceiling <= after:
            return 0
        try:
            moved = self._tables.apply(shards, events, ceiling)
        except self._lost:
            self._renew_at = 0.0  # look again at what there is
            return 0
        del self._shards[after]
        if held:
            self._shards[after] = held
        if moved:
            self._shards.setdefault(ceiling, []).extend(moved)
        return max(len(events), 1)
