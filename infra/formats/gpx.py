"""GPX 1.0 and 1.1 tracks, with the extensions of Garmin, Cluetrust, Strava, Suunto and others."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from domain.measures import Sport
from domain.recordings.recording import Column, EmptyRecording, Format, Recording
from infra.formats.alike import AlikePoints
from infra.formats.sports import letters_of, sport_named
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


class _Track:
    """What was read of the file, up to now."""

    def __init__(self) -> None:
        self.points = Points()
        self.creator = ""
        self.title: str | None = None
        self.sport = Sport.OTHER
        self.written_at: datetime | None = None
        self.others = 0  # waypoints and points of routes
        self._row: Row = {}  # of the point that is being read

    def opened(self) -> Mapping[str, Opened]:
        """What takes elements that begin."""
        return {"gpx": self.begin, "trkpt": self.begin_point}

    def closed(self) -> Mapping[str, Closed]:
        """What takes elements that end."""
        found: dict[str, Closed] = {name: self.extension(column) for name, column in _EXTENSIONS.items()}
        found |= {"trkpt": self.end_point, "trkseg": self.end_segment, "time": self.time, "ele": self.height}
        found["activity"] = self.activity
        return found | {"name": self.name, "type": self.kind, "rtept": self.other, "wpt": self.other}

    def begin(self, attributes: Mapping[str, str]) -> None:
        """The document's element."""
        self.creator = attributes.get("creator", "")

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

    def name(self, text: str, parent: str) -> None:
        """The first track's that has one."""
        if parent == "trk":
            self.title = self.title or text.strip() or None

    def kind(self, text: str, parent: str) -> None:
        """The sport, of the first track that names one."""
        if parent == "trk" and self.sport is Sport.OTHER:
            self.sport = sport_named(text) or Sport.OTHER

    def activity(self, text: str, parent: str) -> None:
        """The sport, by OsmAnd's extension."""
        if parent == "extensions" and self.sport is Sport.OTHER:
            self.sport = sport_named(text) or Sport.OTHER

    def other(self, _text: str, _parent: str) -> None:
        """What is no recording."""
        self.others += 1


def parse_gpx(data: bytes) -> Recording:
    """All tracks of the file as one session, a break wherever a segment begins. Routes and waypoints do not count.

    Where no point has a time, the file's is when it began.
    Cadence on foot is in steps of both feet a minute: the extensions count one foot's.
    """
    track, whole = read_xml(data, _Track, lambda track: AlikePoints("trkpt", _row_of, track.points))
    points, title, sport = track.points, track.title, track.sport
    if not len(points):
        raise EmptyRecording(_nothing(track.others, broken=not whole))
    if sport is Sport.OTHER and title:
        first = title.split()[0]  # Runkeeper's way: "Running 10/2/17 7:49 am", not "10 km": Strava's numbers are types
        sport = (letters_of(first) and sport_named(first)) or Sport.OTHER
    session = points.session(sport, title=title[:200] if title else None, started_at=track.written_at)
    warnings = points.warnings()
    if not whole:
        warnings.append("truncated: the XML ends early or is damaged; the points before that were kept")
    return Recording(
        format=Format.GPX,
        sessions=(session,),
        device_name=track.creator.strip()[:80] or None,
        utc_offset_s=points.utc_offset_s,
        warnings=tuple(warnings),
    )


def _row_of(point: bytes) -> Row | None:
    track, whole = read_xml(point, _Track)
    return track.points.last if whole else None


def _nothing(others: int, *, broken: bool) -> str:
    found = f" It has {others} waypoints or route points, which are no recording." if others else ""
    early = " It breaks off before the first one." if broken else ""
    return f"The GPX file holds no track point.{early}{found} Send a recorded track."
