"""An outage and what follows, on a virtual clock: the pauses of the real client, and a server of so much capacity.

By hand, for the figures: `PYTHONPATH=. .venv/bin/python -m tests.api.outages`.
"""

import argparse
import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from api.admission.spread import spread
from api.client.pacing import Pacer

BEGIN = 60.0  # seconds of usual days before the outage


class Pauses(Protocol):
    """When one app asks again."""

    def succeeded(self) -> None: ...

    def failed(self, now: float, *, asked_at: float, told: float | None = None) -> float: ...


class FixedPauses:
    """What a hurried developer writes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def succeeded(self) -> None: ...

    def failed(self, now: float, *, asked_at: float, told: float | None = None) -> float:
        del now, asked_at, told
        return self._seconds


class Server:
    """Answers so many requests a second. The others are told when to come again as our server does it for reads: over
    a window that grows with the requests that come for each one that is let in, at a place of the device's own.
    """

    def __init__(self, capacity: float) -> None:
        self._capacity = capacity
        self._room = capacity / 10
        self._at = 0.0
        self._pressure = 1.0

    def answers(self, now: float) -> bool:
        self._room = min(self._capacity / 10, self._room + (now - self._at) * self._capacity)
        self._at = now
        lets_in = self._room >= 1
        self._room -= lets_in
        self._pressure += (0.0 if lets_in else 1.0) / self._capacity - (self._pressure - 1.0) / self._capacity / 2
        return lets_in

    def told(self, device: int) -> float:
        return float(spread(1, 2 * self._pressure, str(device)))


@dataclass(frozen=True)
class Outcome:
    """`peak` is of arrivals in a second after the outage, in capacities; `usual` before it."""

    peak: float
    usual: float
    requests_a_sync: float
    waited_p99: float
    first_seconds: Sequence[int]

    def __str__(self) -> str:
        seconds = " ".join(map(str, self.first_seconds))
        return (
            f"usual load {self.usual:.2f}, peak {self.peak:.2f} of capacity; {self.requests_a_sync:.2f} requests a "
            f"sync; p99 of a sync's wait {self.waited_p99:.0f} s; arrivals in the first seconds {seconds}"
        )


def outage(
    pauses: Callable[[random.Random], Pauses],
    *,
    clients: int = 10_000,
    capacity: float = 500.0,
    period: float = 60.0,
    away: float = 60.0,
    seed: int = 1,
) -> Outcome:
    """Each client synchronises every `period` seconds, by its own phase; for `away` seconds nobody answers."""
    dice = random.Random(seed)
    server, apps = Server(capacity), [pauses(random.Random(dice.random())) for _ in range(clients)]
    heap = [(dice.uniform(0, period), app) for app in range(clients)]
    heapq.heapify(heap)
    began: dict[int, float] = {}
    arrivals: Counter[int] = Counter()
    waits: list[float] = []
    back = BEGIN + away
    while heap[0][0] < back + 3 * period:
        now, app = heapq.heappop(heap)
        arrivals[int(now)] += 1
        began.setdefault(app, now)
        if BEGIN <= now < back:
            pause = apps[app].failed(now, asked_at=now)
        elif server.answers(now):
            apps[app].succeeded()
            waits.append(now - began.pop(app))
            pause = period * dice.uniform(0.9, 1.1)
        else:
            pause = apps[app].failed(now, asked_at=now, told=server.told(app))
        heapq.heappush(heap, (now + pause, app))
    after = [arrivals[second] for second in range(int(back), int(back + 3 * period))]
    return Outcome(
        peak=max(after) / capacity,
        usual=sum(arrivals[second] for second in range(10, 60)) / 50 / capacity,
        requests_a_sync=arrivals.total() / len(waits),
        waited_p99=sorted(waits)[int(0.99 * len(waits))],
        first_seconds=after[:10],
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--clients", type=int, default=10_000)
    arguments.add_argument("--away", type=float, default=60.0)
    arguments.add_argument("--seed", type=int, default=1)
    given = vars(arguments.parse_args())
    for capacity in (1_000, 500, 333, 250):
        share = capacity * given["clients"] / 10_000
        sys.stdout.write(f"{share:.0f} requests/s, client: {outage(Pacer, capacity=share, **given)}\n")
    for seconds in (1.0, 5.0):
        told = outage(lambda _, seconds=seconds: FixedPauses(seconds), **given)  # type: ignore[misc]
        sys.stdout.write(f"every {seconds:.0f} s, no jitter: {told}\n")


if __name__ == "__main__":
    main()
