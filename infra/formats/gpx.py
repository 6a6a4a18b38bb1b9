"""GPX 1.0 and 1.1 tracks, with the extensions of Garmin, Cluetrust, Strava, Suunto and others."""

from typing import Final

from lxml import etree

from domain.measures import Sport
from domain.recordings.recording import Column, EmptyRecording, Format, Recording
from infra.formats.table import Points, sport_named
from infra.formats.xml_stream import Elements, local, number, parent_of, text_of

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
    """All tracks of the file as one session, a break wherever a segment begins. Routes and waypoints do not count.

    Cadence on foot is in steps of both feet a minute: the extensions count one foot's.
    """
    elements, points = Elements(data), Points()
    title, sport, others = None, Sport.OTHER, 0
    for name, element in elements.ended("trkpt", "trkseg", "trk", "rtept", "wpt", kept=frozenset({"name", "type"})):
        match name:
            case "trkpt":
                points.add(text_of(element, "time"), _values(element))
            case "trkseg":
                points.begin_segment()
            case "rtept" | "wpt":
                others += 1
            case "name" if parent_of(element) == "trk":
                title = title or (element.text or "").strip() or None
            case "type" if parent_of(element) == "trk":
                sport = sport_named(element.text) if sport is Sport.OTHER else sport
    if not len(points):
        raise EmptyRecording(_nothing(others, broken=elements.broken))
    if sport is Sport.OTHER and title:
        sport = sport_named(title.split()[0])  # Runkeeper's way: "Running 10/2/17 7:49 am"
    warnings = points.warnings()
    if elements.broken:
        warnings.append("truncated: the XML ends early or is damaged; the points before that were kept")
    creator = "" if elements.root is None else elements.root.get("creator", "")
    return Recording(
        format=Format.GPX,
        sessions=(points.session(sport, title=title[:200] if title else None),),
        device_name=creator.strip()[:80] or None,
        warnings=tuple(warnings),
    )


def _nothing(others: int, *, broken: bool) -> str:
    found = f" It has {others} waypoints or route points, which are no recording." if others else ""
    early = " It breaks off before the first one." if broken else ""
    return f"The GPX file holds no track point.{early}{found} Send a recorded track."


def _values(point: etree._Element) -> dict[Column, float]:
    values = {Column.LAT: number(point.get("lat")), Column.LON: number(point.get("lon"))}
    for element in point.iterdescendants():
        name = local(element).lower()
        if name == "ele":
            values[Column.ALTITUDE] = number(element.text)
        elif (column := _EXTENSIONS.get(name)) is not None and column not in values:
            values[column] = number(element.text)
    return values
