"""Refusals a few at a time: saying no costs a tenth of saying yes, and thousands of noes would fill the event loop."""

import asyncio
from collections import deque
from typing import Final

A_TURN: Final = 8


class Pace:
    """So many may go on in each turn of the loop; what was let in has the rest of every turn.

    Who waits here keeps its connection busy, so that its next request waits with its client.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._releasing = False

    async def turn(self) -> None:
        """Wait until it is one's turn."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self._waiting.append(mine)
        if not self._releasing:
            self._releasing = True
            loop.call_soon(self._release)
        await mine

    def _release(self) -> None:
        for _ in range(min(A_TURN, len(self._waiting))):
            one = self._waiting.popleft()
            if not one.done():  # its client may be gone
                one.set_result(None)
        self._releasing = bool(self._waiting)
        if self._releasing:
            asyncio.get_running_loop().call_soon(self._release)
