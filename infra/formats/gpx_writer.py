"""GPX 1.1 from a session, with Garmin's TrackPointExtension for heart rate, cadence and temperature."""

import re
from datetime import timedelta
from typing import Final

import numpy as np
from lxml import etree

from domain.measures import Sport
from domain.recordings.recording import Column, Session

_GPX: Final = "http://www.topografix.com/GPX/1/1"
_TPX: Final = "http://www.garmin.com/xmlschemas/TrackPointExtension/v1"
_ON_FOOT: Final = (Sport.RUNNING, Sport.WALKING, Sport.HIKING)
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2
_EXTENSIONS: Final = (("atemp", Column.TEMPERATURE), ("hr", Column.HEART_RATE), ("cad", Column.CADENCE))


def write_gpx(session: Session, creator: str = "Cairn") -> bytes:
    """The points that have a position, a segment for each stretch between breaks. Cadence on foot is one foot's."""
    namespaces: dict[str | None, str] = {None: _GPX, "gpxtpx": _TPX}
    root = etree.Element(f"{{{_GPX}}}gpx", nsmap=namespaces, version="1.1", creator=creator)  # type: ignore[arg-type]  # the stubs know no default namespace
    track = etree.SubElement(root, f"{{{_GPX}}}trk")
    if session.title:
        etree.SubElement(track, f"{{{_GPX}}}name").text = _NOT_XML.sub("", session.title)
    etree.SubElement(track, f"{{{_GPX}}}type").text = session.sport
    missing = np.full(len(session), np.nan)
    lat, lon = (session.columns.get(name, missing) for name in (Column.LAT, Column.LON))
    segment, breaks = None, frozenset(session.breaks)
    for index in range(len(session)):
        if segment is None or index in breaks:
            segment = etree.SubElement(track, f"{{{_GPX}}}trkseg")
        if not np.isnan(lat[index]) and not np.isnan(lon[index]):
            _write_point(segment, session, index)
    document: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return document


def _write_point(segment: etree._Element, session: Session, index: int) -> None:
    def value(name: Column) -> float | None:
        found = session.columns[name][index] if name in session.columns else np.nan
        return None if np.isnan(found) else float(found)

    point = etree.SubElement(
        segment, f"{{{_GPX}}}trkpt", lat=f"{value(Column.LAT):.7f}", lon=f"{value(Column.LON):.7f}"
    )
    if (height := value(Column.ALTITUDE)) is not None:
        etree.SubElement(point, f"{{{_GPX}}}ele").text = f"{height:.1f}"
    if (seconds := value(Column.T)) is not None and session.started_at is not None:
        at = session.started_at + timedelta(seconds=seconds)
        text = at.isoformat(timespec="milliseconds" if at.microsecond else "seconds")
        etree.SubElement(point, f"{{{_GPX}}}time").text = text.replace("+00:00", "Z")
    told = [(name, found) for name, column in _EXTENSIONS if (found := value(column)) is not None]
    if not told:
        return
    extensions = etree.SubElement(point, f"{{{_GPX}}}extensions")
    values = etree.SubElement(extensions, f"{{{_TPX}}}TrackPointExtension")
    for name, found in told:
        shown = found / 2 if name == "cad" and session.sport in _ON_FOOT else found
        etree.SubElement(values, f"{{{_TPX}}}{name}").text = f"{shown:.0f}"
