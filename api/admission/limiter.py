"""The rate limiter: all processes together by Valkey, each by itself while that is away."""

from collections.abc import Sequence
from typing import Protocol

from api.admission.gcra import Claim, LocalLimits, Taken


class Limits(Protocol):
    """What all processes share."""

    @property
    def answers(self) -> bool:
        """Whether it is asked at present."""
        ...

    async def take(self, claims: Sequence[Claim]) -> Sequence[int] | None:
        """The parts of `Taken`; None when it has no say now, which takes 50 ms at most to know."""
        ...


class Limiter:
    """Neither open nor closed without what is shared: this process knows of each key what it last heard."""

    def __init__(self, shared: Limits) -> None:
        self._shared = shared
        self._local = LocalLimits()

    @property
    def alone(self) -> bool:
        """Whether this process limits by itself."""
        return not self._shared.answers

    async def take(self, claims: Sequence[Claim]) -> Taken:
        """One request from each limit. What is refused by what is known here needs no round trip."""
        taken = self._local.look(claims)
        if taken.wait:  # others can only have taken more
            return taken
        found = await self._shared.take(claims)
        if found is None:
            return self._local.take(claims)
        wait, now, *arrivals = found
        taken = Taken(wait, now, arrivals)
        self._local.learn(claims, taken)
        return taken

    def take_here(self, claims: Sequence[Claim]) -> Taken:
        """As `take`, by this process's knowledge alone: for what costs less than a round trip."""
        return self._local.take(claims)
