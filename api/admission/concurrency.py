"""How many requests at once: a limit that adapts to what the process can do, of which each kind may use a share.

After Netflix's Gradient2 (concurrency-limits): the limit shrinks by how much longer reads take than they did in the
long run, and grows while it is used and they do not. Beside it, the event loop: one that comes late has too much to do.
"""

import math
from typing import Final

from api.admission.kinds import Kind

# of the limit that all requests together may have reached when one more of this kind is let in
SHARES: Final = {Kind.STATS: 0.25, Kind.PREFETCH: 0.5, Kind.READ: 0.85, Kind.COMMAND: 1.0}
RESERVE: Final = 2_048  # recordings at once, beside the limit: they wait for phones, and cost little before the ack

_TOLERANCE: Final = 2.0  # times the usual, before a read counts as slow
_NEVER_SLOW: Final = 0.1  # seconds
_LATE: Final = 0.025  # seconds that the loop may be late, on average: the way of an upload has some twenty turns
_SMOOTHING: Final = 0.3
_SAMPLES: Final = 8  # reads, before they say anything
_UP: Final = 0.002  # how much of a slower time the usual one takes over, at each beat: minutes
_DOWN: Final = 0.1  # and of a faster one
_PRESSURE: Final = 0.03  # of a beat, in the moving average: some two seconds


class Concurrency:
    """Counts what is under way. `beat` is called some 20 times a second while there is anything to do."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self.limit = float(min(max(256, least), most))
        self.lag = 0.0  # seconds that the loop comes late, moving average
        self.pressure = 1.0  # requests for each one that is let in, moving average
        self.at_once = dict.fromkeys(Kind, 0)
        self._all = 0  # without recordings
        self._highest = 0  # since the last beat, as are
        self._came = 0
        self._let_in = 0
        self._seconds = dict.fromkeys(Kind, 0.0)
        self._reads = dict.fromkeys(Kind, 0)
        self._usual: dict[Kind, float] = {}

    def full(self, kind: Kind) -> bool:
        """Whether none of this kind may begin now."""
        if kind is Kind.RECORDING:
            return self.at_once[kind] >= RESERVE
        return self._all >= self.limit * SHARES[kind]

    def enter(self, kind: Kind) -> bool:
        """Whether one more of this kind may begin; if so, it counts until it leaves."""
        self._came += 1
        if self.full(kind):
            return False
        if kind is not Kind.RECORDING:
            self._all += 1
            self._highest = max(self._highest, self._all)
        self._let_in += 1
        self.at_once[kind] += 1
        return True

    def leave(self, kind: Kind, seconds: float | None) -> None:
        """It is over. `seconds`: how long the server took, where nothing else can have taken that time."""
        self.at_once[kind] -= 1
        if kind is not Kind.RECORDING:
            self._all -= 1
        if seconds is not None:
            self._seconds[kind] += seconds
            self._reads[kind] += 1

    @property
    def idle(self) -> bool:
        """Nothing is under way, and nothing came since the last beat."""
        return self._came == 0 and self._all == 0

    def beat(self, late: float) -> None:
        """Adapt to what was seen since the last beat, which came so many seconds late."""
        self.lag += _SMOOTHING * (late - self.lag)
        gradient = min(self._of_reads(), _LATE / self.lag if self.lag > _LATE else 1.0)
        if gradient < 1.0 or self._highest >= self.limit / 2:  # else the limit says nothing, and stays
            aim = self.limit * max(0.5, gradient) + math.sqrt(self.limit)
            self.limit = min(self._most, max(self._least, self.limit + _SMOOTHING * (aim - self.limit)))
        if self._came:
            self.pressure += _PRESSURE * (self._came / max(1, self._let_in) - self.pressure)
        self._highest, self._came, self._let_in = self._all, 0, 0

    def _of_reads(self) -> float:
        """What reads take as a rule over what they took: each kind by its own, so that the mix says nothing."""
        if sum(self._reads.values()) < _SAMPLES:
            return 1.0
        usual = took = 0.0
        for kind, reads in self._reads.items():
            if reads:
                mean = self._seconds[kind] / reads
                known = self._usual.get(kind, mean)
                self._usual[kind] = known + (_UP if mean > known else _DOWN) * (mean - known)
                usual += reads * max(_TOLERANCE * known, _NEVER_SLOW)
                took += self._seconds[kind]
            self._reads[kind], self._seconds[kind] = 0, 0.0
        return min(1.0, usual / took) if took else 1.0
