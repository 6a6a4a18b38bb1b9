"""Contenders run in turns; what is told are medians, their spread, and ratios of figures of the same round."""

import gc
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from workers.projector import COLLECTIONS

ROUNDS: Final = 5  # at least, for a median that one disturbed run does not move


class Contender(Struct, frozen=True):
    """One run of it gives a rate, in the bench's unit."""

    name: str
    run: Callable[[], float]


class Shared:
    """Several figures of one run: whichever contender comes first runs it, and the others take theirs."""

    def __init__(self, run: Callable[[], Mapping[str, float]]) -> None:
        self._run = run
        self._left: dict[str, float] = {}

    def contender(self, name: str) -> Contender:
        """The one of this name."""
        return Contender(name, lambda: self._take(name))

    def _take(self, name: str) -> float:
        if name not in self._left:
            self._left = dict(self._run())
        return self._left.pop(name)


class Goal(Struct, frozen=True):
    """What is aimed at: `contender` at `bound` times `reference`, or at `bound` alone. None: only told."""

    name: str  # of the result
    contender: str
    reference: str | None
    bound: float | None
    at_most: bool = False  # the bound is an upper one


class Spread(Struct, frozen=True):
    """Of the rounds of one figure."""

    median: float
    lowest: float
    highest: float


class Finding(Struct, frozen=True):
    """A goal, what it came to, and whether it was met."""

    name: str
    contender: str
    reference: str | None
    bound: float | None
    figure: Spread
    met: bool | None
    at_most: bool = False


class Outcome(Struct, frozen=True):
    """Of one bench."""

    name: str
    unit: str
    rounds: int
    figures: Mapping[str, Spread]
    findings: Sequence[Finding]


class Bench(Struct, frozen=True):
    """What is to be measured, once everything is there."""

    name: str
    unit: str
    contenders: Sequence[Contender]
    goals: Sequence[Goal]
    once: bool = False  # one round: what is measured is a sum over a long run already


def measure(bench: Bench, rounds: int, told: Callable[[str], None]) -> Outcome:
    """Each round runs every contender once, in another order; `told` hears which.

    What is in memory by now is kept from the collector, as in a process that has started: else all would be measured
    together with what the others left lying about. For all of them it looks for cycles as often as in a worker.
    """
    order = list(bench.contenders)
    runs: dict[str, list[float]] = {contender.name: [] for contender in order}
    rounds = 1 if bench.once else rounds
    with _collecting_as_workers():
        for number in range(1, rounds + 1):
            random.shuffle(order)
            for contender in order:
                gc.collect()
                gc.freeze()
                told(f"{bench.name} {number}/{rounds}: {contender.name}")
                runs[contender.name].append(contender.run())
    return Outcome(
        name=bench.name,
        unit=bench.unit,
        rounds=rounds,
        figures={name: spread(figures) for name, figures in runs.items()},
        findings=[_finding(goal, runs) for goal in bench.goals],
    )


@contextmanager
def _collecting_as_workers() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def spread(figures: Sequence[float]) -> Spread:
    """Median, lowest and highest."""
    return Spread(statistics.median(figures), min(figures), max(figures))


def _finding(goal: Goal, runs: Mapping[str, Sequence[float]]) -> Finding:
    ours = runs[goal.contender]
    theirs = runs[goal.reference] if goal.reference is not None else [1.0] * len(ours)
    figure = spread([one / other for one, other in zip(ours, theirs, strict=True)])
    met = None
    if goal.bound is not None:
        met = figure.median <= goal.bound if goal.at_most else figure.median >= goal.bound
    return Finding(goal.name, goal.contender, goal.reference, goal.bound, figure, met, goal.at_most)
