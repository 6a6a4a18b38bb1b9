"""GPX 1.1 from a session, with Garmin's TrackPointExtension for heart rate, cadence and temperature, and power as
Strava writes it.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from math import isnan
from typing import Final

import numpy as np
import numpy.typing as npt
from lxml import etree

from domain.measures import ON_FOOT
from domain.recordings.cleaning import clean
from domain.recordings.distance import gaps_of
from domain.recordings.exports import ExportNeedsPositions
from domain.recordings.recording import DECIMALS, Column, FloatColumn, Session
from domain.texts import of_characters

_GPX: Final = "http://www.topografix.com/GPX/1/1"
_TPX: Final = "http://www.garmin.com/xmlschemas/TrackPointExtension/v1"
_CARRIED: Final = (Column.ALTITUDE, Column.HEART_RATE, Column.CADENCE, Column.TEMPERATURE, Column.POWER)
_NEAR_S: Final = 10.0
_BLOCK: Final = 10_000  # points at a time: a million would take a gigabyte while they are strings
_END: Final = b"</trk>"  # where the points go: text is escaped, so there is one


def write_gpx(session: Session, total_m: float = 0.0, creator: str = "Cairn") -> bytes:
    """The points that have a position, a segment for each stretch between breaks; `ExportNeedsPositions`.

    `total_m` is how far the activity went, 0 when unknown: a long way that it leaves out is between two segments.

    Some devices write what a sensor says in records of their own, between those of positions. What no point has is
    taken from the nearest of these records, at most 10 s away.

    Values have the decimals that are kept, so that they come back as they were, though TrackPointExtension's schema
    has heart rate and cadence as whole numbers; mostly they are. Cadence on foot is one foot's.
    """
    lat, lon = (session.columns.get(name, np.empty(0)) for name in (Column.LAT, Column.LON))
    if len(lat) != len(lon) or np.isnan(lat + lon).all():
        raise ExportNeedsPositions
    breaks = sorted({*session.breaks, *gaps_of(session, clean(session), total_m)})
    session = _carried(session, ~np.isnan(lat + lon))
    head, _, tail = _document(session, creator).partition(_END)
    out = io.BytesIO()
    out.write(head)
    for begin, end in pairwise([0, *breaks, len(session)]):
        out.write(b"<trkseg>")
        for at in range(begin, end, _BLOCK):
            out.write("".join(_points(_part(session, at, min(at + _BLOCK, end)))).encode())
        out.write(b"</trkseg>")
    out.write(_END + tail)
    return out.getvalue()


def _carried(session: Session, placed: npt.NDArray[np.bool_]) -> Session:
    t = session.columns.get(Column.T)
    if t is None or placed.all():
        return session
    columns = dict(session.columns)
    at = np.flatnonzero(placed)
    for name in columns.keys() & set(_CARRIED):
        known = np.flatnonzero(~np.isnan(columns[name]))
        if len(known) and not placed[known].any():
            after = np.searchsorted(known, at).clip(max=len(known) - 1)
            pair = np.stack([known[(after - 1).clip(min=0)], known[after]])
            apart = np.abs(t[pair] - t[at])
            nearest = np.where(apart[0] <= apart[1], pair[0], pair[1])
            columns[name] = columns[name].copy()
            columns[name][at] = np.where(apart.min(axis=0) <= _NEAR_S, columns[name][nearest], np.nan)
    return replace(session, columns=columns)


def _part(session: Session, begin: int, end: int) -> Session:
    return replace(session, columns={name: column[begin:end] for name, column in session.columns.items()}, breaks=())


def _document(session: Session, creator: str) -> bytes:
    """All but the points. Only numbers are put into it as text: what a user wrote goes through the XML library."""
    namespaces: dict[str | None, str] = {None: _GPX, "gpxtpx": _TPX}
    root = etree.Element(f"{{{_GPX}}}gpx", nsmap=namespaces, version="1.1", creator=creator)  # type: ignore[arg-type]  # the stubs know no default namespace
    track = etree.SubElement(root, f"{{{_GPX}}}trk")
    if session.title:
        etree.SubElement(track, f"{{{_GPX}}}name").text = of_characters(session.title)
    etree.SubElement(track, f"{{{_GPX}}}type").text = session.sport
    document: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return document


def _points(session: Session) -> Iterator[str]:
    """An element for each point that has a position."""
    half = 0.5 if session.sport in ON_FOOT else 1.0
    tpx = [
        _tagged(session, "gpxtpx:atemp", Column.TEMPERATURE),
        _tagged(session, "gpxtpx:hr", Column.HEART_RATE),
        _tagged(session, "gpxtpx:cad", Column.CADENCE, half),
    ]
    columns = (_tagged(session, "ele", Column.ALTITUDE), _times(session), _tagged(session, "power", Column.POWER), *tpx)
    lat, lon = (session.columns[name].tolist() for name in (Column.LAT, Column.LON))
    for y, x, ele, time, power, *values in zip(lat, lon, *columns, strict=True):
        if isnan(y) or isnan(x):
            continue
        told = "".join(values)
        within = f"{power}<gpxtpx:TrackPointExtension>{told}</gpxtpx:TrackPointExtension>" if told else power
        extensions = f"<extensions>{within}</extensions>" if within else ""
        yield f'<trkpt lat="{y:.7f}" lon="{x:.7f}">{ele}{time}{extensions}</trkpt>'


def _tagged(session: Session, tag: str, name: Column, factor: float = 1.0) -> list[str]:
    """An element for each point, nothing where the point lacks the value."""
    values: FloatColumn | None = session.columns.get(name)
    if values is None:
        return [""] * len(session)
    decimals = DECIMALS[name] + (factor != 1.0)
    shown = np.round(values * factor, decimals).tolist()
    return ["" if isnan(value) else f"<{tag}>{_short(value)}</{tag}>" for value in shown]


def _short(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _times(session: Session) -> list[str]:
    seconds = session.columns.get(Column.T)
    if seconds is None or session.started_at is None:
        return [""] * len(session)
    begin = session.started_at
    return ["" if isnan(t) else f"<time>{_moment(begin + timedelta(seconds=t))}</time>" for t in seconds.tolist()]


def _moment(at: datetime) -> str:
    finest = "microseconds" if at.microsecond % 1000 else "milliseconds" if at.microsecond else "seconds"
    return at.isoformat(timespec=finest).replace("+00:00", "Z")
