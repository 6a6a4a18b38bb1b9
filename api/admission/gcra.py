"""Rate limits without windows: the generic cell rate algorithm (ITU-T I.371, annex A), in whole microseconds.

A limit remembers one number for each key, the theoretical arrival time: when a burst would be free again, whole.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

Claim = tuple[str, int, int]  # key, microseconds between requests, microseconds of a whole burst

_SECOND: Final = 1_000_000
_ROOM: Final = 50_000  # keys


class Rate:
    """`quota` requests at once, and as many again in `window` seconds, one after the other."""

    def __init__(self, name: str, quota: int, window: int) -> None:
        self.name = name
        self.quota = quota
        self.policy = f'"{name}";q={quota};w={window}'
        self.interval = max(1, window * _SECOND // quota)  # microseconds until one more is free

    def claim(self, key: str) -> Claim:
        """One request of whoever the key stands for."""
        return key, self.interval, self.interval * self.quota

    def left(self, arrival: int, now: int) -> int:
        """How many requests are left."""
        return self.quota - -(-max(0, arrival - now) // self.interval)

    def until(self, arrival: int, now: int, left: int) -> int:
        """The seconds until there is one more than are left; 0: all are there."""
        if left == self.quota:
            return 0
        return -(-(arrival - now - self.interval * (self.quota - left - 1)) // _SECOND)


class Taken(NamedTuple):
    """What a limiter says. Times are microseconds on its own clock; `wait` 0: taken, from every limit."""

    wait: int
    now: int
    arrivals: Sequence[int]


def decide(arrivals: Sequence[int], now: int, claims: Sequence[Claim]) -> Taken:
    """Take one request from each limit, if all have one left; else none from any.

    An arrival time that no clock of ours can have made (clocks are set, quotas are changed) counts as a burst used up.
    """
    wait, found, after = 0, [], []
    for arrival, (_, interval, depth) in zip(arrivals, claims, strict=True):
        full = now + depth
        used = now if arrival < now else full if arrival > full else arrival
        found.append(used)
        after.append(used + interval)
        wait = max(wait, used + interval - full)
    return Taken(wait, now, found if wait else after)


def monotonic() -> int:
    """This process's clock."""
    return time.monotonic_ns() // 1_000


class LocalLimits:
    """Limits of this process alone: of all keys that it saw lately, in bounded memory."""

    def __init__(self, clock: Callable[[], int] = monotonic, room: int = _ROOM) -> None:
        self._clock = clock
        self._room = room
        self._arrivals: dict[str, int] = {}

    def take(self, claims: Sequence[Claim]) -> Taken:
        """As `decide`, and remembered."""
        taken = self.look(claims)
        if taken.wait == 0:
            self.remember(claims, taken.arrivals)
        return taken

    def look(self, claims: Sequence[Claim]) -> Taken:
        """What `take` would say."""
        known = self._arrivals
        return decide([known.get(key, 0) for key, _, _ in claims], self._clock(), claims)

    def learn(self, claims: Sequence[Claim], taken: Taken) -> None:
        """Remember what another limiter said, so that this one can go on from there; what that missed counts too."""
        ahead, known = self._clock() - taken.now, self._arrivals
        pairs = zip(claims, taken.arrivals, strict=True)
        self.remember(claims, [max(arrival + ahead, known.get(key, 0)) for (key, _, _), arrival in pairs])

    def remember(self, claims: Sequence[Claim], arrivals: Sequence[int]) -> None:
        """From now on these are the arrival times."""
        if len(self._arrivals) + len(claims) > self._room:
            self._sweep()
        for (key, _, _), arrival in zip(claims, arrivals, strict=True):
            self._arrivals[key] = arrival

    def _sweep(self) -> None:
        """Forget who may have a whole burst again; if that is not enough, the half that was seen first."""
        now = self._clock()
        kept = [(key, arrival) for key, arrival in self._arrivals.items() if arrival > now]
        self._arrivals = dict(kept if len(kept) <= self._room // 2 else kept[-self._room // 2 :])
