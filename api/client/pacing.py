"""When an app may ask again. No I/O, no clock, no dice of its own: the same code runs on a phone and in simulations."""

import math
import random
from dataclasses import dataclass
from typing import Final

_DOUBLINGS: Final = 30  # more of them would be longer than any pause


@dataclass(frozen=True)
class Pacing:
    """How patient an app is. `tests/api/test_outages.py` shows what these figures do to ten thousand of them."""

    first_seconds: float = 0.5
    longest_seconds: float = 60.0
    reserve: float = 2.0  # quick retries that are saved up while all is well
    share: float = 0.2  # of a quick retry, earned by each request that went well: Finagle's budget is a fifth, too
    told_at_most_seconds: float = 3_600.0  # what a proxy makes up must not silence an app for ever


WATCHED: Final = Pacing(longest_seconds=5.0)  # for a program that somebody sits before: there are few of them


class Pacer:
    """The pauses of one app, for all its calls together: what one of them finds out, the others need not try.

    Full jitter (Brooker, "Exponential Backoff And Jitter", 2015) from a budget of quick retries; once that is spent,
    every pause is of the longest kind. So an app asks a server that is away a few times soon, and seldom then.
    """

    def __init__(self, dice: random.Random, pacing: Pacing | None = None) -> None:
        self._dice = dice
        self._pacing = pacing or Pacing()
        self._quick = self._pacing.reserve
        self._failures = 0  # since a request went well
        self._failed_at = -math.inf
        self._shut_until = -math.inf

    @property
    def is_well(self) -> bool:
        """Whether the last request went well: then any number may be on their way at once, else one."""
        return self._failures == 0

    def wait(self, now: float) -> float:
        """Seconds until this app may ask for anything."""
        return max(0.0, self._shut_until - now)

    def succeeded(self) -> None:
        """There was an answer that counts, a refusal also."""
        self._failures = 0
        self._shut_until = -math.inf
        self._quick = min(self._pacing.reserve, self._quick + self._pacing.share)

    def told(self, seconds: float) -> float:
        """Seconds to wait when the server asked for it: as told, and no longer than the second it is told in."""
        return min(seconds, self._pacing.told_at_most_seconds) + self._dice.random()

    def failed(
        self,
        now: float,
        *,
        asked_at: float,
        told: float | None = None,
        broke: bool = False,
        at_most: float = math.inf,
    ) -> float:
        """Seconds to wait after no answer, or one that decides nothing.

        `told` is the server's `Retry-After`; without it, nobody answers for the server, and no call may ask before.
        `broke`: a connection that stood broke off, as they do in tunnels. The first time that costs no retry.
        Requests that were on their way together (`asked_at`) fail together, and count once. `at_most` is for what
        must not wait longer.
        """
        together = asked_at < self._failed_at
        if together and told is None and self.wait(now) > 0:
            return min(at_most, self.wait(now))
        free = together or (broke and self._failures == 0)
        pause = self._dice.uniform(0.0, min(at_most, self._window(free=free)))
        if not together:
            self._failures += 1
            self._failed_at = now
        if told is not None:
            return self.told(told) + pause
        self._shut_until = now + pause
        return pause

    def _window(self, *, free: bool) -> float:
        if not free and self._quick < 1:
            return self._pacing.longest_seconds
        self._quick -= 0 if free else 1
        doubled: float = self._pacing.first_seconds * 2 ** min(self._failures, _DOUBLINGS)
        return min(self._pacing.longest_seconds, doubled)
