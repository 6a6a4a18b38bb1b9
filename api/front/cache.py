"""Kept answers by reader and request, dropped when what they tell of has changed.

An answer tells of users, and was made at a position that the read models had passed. Whoever changes a user's rows
says so with a position (`changed`): answers from before it go, and one that was made from before it and comes later is
not kept. So an old answer cannot stay, whatever overtakes what. After changes that nobody could tell of all is cleared,
and another `generation` begins: what was begun in an earlier one is not kept. Who asks for a position
(`Cairn-Min-Position`) gets kept answers only from there on.
"""

from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from api.front.kept import Kept

LIFE_SECONDS: Final = 60.0  # an upper bound, for a change that nobody could tell of
MAX_BODY: Final = 64 * 1024
_MAX_BYTES: Final = 64 * 1024 * 1024
_ENTRY_BYTES: Final = 2_500  # of one, beside its body and what it is asked by, as measured
_NAMED_BYTES: Final = 450  # for each of whom it tells
_MAX_CHANGES: Final = 100_000


class Asked(NamedTuple):
    """Who asks for what. The user's id as a number: comparing `UUID`s costs more than the rest of a hit."""

    user: int
    path: bytes
    query: bytes
    client: bytes = b""  # which app asks, and what operators tell apps, where an answer depends on that

    @property
    def user_id(self) -> UUID:
        """Who."""
        return UUID(int=self.user)


class ReadCache:
    """Of one process; works in its event loop alone. Closed, it keeps nothing: changes could not be heard."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Asked, Kept] = OrderedDict()
        # of users, by their ids as numbers: which answers tell of them, and the position of the last change
        self._telling: dict[int, set[Asked]] = {}
        self._changes: OrderedDict[int, int] = OrderedDict()
        self._forgotten = -1  # of changes up to this position not all are known any more
        self.open = False
        self.generation = 0

    def find(self, asked: Asked, now: float) -> Kept | None:
        """What is kept; `now` on a monotonic clock."""
        kept = self._kept.get(asked)
        if kept is None:
            return None
        if kept.expires_at <= now:
            self._drop(asked)
            return None
        self._kept.move_to_end(asked)
        return kept

    def keep(self, asked: Asked, kept: Kept, now: float, at: datetime, generation: int) -> bool:
        """Keep it, if it may be and is not too old already; `at`: the time of day; `generation`: when it was begun."""
        if not self.open or generation != self.generation or len(kept.body) > MAX_BODY or self.outdated(kept):
            return False
        left = LIFE_SECONDS if kept.until is None else min(LIFE_SECONDS, (kept.until - at).total_seconds())
        kept.expires_at = now + left
        self._drop(asked)
        self._kept[asked] = kept
        self._bytes += _size(asked, kept)
        for user_id in kept.about:
            self._telling.setdefault(user_id.int, set()).add(asked)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))
        return True

    def outdated(self, kept: Kept) -> bool:
        """Whether somebody of whom it tells has changed since, as far as is known."""
        position = kept.seen.position
        return position < self._forgotten or any(self._changes.get(user.int, -1) > position for user in kept.about)

    def changed(self, user_ids: Iterable[UUID], position: int) -> None:
        """Rows of these changed at this position, or are going to."""
        for user_id in user_ids:
            user = user_id.int
            if self._changes.get(user, -1) < position:
                self._changes[user] = position
            self._changes.move_to_end(user)
            for asked in list(self._telling.get(user, ())):
                if self._kept[asked].seen.position < position:
                    self._drop(asked)
        while len(self._changes) > _MAX_CHANGES:
            self._forgotten = max(self._forgotten, self._changes.popitem(last=False)[1])

    def clear(self) -> None:
        """Drop all, also what is being read now and comes later."""
        self.generation += 1
        self._kept.clear()
        self._telling.clear()
        self._bytes = 0

    def __len__(self) -> int:
        """How many answers there are."""
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """About how much memory they take."""
        return self._bytes

    def _drop(self, asked: Asked) -> None:
        kept = self._kept.pop(asked, None)
        if kept is None:
            return
        self._bytes -= _size(asked, kept)
        for user_id in kept.about:
            others = self._telling.get(user_id.int)
            if others is not None:
                others.discard(asked)
                if not others:
                    del self._telling[user_id.int]


def _size(asked: Asked, kept: Kept) -> int:
    key = len(asked.path) + len(asked.query) + len(asked.client)
    return 2 * len(kept.body) + key + _NAMED_BYTES * len(kept.about) + _ENTRY_BYTES  # plain, and packed
