"""How late the event loop comes: a timer that beats while there is something to do."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

_SECONDS: Final = 0.05
_IDLE_BEATS: Final = 20


class Pulse:
    """Calls `beat` with how many seconds it came late. Stops by itself once `idle` was true for a second."""

    def __init__(self, beat: Callable[[float], None], idle: Callable[[], bool]) -> None:
        self._beat = beat
        self._idle = idle
        self._idle_beats = 0
        self._due = 0.0
        self.running = False

    def start(self) -> None:
        """Begin, in the running event loop."""
        self.running = True
        self._idle_beats = 0
        self._again()

    def _again(self) -> None:
        self._due = time.monotonic() + _SECONDS
        asyncio.get_running_loop().call_later(_SECONDS, self._run)

    def _run(self) -> None:
        self._idle_beats = self._idle_beats + 1 if self._idle() else 0
        self._beat(max(0.0, time.monotonic() - self._due))
        if self._idle_beats < _IDLE_BEATS:
            self._again()
        else:
            self.running = False
