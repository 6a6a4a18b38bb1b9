import asyncio
from types import SimpleNamespace

import pytest

from api.admission.pulse import Pulse


async def test_each_beat_says_how_late_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    now, beats = 100.0, asyncio.Queue[float]()
    monkeypatch.setattr("api.admission.pulse.time", SimpleNamespace(monotonic=lambda: now))
    Pulse(beats.put_nowait, lambda: True).start()
    now += 0.05 + 0.2  # the loop is busy meanwhile
    assert await beats.get() == pytest.approx(0.2)


async def test_it_beats_while_there_is_something_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.admission.pulse._SECONDS", 0.0)
    idle, beats = iter([True, True, False] + [True] * 40), list[float]()
    pulse = Pulse(beats.append, lambda: next(idle))
    for expected in (3 + 20, 3 + 20 + 20):  # idle ones count in a row only, and anew each time
        pulse.start()
        while pulse.running:
            await asyncio.sleep(0)
        assert len(beats) == expected
