"""The live projections: pages of the log into the read models, one transaction for rows and position."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from domain.errors import StoreUnavailable
from domain.events.event import Recorded
from projections.projection import Projection

_log = logging.getLogger(__name__)

PAGE: Final = 1_000  # events

Page = tuple[Sequence[Recorded], int]  # events, and the position up to which they are all there is to apply
_RETRY_SECONDS: Final = 5.0  # after a projection failed on a page


class Views(Protocol):
    """The read models, as far as the projector goes."""

    def position(self, projection: Projection) -> int:
        """How far the projection is."""
        ...

    def apply(self, projection: Projection, page: Sequence[Recorded], after: int, ceiling: int) -> None:
        """Rows and position in one transaction, unless another worker was first. `StoreUnavailable`."""
        ...


class Projector:
    """Keeps all projections at the end of the log. A crash resumes after the last committed position."""

    def __init__(self, projections: Iterable[Projection], read: Callable[[int, int], Page], views: Views) -> None:
        self._projections = tuple(projections)
        self._read = read
        self._views = views
        self._retry_at: dict[str, float] = {}

    def turn(self) -> int:
        """Apply one page to each projection that has one waiting; the number of events of the longest."""
        pages: dict[int, Page] = {}  # projections at the same position share one read
        return max((self._advance(projection, pages) for projection in self._projections), default=0)

    def _advance(self, projection: Projection, pages: dict[int, Page]) -> int:
        if self._retry_at.get(projection.name, 0.0) > time.monotonic():
            return 0
        after = self._views.position(projection)
        if after not in pages:
            pages[after] = self._read(after, PAGE)
        events, ceiling = pages[after]
        if ceiling <= after:
            return 0
        try:
            self._views.apply(projection, events, after, ceiling)
        except StoreUnavailable:
            raise
        except Exception as fault:  # noqa: BLE001 - a wrong fold may raise anything, and stops its projection only
            self._retry_at[projection.name] = time.monotonic() + _RETRY_SECONDS
            _log.exception("%s stands still after position %d: its fold fails", projection.name, after, exc_info=fault)
            return 0
        return max(len(events), 1)
