"""Values that no sensor can have measured are left out, before anything is made of them. The file keeps them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from domain.recordings.recording import Column, DeviceTotals, FloatColumn, Lap, Recording, Session, from_first_time

BELIEVABLE: Final[Mapping[Column, tuple[float, float]]] = {
    Column.ALTITUDE: (-500.0, 9_000.0),  # from the Dead Sea's shore to Everest
    Column.HEART_RATE: (0.0, 250.0),  # 0: no contact; above, sensors count twice
    Column.CADENCE: (0.0, 300.0),  # five steps a second: sprinters' (Mero, Komi and Gregor 1992)
    Column.POWER: (0.0, 4_000.0),  # sprinters on the track reach 2,500
    Column.SPEED: (0.0, 150.0),  # speed skiing: 70
    Column.TEMPERATURE: (-90.0, 90.0),  # the coldest air measured (WMO, Vostok 1983), and a black watch in the sun
}
_MOST_M: Final = 10_000_000.0  # a quarter of the Earth's circumference
_MOST_S: Final = 366 * 86_400.0
CLOCK_JUMP_S: Final = 86_400.0  # a step longer than a day is the clock's, not the runner's
_UNSET_POINTS: Final = 60  # our choice: a minute of one a second, for a receiver knows the time before the place
_UNSET_SHARE: Final = 0.1  # of the points: more are a day of their own


def believed(recording: Recording) -> Recording:
    """The recording without such values, and with a warning for each kind of them."""
    left_out: Counter[str] = Counter()
    sessions = tuple(_believed(session, left_out) for session in recording.sessions)
    if not left_out:
        return recording
    told = tuple(f"{what}: {count} {_WORDS[what]}" for what, count in left_out.items() if what in _WORDS)
    ranges = tuple(
        f"out-of-range: {left_out[name]} values of {name} outside of {low:g}..{high:g} were left out"
        for name, (low, high) in BELIEVABLE.items()
        if left_out[name]
    )
    return replace(recording, sessions=sessions, warnings=(*recording.warnings, *told, *ranges))


_WORDS: Final = {
    "clock-jump": "first points were over a day away, before the clock was set: they lead up to the others",
    "no-fix": "positions at 0, 0 were left out: the device did not know yet where it was",
    "device-totals": "sessions have totals of the device that cannot be, which were left out",
}


def _believed(session: Session, left_out: Counter[str]) -> Session:
    columns = dict(session.columns)
    for name in BELIEVABLE.keys() & columns.keys():
        low, high = BELIEVABLE[name]
        _leave_out(columns, (name,), (columns[name] < low) | (columns[name] > high), name, left_out)
    if Column.LAT in columns and Column.LON in columns:
        nowhere = (columns[Column.LAT] == 0) & (columns[Column.LON] == 0)
        _leave_out(columns, (Column.LAT, Column.LON), nowhere, "no-fix", left_out)
    device = session.device
    if (device.distance_m or 0) > _MOST_M or max(device.elapsed_s or 0, device.timer_s or 0) > _MOST_S:
        device = DeviceTotals()
        left_out["device-totals"] += 1
    return _begun(replace(session, columns=columns, device=device), left_out)


def _begun(session: Session, left_out: Counter[str]) -> Session:
    """The session begun when the most of it was: a few first points from before the clock was set, or that a phone had
    kept from another day, are moved by the whole jump, so that the last of them has the time of the first after it.
    """
    t = session.columns.get(Column.T, np.empty(0))
    known = np.flatnonzero(~np.isnan(t))
    steps = np.diff(t[known])
    jumps = np.flatnonzero(np.abs(steps[: min(_UNSET_POINTS, int(_UNSET_SHARE * len(known)))]) > CLOCK_JUMP_S)
    if len(jumps) == 0 or session.started_at is None:
        return session
    left_out["clock-jump"] += int(jumps[-1]) + 1
    moved = t.copy()
    for jump in jumps:
        moved[known[: jump + 1]] += steps[jump]
    began, shift = session.started_at, timedelta(seconds=float(moved[known[0]]))
    laps = tuple(_moved(lap, began, shift) for lap in session.laps)
    return from_first_time(replace(session, columns={**session.columns, Column.T: moved}, laps=laps))


def _moved(lap: Lap, began: datetime, shift: timedelta) -> Lap:
    """A lap of the day that was none goes along."""
    at = lap.started_at
    if at is None or abs(at - began) > abs(at - began - shift):
        return lap
    return replace(lap, started_at=at + shift)


def _leave_out(
    columns: dict[Column, FloatColumn],
    names: tuple[Column, ...],
    wrong: np.ndarray[tuple[int], np.dtype[np.bool_]],
    what: str,
    left_out: Counter[str],
) -> None:
    count = int(wrong.sum())
    if not count:
        return
    left_out[what] += count
    for name in names:
        kept = np.where(wrong, np.nan, columns.pop(name))
        if not np.isnan(kept).all():
            columns[name] = kept
