"""The door: each request enters, or is told when to come again; what entered leaves."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from msgspec import Struct

from api.admission.concurrency import Concurrency
from api.admission.gcra import Taken
from api.admission.kinds import Kind
from api.admission.limiter import Limiter, Limits
from api.admission.pulse import Pulse
from api.admission.rates import Counted, Rates, Told
from api.admission.refusals import Overloaded, RateLimited
from api.admission.spread import spread
from api.telemetry import Telemetry
from domain.accounts import address_of

_TIMED: Final = frozenset({Kind.READ, Kind.PREFETCH, Kind.STATS})  # no body that a slow phone sends
# seconds of the window for each request that comes for one that is let in: what matters least comes back last
_WINDOWS: Final = {Kind.RECORDING: 1, Kind.COMMAND: 2, Kind.READ: 2, Kind.PREFETCH: 4, Kind.STATS: 8}


class Ask(Struct, frozen=True):
    """Who asks for what."""

    kind: Kind
    user_id: UUID | None
    device: UUID | None
    client: str  # the app's label
    address: str
    anonymous: str = "anonymous"  # the rate that counts when nobody is signed in

    @property
    def who(self) -> str:
        """What sets this client apart from others."""
        return str(self.device or self.user_id or self.address)


class Ticket:
    """A request that was let in. It leaves, whatever becomes of it."""

    __slots__ = ("_began", "_concurrency", "_counted", "_seconds", "_taken", "kind")

    def __init__(self, concurrency: Concurrency, kind: Kind) -> None:
        self._concurrency = concurrency
        self.kind = kind
        self._counted: Counted | None = None
        self._taken: Taken | None = None
        self._began: float | None = time.perf_counter() if kind in _TIMED else None
        self._seconds: float | None = None

    def count(self, counted: Counted, taken: Taken) -> None:
        """What the limits said, to be told."""
        self._counted, self._taken = counted, taken

    def lines(self) -> Sequence[tuple[bytes, bytes]]:
        """The RateLimit fields for the answer; none for those who are not signed in: caches may keep it."""
        return () if self._counted is None or self._taken is None else self._counted.told(self._taken).lines

    @property
    def user_id(self) -> UUID | None:
        """Whose request it is counted as, if anybody's."""
        return None if self._counted is None else self._counted.user_id

    def untimed(self) -> None:
        """It waits for something else than this process: how long it takes says nothing."""
        self._began = self._seconds = None

    def answers(self) -> None:
        """The answer begins: the time until now is the server's, what comes after is the client's pace."""
        if self._began is not None:
            self._seconds = time.perf_counter() - self._began

    def leave(self) -> None:
        """It is over."""
        self._concurrency.leave(self.kind, self._seconds)


class Admission:
    """One for each process."""

    def __init__(self, limits: Limits, rates: Rates, concurrency: Concurrency, telemetry: Telemetry) -> None:
        self._limiter = Limiter(limits)
        self._rates = rates
        self._concurrency = concurrency
        self._telemetry = telemetry
        self._pulse = Pulse(concurrency.beat, lambda: concurrency.idle)
        telemetry.concurrency_limit.set_function(lambda: concurrency.limit)
        telemetry.loop_lag.set_function(lambda: concurrency.lag)
        telemetry.limiting_alone.set_function(lambda: self._limiter.alone)
        for kind in Kind:
            telemetry.at_once.labels(kind.value).set_function(partial(concurrency.at_once.__getitem__, kind))

    def on_trust(self, kind: Kind, counted: Counted) -> Ticket | None:
        """As `enter`, for what is let in by what this process last heard of the limits. None: `enter` has to find out,
        and nothing was counted.
        """
        if not self._pulse.running or self._concurrency.full(kind):
            return None
        taken = self._limiter.on_trust(counted.claims)
        if taken is None:
            return None
        self._concurrency.enter(kind)
        ticket = Ticket(self._concurrency, kind)
        ticket.count(counted, taken)
        return ticket

    async def enter(self, kind: Kind, ask: Callable[[], Ask], identified: Callable[[], Ask] | None = None) -> Ticket:
        """Let a request in: `Overloaded`, `RateLimited`. Whoever gets a ticket calls its `leave`, once.

        `identified` finds out who asks, where that costs something: a request that is sent away for load is spared it.
        """
        ticket = self.hold(kind, ask)
        try:
            await self._count((identified or ask)(), ticket)
        except BaseException:
            ticket.leave()
            raise
        return ticket

    def hold(self, kind: Kind, ask: Callable[[], Ask]) -> Ticket:
        """A place among the requests at once: it needs neither the user nor Valkey."""
        if not self._pulse.running:
            self._pulse.start()
        if self._concurrency.enter(kind):
            return Ticket(self._concurrency, kind)
        refused, window = ask(), _WINDOWS[kind] * self._concurrency.pressure
        self._note(refused, Overloaded.why)
        raise Overloaded(spread(1, window, refused.who))

    async def _count(self, ask: Ask, ticket: Ticket) -> None:
        """One request from the limits of user and device, or of the address."""
        counted = self._counted(ask)
        taken = self._passed(ask, counted, await self._limiter.take(counted.claims))
        if ask.user_id is not None:
            ticket.count(counted, taken)

    def counted(self, kind: Kind, user_id: UUID, device: UUID | None) -> Counted:
        """What a request counts against, of somebody who is signed in."""
        return self._rates.of_user(kind, user_id, device)

    def local(self, counted: Counted) -> Told | None:
        """Instead of `enter`, for a read that a cache in this process answers: what to tell of its limits when it is
        within them by what this process knows, without a place among the requests at once, and without a round trip.
        """
        taken = self._limiter.take_here(counted.claims)
        return None if taken.wait else counted.told(taken)

    async def guess(self, email: str, client: str) -> None:
        """Before a password is looked at: so many tries for an e-mail address, from everywhere; `RateLimited`."""
        ask = Ask(Kind.COMMAND, None, None, client, email)
        counted = self._rates.of_other("password", address_of(email))
        self._passed(ask, counted, await self._limiter.take(counted.claims))

    def _counted(self, ask: Ask) -> Counted:
        if ask.user_id is None:
            return self._rates.of_other(ask.anonymous, ask.address)
        return self._rates.of_user(ask.kind, ask.user_id, ask.device)

    def _passed(self, ask: Ask, counted: Counted, taken: Taken) -> Taken:
        if taken.wait == 0:
            return taken
        seconds = taken.wait / 1_000_000
        self._note(ask, RateLimited.why)
        raise RateLimited(spread(seconds, seconds / 2, ask.who), counted.fields(taken))

    def _note(self, ask: Ask, why: str) -> None:
        client = self._telemetry.client(ask.client, signed_in=ask.user_id is not None)
        self._telemetry.refused.labels(why, ask.kind.value, client).inc()
