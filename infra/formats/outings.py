"""The tracks of one file, told apart: parts of one outing, or activities of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np

from domain.measures import Sport
from domain.recordings.cleaning import step_lengths
from domain.recordings.ordering import is_backwards
from domain.recordings.recording import Column, Session, UnreadableRecording, from_first_time
from infra.formats.sports import letters_of, sport_named

# Our choice, after OsmAnd, which begins another track after a gap of two hours: most meals are shorter. Who was driven
# on runs again sooner; what only stopped goes on where it did.
_APART_S: Final = 7_200.0
_AWAY_S, _AWAY_M = 1_800.0, 1_000.0
_LEAST_POINTS: Final = 2  # of an outing, where there are others
_NOWHERE_S, _NOWHERE_M = 60.0, 50.0  # our choice: begun by mistake, or a receiver's first points from another day
_MOST_OUTINGS: Final = 100
_LONGEST_TITLE: Final = 200


@dataclass(slots=True)
class Part:
    """One track: its first point and the one after its last, and what it says of itself."""

    begin: int
    end: int
    sport: Sport | None = None
    title: str | None = None


class _End(NamedTuple):
    """The first or the last point of a track; NaN is what no point tells."""

    t: float
    lat: float
    lon: float


class _Track(NamedTuple):
    """A part with its ends, in the order of time."""

    part: Part
    first: _End
    last: _End


def outings(session: Session, parts: Sequence[Part], written_at: datetime | None) -> tuple[Session, ...]:
    """The points of all tracks as a session for each outing, in the order of time if every track has times.

    Another outing has another sport (`other` is none), or begins two hours after all before it, or half an hour after
    and a kilometre away; never while one goes on, which another device recorded too. What has one point, or went
    nowhere, is none where there are others. `UnreadableRecording` for over a hundred.
    """
    filled = [part for part in parts if part.end > part.begin]
    tracks = [_track(session, part) for part in filled]
    if len(tracks) > 1 and not any(np.isnan(track.first.t) for track in tracks):
        tracks = sorted(tracks, key=lambda track: track.first.t)
        session = _forwards(session, filled)
    found = _told_apart(tracks)
    several = [outing for outing in found if sum(part.end - part.begin for part in outing) >= _LEAST_POINTS]
    kept = [outing for outing in several if not _went_nowhere(session, outing)] or several or found[:1]
    if len(kept) > _MOST_OUTINGS:
        raise UnreadableRecording(f"The file has tracks of more than {_MOST_OUTINGS} activities: split it.")
    usual = _sport(parts, Sport.OTHER)
    if len(kept) == 1:
        return (_named(_joined(session, kept[0], written_at), parts, usual),)
    return tuple(_named(_joined(session, outing, written_at), outing, usual) for outing in kept)


def _track(session: Session, part: Part) -> _Track:
    columns = [
        session.columns.get(name, np.empty(0))[part.begin : part.end] for name in (Column.T, Column.LAT, Column.LON)
    ]
    known = [column[~np.isnan(column)] for column in columns]
    ends = [_End(*(float(column[at]) if len(column) else np.nan for column in known)) for at in (0, -1)]
    first, last = ends[::-1] if ends[1].t < ends[0].t else ends
    return _Track(part, first, last)


def _forwards(session: Session, parts: Sequence[Part]) -> Session:
    """The session with those of its tracks turned round that were written backwards."""
    t, order, breaks = session.columns[Column.T], np.arange(len(session)), np.array(session.breaks, np.int64)
    for part in parts:
        if is_backwards(t[part.begin : part.end]):
            order[part.begin : part.end] = order[part.begin : part.end][::-1].copy()
            inside = (breaks > part.begin) & (breaks < part.end)
            breaks[inside] = (part.begin + part.end - breaks[inside])[::-1]
    columns = {name: column[order] for name, column in session.columns.items()}
    return replace(session, columns=columns, breaks=tuple(breaks.tolist()))


def _told_apart(tracks: list[_Track]) -> list[list[Part]]:
    """The parts of each outing."""
    found: list[list[Part]] = []
    sport: Sport | None = None  # of the outing
    reached: _End | None = None  # where it ended
    for track in tracks:
        told = None if track.part.sport is Sport.OTHER else track.part.sport
        other = None not in (sport, told) and sport is not told
        if reached is None or (other and not track.first.t < reached.t) or _is_apart(reached, track.first):
            found.append([])
            sport, reached = None, track.last
        found[-1].append(track.part)
        sport = sport or told
        if not track.last.t < reached.t:
            reached = track.last
    return found


def _is_apart(reached: _End, begun: _End) -> bool:
    """Whether what begins there is no part of the outing; where nobody knows when, it is."""
    seconds = begun.t - reached.t
    if not seconds > _AWAY_S:
        return False
    metres = step_lengths(np.array([reached.lat, begun.lat]), np.array([reached.lon, begun.lon]))[0]
    return bool(seconds > _APART_S or metres > _AWAY_M)


def _went_nowhere(session: Session, outing: list[Part]) -> bool:
    """Whether it is short in time and in metres; where nobody knows the times, it is not."""
    t, lat, lon = (
        np.concatenate([session.columns.get(name, np.empty(0))[part.begin : part.end] for part in outing])
        for name in (Column.T, Column.LAT, Column.LON)
    )
    known, placed = t[~np.isnan(t)], ~np.isnan(lat + lon)
    if len(known) == 0 or np.ptp(known) >= _NOWHERE_S:
        return False
    return float(step_lengths(lat[placed], lon[placed]).sum()) < _NOWHERE_M


def _joined(session: Session, outing: list[Part], written_at: datetime | None) -> Session:
    """These parts of the session as one, a break where each begins."""
    if [(part.begin, part.end) for part in outing] == [(0, len(session))]:
        return session
    columns = {
        name: np.concatenate([column[part.begin : part.end] for part in outing])
        for name, column in session.columns.items()
    }
    breaks, length = list[int](), 0
    for part in outing:
        inside = (at for at in session.breaks if part.begin < at < part.end)
        breaks += [length + at - part.begin for at in (part.begin, *inside)]
        length += part.end - part.begin
    columns = {name: column for name, column in columns.items() if not np.isnan(column).all()}
    joined = replace(session, columns=columns, breaks=tuple(breaks[1:]))
    if Column.T in columns and session.started_at is not None:
        return from_first_time(joined)
    return replace(joined, started_at=written_at)


def _named(session: Session, parts: Sequence[Part], usual: Sport) -> Session:
    """With the title of the first track that has one, and the sport; else the usual one, or by the title."""
    title = next((part.title for part in parts if part.title), None)
    sport = _sport(parts, usual)
    if sport is Sport.OTHER and title:
        first = title.split()[0]  # Runkeeper's way: "Running 10/2/17 7:49 am", not "10 km": Strava's numbers are types
        sport = (letters_of(first) and sport_named(first)) or Sport.OTHER
    return replace(session, sport=sport, title=title[:_LONGEST_TITLE] if title else None)


def _sport(parts: Sequence[Part], usual: Sport) -> Sport:
    """The first that a track names, best one that is not `other`; the usual one where none does."""
    named = [part.sport for part in parts if part.sport]
    return next((sport for sport in named if sport is not Sport.OTHER), named[0] if named else usual)
