"""GPX 1.0 and 1.1 tracks, with the extensions of Garmin, Cluetrust, Strava, Suunto and others."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from domain.measures import Sport
from domain.recordings.recording import Column, EmptyRecording, Format, Recording
from infra.formats.alike import AlikePoints
from infra.formats.outings import Part, outings
from infra.formats.sports import sport_named
from infra.formats.table import Points, Row, moment
from infra.formats.xml_stream import Closed, Opened, read_xml

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
_INCREMENT: Final = "opentracks:distance"  # since the point before; it stands before Cluetrust's sum
_MOST_TRACKS: Final = 1_000  # a broken file has one for each point


class _File:
    """What was read of the file, up to now."""

    def __init__(self) -> None:
        self.points = Points()
        self.creator = ""
        self.parts = [Part(0, 0)]  # the tracks; the first one is of what stands in none
        self.written_at: datetime | None = None
        self.others = 0  # waypoints and points of routes
        self._row: Row = {}  # of the point that is being read

    def opened(self) -> Mapping[str, Opened]:
        """What takes elements that begin."""
        return {"gpx": self.begin, "trk": self.begin_track, "trkpt": self.begin_point}

    def closed(self) -> Mapping[str, Closed]:
        """What takes elements that end."""
        found: dict[str, Closed] = {name: self.extension(column) for name, column in _EXTENSIONS.items()}
        found[_INCREMENT] = self.ignored
        found |= {"trkpt": self.end_point, "trkseg": self.end_segment, "time": self.time, "ele": self.height}
        found["activity"] = self.activity
        return found | {"name": self.name, "type": self.kind, "rtept": self.other, "wpt": self.other}

    def begin(self, attributes: Mapping[str, str]) -> None:
        """The document's element."""
        self.creator = attributes.get("creator", "")

    def begin_track(self, _attributes: Mapping[str, str]) -> None:
        """It may be an activity of its own; beyond the thousandth it is none."""
        self.end_track()
        self.points.begin_segment()
        if len(self.parts) < _MOST_TRACKS:
            self.parts.append(Part(len(self.points), len(self.points)))

    def end_track(self) -> None:
        """All points up to here are the last track's."""
        self.parts[-1].end = len(self.points)

    def begin_point(self, attributes: Mapping[str, str]) -> None:
        """Its position."""
        self._row = {Column.LAT: attributes.get("lat", ""), Column.LON: attributes.get("lon", "")}

    def end_point(self, _text: str, _parent: str) -> None:
        """All of it is known."""
        self.points.add(self._row)
        self._row = {}

    def end_segment(self, _text: str, _parent: str) -> None:
        """The next point does not follow the last one."""
        self.points.begin_segment()

    def time(self, text: str, parent: str) -> None:
        """A point's own, not one of its extensions', or the file's."""
        if parent == "trkpt":
            self._row[Column.T] = text
        elif parent in {"metadata", "gpx"}:  # as in version 1.1, and 1.0
            self.written_at = moment(text.strip())

    def height(self, text: str, _parent: str) -> None:
        """Of the point, in metres."""
        self._row[Column.ALTITUDE] = text

    def extension(self, column: Column) -> Closed:
        """What takes this column's value: of several the first counts."""

        def take(text: str, _parent: str) -> None:
            self._row.setdefault(column, text)

        return take

    def ignored(self, _text: str, _parent: str) -> None:
        """What only looks like a value."""

    def name(self, text: str, parent: str) -> None:
        """A track's."""
        if parent == "trk":
            self.parts[-1].title = self.parts[-1].title or text.strip() or None

    def kind(self, text: str, parent: str) -> None:
        """A track's sport."""
        if parent == "trk":
            self.parts[-1].sport = self.parts[-1].sport or sport_named(text)

    def activity(self, text: str, parent: str) -> None:
        """A track's sport, or before the first one that of all, by OsmAnd's extension."""
        part = self.parts[-1]
        if parent == "extensions" and part.sport in {None, Sport.OTHER}:
            part.sport = sport_named(text)

    def other(self, _text: str, _parent: str) -> None:
        """What is no recording."""
        self.others += 1


def parse_gpx(data: bytes) -> Recording:
    """The tracks of the file as a session for each outing, a break wherever a segment begins. Routes and waypoints do
    not count.

    Where no point has a time, the file's is when it began.
    Cadence on foot is in steps of both feet a minute: the extensions count one foot's.
    """
    file, whole = read_xml(data, _File, lambda file: AlikePoints("trkpt", _row_of, file.points))
    points = file.points
    if not len(points):
        raise EmptyRecording(_nothing(file.others, broken=not whole))
    file.end_track()
    session = points.session(Sport.OTHER, started_at=file.written_at)
    warnings = points.warnings()
    if not whole:
        warnings.append("truncated: the XML ends early or is damaged; the points before that were kept")
    return Recording(
        format=Format.GPX,
        sessions=outings(session, file.parts, file.written_at),
        device_name=file.creator.strip()[:80] or None,
        utc_offset_s=points.utc_offset_s,
        warnings=tuple(warnings),
    )


def _row_of(point: bytes) -> Row | None:
    file, whole = read_xml(point, _File)
    return file.points.last if whole else None


def _nothing(others: int, *, broken: bool) -> str:
    found = f" It has {others} waypoints or route points, which are no recording." if others else ""
    early = " It breaks off before the first one." if broken else ""
    return f"The GPX file holds no track point.{early}{found} Send a recorded track."
