"""The rate limiter: all processes together by Valkey, each by itself while that is away.

Of who asks often, Valkey is told once a second, or once for an eighth of a burst: until then this process goes on from
what it last heard. So many more may come in by each further process.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from api.admission.gcra import Claim, LocalLimits, Taken

_TRUST_SECONDS: Final = 1.0
_SHARE: Final = 8  # of a burst, one part
_ROOM: Final = 50_000  # keys


class Limits(Protocol):
    """What all processes share."""

    @property
    def answers(self) -> bool:
        """Whether it is asked at present."""
        ...

    async def take(self, claims: Sequence[Claim], owed: int, since: int) -> Sequence[int] | None:
        """The parts of `Taken`, with so many taken before, in so many microseconds; None when it has no say now, which
        takes 50 ms at most to know.
        """
        ...


class _Tab(Struct):
    """What was let in since the limits were last asked."""

    opened_at: float
    owed: int
    room: int


class Limiter:
    """Neither open nor closed without what is shared: this process knows of each key what it last heard."""

    def __init__(self, shared: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._clock = clock
        self._local = LocalLimits()
        self._tabs: OrderedDict[str, _Tab] = OrderedDict()  # by the first limit's key

    @property
    def alone(self) -> bool:
        """Whether this process limits by itself."""
        return not self._shared.answers

    def on_trust(self, claims: Sequence[Claim]) -> Taken | None:
        """As `take`, for what is let in by what was last heard; None: it has to be asked for, or is refused."""
        tab = self._tabs.get(claims[0][0])
        if tab is None or tab.owed >= tab.room or self._clock() - tab.opened_at >= _TRUST_SECONDS:
            return None
        taken = self._local.take(claims) if self._shared.answers else None
        if taken is None or taken.wait:
            return None
        tab.owed += 1
        return taken

    async def take(self, claims: Sequence[Claim]) -> Taken:
        """One request from each limit. What is refused by what is known here needs no round trip, but that Valkey is
        told what came before it.
        """
        trusted = self.on_trust(claims)
        if trusted is not None:
            return trusted
        taken, tab, now = self._local.look(claims), self._tabs.get(claims[0][0]), self._clock()
        if taken.wait and (tab is None or not tab.owed):  # others can only have taken more
            return taken
        if tab is None:
            return await self._asked(claims, 0, 0)
        self._open(claims, now)  # for those who come meanwhile
        return await self._asked(claims, tab.owed, round((now - tab.opened_at) * 1_000_000))

    async def _asked(self, claims: Sequence[Claim], owed: int, since: int) -> Taken:
        asked_at = self._clock()
        found = await self._shared.take(claims, owed, since)
        if found is None:
            tab = self._tabs.get(claims[0][0])
            taken = self._local.take(claims)
            if tab is not None:
                tab.owed += owed + (taken.wait == 0)
                tab.opened_at = min(tab.opened_at, asked_at - since / 1_000_000)
            return taken
        wait, at, *arrivals = found
        taken = Taken(wait, at, arrivals)
        self._local.learn(claims, taken)
        if claims[0][0] not in self._tabs:
            self._open(claims, asked_at)
        return taken

    def _open(self, claims: Sequence[Claim], now: float) -> None:
        tabs = self._tabs
        tabs.pop(claims[0][0], None)
        while len(tabs) >= _ROOM:
            tabs.popitem(last=False)  # the one that was opened first
        tabs[claims[0][0]] = _Tab(now, 0, min(depth // interval for _, interval, depth in claims) // _SHARE)

    def take_here(self, claims: Sequence[Claim]) -> Taken:
        """As `take`, by this process's knowledge alone: for what costs less than a round trip."""
        return self._local.take(claims)
