"""Pages that changed leave a shared cache: after the read models say what is true now, and once more soon after.

A cache that is told before the read models have taken an event asks again too early, and keeps what was true before it.
So an event counts as come once they have passed it. An answer may even then be on its way which was made before, and
reach the cache after it was told: so it is told a second time, when no such answer is under way any more.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple, Protocol

from domain.events.event import Recorded
from domain.publishing import CacheAway, changed_by

_log = logging.getLogger(__name__)

PAGE: Final = 500  # events
AGAIN_SECONDS: Final = 1.25  # over `api.publishing.OLDEST_SECONDS`, after which no answer is kept, and the way of one
_RETRY_SECONDS: Final = 0.5  # from a failure to the next try
_TELL_SECONDS: Final = 10.0  # between two complaints
_LATE_SECONDS: Final = 2.0  # read models that are behind for longer are complained about

Page = tuple[Sequence[Recorded], int]  # events, and the position up to which they are all there is


class Cache(Protocol):
    """One of the shared caches; as text, which."""

    def purge(self, keys: Collection[str]) -> None:
        """Drop the pages with any of these keys. Repeatable. `CacheAway` unless it did."""
        ...


class Place(Protocol):
    """How far the cache knows the log, kept durably."""

    def mine(self) -> bool:
        """Whether this process is the one that tells it."""
        ...

    def position(self) -> int:
        """Up to which everything was told twice."""
        ...

    def move(self, position: int) -> None:
        """Note it."""
        ...

    def readable(self) -> int:
        """The position that all read models of public pages have passed."""
        ...


class _Told(NamedTuple):
    """What was told once: which keys, up to which position, and when again."""

    keys: frozenset[str]
    position: int
    again_at: float


class Purger:
    """Follows the log for one cache, so that none waits for another. At least once: after a crash it begins where
    everything was told twice.
    """

    def __init__(
        self,
        read: Callable[[int, int], Page],
        place: Place,
        cache: Cache,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._place = place
        self._cache = cache
        self._clock = clock
        self._position: int | None = None  # told once; None: another process has the place
        self._told: deque[_Told] = deque()
        self._retry_at = self._complain_at = 0.0
        self._failing = False
        self._behind_since: float | None = None

    def turn(self) -> bool:
        """Tell what there is to tell; whether there was something. `StoreUnavailable`."""
        if self._clock() < self._retry_at or not self._has_place():
            return False
        try:
            again, anew = self._tell_again(), self._tell()
        except CacheAway as failure:
            self._retry_at = self._clock() + _RETRY_SECONDS
            self._complain("a shared cache keeps what has changed: %s: %s", self._cache, failure)
            self._failing = True
            return False
        return again or anew

    def _has_place(self) -> bool:
        if not self._place.mine():
            self._position = None
            self._told.clear()
            return False
        if self._position is None:
            self._position = self._place.position()
        return True

    def _tell_again(self) -> bool:
        due = [told for told in self._told if told.again_at <= self._clock()]
        if not due:
            return False
        self._purge(frozenset().union(*(told.keys for told in due)))
        self._place.move(due[-1].position)
        for _ in due:
            self._told.popleft()
        return True

    def _tell(self) -> bool:
        after = self._position or 0
        events, ceiling = self._read(after, PAGE)
        if ceiling <= after:
            self._behind_since = None
            return False
        upto = min(ceiling, self._place.readable())
        if upto <= after:
            self._wait_for_readers(len(events))
            return False
        keys = frozenset(key for recorded in events if recorded.position <= upto for key in changed_by(recorded))
        self._purge(keys)
        self._behind_since = None
        self._position = upto
        self._told.append(_Told(keys, upto, self._clock() + AGAIN_SECONDS))
        return True

    def _purge(self, keys: frozenset[str]) -> None:
        if not keys:
            return
        self._cache.purge(keys)
        if self._failing:
            _log.info("a shared cache is told again: %s", self._cache)
            self._failing = False

    def _wait_for_readers(self, waiting: int) -> None:
        self._behind_since = self._behind_since or self._clock()
        late = self._clock() - self._behind_since
        if late > _LATE_SECONDS:
            words = "a shared cache waits for the read models: %s: %d events or more, for %.0f s"
            self._complain(words, self._cache, waiting, late)

    def _complain(self, words: str, *details: object) -> None:
        if self._clock() >= self._complain_at:
            _log.warning(words, *details)
            self._complain_at = self._clock() + _TELL_SECONDS
