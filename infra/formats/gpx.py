"""GPX 1.0 and 1.1 tracks, with the extensions of Garmin, Cluetrust, Strava, Suunto and others."""

from typing import Final

from lxml import etree

from domain.measures import Sport
from domain.recordings.recording import Column, EmptyRecording, Format, Recording
from infra.formats.table import Points, moment, sport_named
from infra.formats.xml_stream import Elements, local, number, text_of

# local names of the elements that the extensions put values in, whatever namespace or nesting they use
_EXTENSIONS: Final = {
    "hr": Column.HEART_RATE,
    "heartrate": Column.HEART_RATE,
    "cad": Column.CADENCE,
    "cadence": Column.CADENCE,
    "runcadence": Column.CADENCE,
    "atemp": Column.TEMPERATURE,
    "temp": Column.TEMPERATURE,
    "power": Column.POWER,
    "powerinwatts": Column.POWER,
    "watts": Column.POWER,
    "distance": Column.DISTANCE,
    "speed": Column.SPEED,
}


def parse_gpx(data: bytes) -> Recording:
    """All tracks of the file as one session, a break wherever a segment begins."""
    elements, points = Elements(data), Points()
    title, sport, creator = None, Sport.OTHER, None
    others = 0
    for name, element in elements.ended("trkpt", "trkseg", "trk", "rtept", "wpt", "name", "type", "metadata"):
        match name:
            case "trkpt":
                points.add(moment(text_of(element, "time")), _values(element))
            case "trkseg":
                points.begin_segment()
            case "rtept" | "wpt":
                others += 1
            case "name" if _parent(element) == "trk":
                title = title or (element.text or "").strip() or None
            case "type" if _parent(element) == "trk":
                sport = sport_named(element.text) if sport is Sport.OTHER else sport
        creator = creator or _creator(element)
    if not points.times:
        found = f" It has {others} waypoints or route points, which are no recording." if others else ""
        broken = " It breaks off before the first one." if elements.broken else ""
        raise EmptyRecording(f"The GPX file holds no track point.{broken}{found} Send a recorded track.")
    if sport is Sport.OTHER and title:
        sport = sport_named(title.split()[0])  # Runkeeper's way: "Running 10/2/17 7:49 am"
    warnings = points.warnings()
    if elements.broken:
        warnings.append("truncated: the XML ends early or is damaged; the points before that were kept")
    return Recording(
        format=Format.GPX,
        sessions=(points.session(sport, title=title[:200] if title else None),),
        device_name=creator,
        warnings=tuple(warnings),
    )


def _values(point: etree._Element) -> dict[Column, float]:
    values = {Column.LAT: number(point.get("lat")), Column.LON: number(point.get("lon"))}
    for element in point.iterdescendants():
        name = local(element).lower()
        if name == "ele":
            values[Column.ALTITUDE] = number(element.text)
        elif (column := _EXTENSIONS.get(name)) is not None and column not in values:
            values[column] = number(element.text)
    return values


def _parent(element: etree._Element) -> str:
    parent = element.getparent()
    return "" if parent is None else local(parent)


def _creator(element: etree._Element) -> str | None:
    root = element.getroottree().getroot()
    return (root.get("creator") or "").strip()[:80] or None
