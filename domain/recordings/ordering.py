"""Points in the order in which they were recorded, each once: some programs write a track backwards, or repeat it."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain.recordings.recording import Column, FloatColumn, Session, from_first_time

_NEARLY_ALL: Final = 0.9  # of the steps in time: what goes back so often was written backwards


def in_order(session: Session) -> Session:
    """The session with its points turned round when they go back in time, and without those that came before.

    A point came before when one has its time and its place already, and the time went back in between.
    """
    if _falls(session)[1:].any():
        session = _without_repeats(_forwards(session))
    return session


def is_backwards(t: FloatColumn) -> bool:
    """Whether these times go back in nearly all steps that take any."""
    steps = np.diff(t[~np.isnan(t)])
    return bool(np.count_nonzero(steps < 0) > _NEARLY_ALL * np.count_nonzero(steps))


def _falls(session: Session) -> NDArray[np.bool_]:
    """Which points have a time before that of the last one that has any."""
    t = session.columns.get(Column.T, np.empty(0))
    known = np.flatnonzero(~np.isnan(t))
    falls = np.zeros(len(t), np.bool_)
    falls[known[1:]] = np.diff(t[known]) < 0
    return falls


def _forwards(session: Session) -> Session:
    if not is_backwards(session.columns[Column.T]):
        return session
    columns = {name: column[::-1] for name, column in session.columns.items()}
    breaks = tuple(len(session) - at for at in reversed(session.breaks))
    return from_first_time(replace(session, columns=columns, breaks=breaks))


def _without_repeats(session: Session) -> Session:
    if not session.columns.keys() >= {Column.LAT, Column.LON}:
        return session
    t, lat, lon = (session.columns[name] for name in (Column.T, Column.LAT, Column.LON))
    placed = np.flatnonzero(~np.isnan(t + lat + lon))
    order = placed[np.lexsort((lon[placed], lat[placed], t[placed]))]  # of equal ones, as they were written
    if len(order) == 0:
        return session
    alike = np.logical_and.reduce([np.diff(column[order], prepend=np.nan) == 0 for column in (t, lat, lon)])
    first = order[np.maximum.accumulate(np.where(alike, 0, np.arange(len(order))))]
    went_back = np.cumsum(_falls(session))
    again = order[went_back[order] > went_back[first]]
    if len(again) == 0:
        return session
    kept = np.ones(len(session), np.bool_)
    kept[again] = False
    left = np.cumsum(kept)
    breaks = dict.fromkeys(int(left[at - 1]) for at in session.breaks if 0 < left[at - 1] < left[-1])
    columns = {name: column[kept] for name, column in session.columns.items()}
    return replace(session, columns=columns, breaks=tuple(breaks))
