"""TCX: a session for each activity, its laps with the device's totals, and its track points."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from domain.measures import Metres, Seconds, Sport
from domain.recordings.recording import (
    Column,
    DeviceTotals,
    EmptyRecording,
    Format,
    Lap,
    Recording,
    Session,
    UnreadableRecording,
)
from infra.formats.alike import AlikePoints
from infra.formats.sports import sport_named
from infra.formats.table import MAX_LAPS, Points, Row, decimal, moment, written_offset
from infra.formats.xml_stream import Closed, Opened, read_xml

_VALUES: Final = {
    "AltitudeMeters": Column.ALTITUDE,
    "Cadence": Column.CADENCE,
    "RunCadence": Column.CADENCE,
    "LatitudeDegrees": Column.LAT,
    "LongitudeDegrees": Column.LON,
    "Speed": Column.SPEED,
    "Watts": Column.POWER,
}
_MAX_ACTIVITIES: Final = 100
_LAP_VALUES: Final = ("TotalTimeSeconds", "DistanceMeters", "Calories")


class _Activity:
    """What was read of one activity, up to now."""

    def __init__(self, sport: Sport = Sport.OTHER) -> None:
        self.points = Points()
        self.started_at: datetime | None = None
        self.offset_s: int | None = None  # that `started_at` is written with
        self._sport = sport
        self._laps: list[Lap] = []
        self._calories: list[float] = []
        self._lap: dict[str, float] = {}  # totals of the lap that is being read
        self._lap_began: datetime | None = None

    def begin_lap(self, started_at: datetime | None) -> None:
        """What follows are its totals."""
        self._lap, self._lap_began = {}, started_at

    def add_total(self, name: str, text: str) -> None:
        """A total of the lap that is being read."""
        if (value := decimal(text)) >= 0:
            self._lap[name] = value

    def end_lap(self) -> None:
        """The lap's totals are complete. The first thousand count: nobody marks more, but broken files hold more."""
        if len(self._laps) >= MAX_LAPS:
            return
        elapsed, distance, calories = (self._lap.get(name) for name in _LAP_VALUES)
        self._laps.append(
            Lap(
                self._lap_began,
                None if elapsed is None else Seconds(elapsed),
                None if distance is None else Metres(distance),
            )
        )
        self._calories += [] if calories is None else [calories]

    def session(self) -> Session:
        """The session, whose device totals are the sums over its laps."""
        distances = [lap.distance_m for lap in self._laps if lap.distance_m is not None]
        timers = [lap.elapsed_s for lap in self._laps if lap.elapsed_s is not None]
        device = DeviceTotals(
            distance_m=Metres(sum(distances)) if distances else None,
            timer_s=Seconds(sum(timers)) if timers else None,
            calories_kcal=sum(self._calories) if self._calories else None,
        )
        return self.points.session(self._sport, device=device, laps=tuple(self._laps), started_at=self.started_at)


class _File:
    """What was read of the file, up to now."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.device: str | None = None
        self.warnings: list[str] = []
        self.utc_offset_s: int | None = None  # of the first activity that tells one
        self.in_activity = False  # else in a course, which nobody ran
        self._activity = _Activity()
        self._row: Row = {}  # of the point that is being read

    def opened(self) -> Mapping[str, Opened]:
        """What takes elements that begin."""
        return {"Activity": self.begin_activity, "Lap": self.begin_lap, "Trackpoint": self.begin_point}

    def closed(self) -> Mapping[str, Closed]:
        """What takes elements that end."""
        found: dict[str, Closed] = {name: self.value(column) for name, column in _VALUES.items()}
        found |= {name: self.total(name) for name in ("TotalTimeSeconds", "Calories")}
        found |= {"DistanceMeters": self.distance, "Value": self.heart_rate, "Time": self.time, "Id": self.identity}
        found |= {"Trackpoint": self.end_point, "Track": self.end_track, "Lap": self.end_lap, "Name": self.name}
        return found | {"Activity": self.end_activity}

    @property
    def last(self) -> Row | None:
        """The point that was read last."""
        return self._activity.points.last

    def add(self, row: Row) -> None:
        """A point of the activity that is being read."""
        self._activity.points.add(row)

    def add_alike(self, columns: Sequence[Column], points: Sequence[Sequence[str]]) -> None:
        """Points of it that have values of the same columns."""
        self._activity.points.add_alike(columns, points)

    def begin_activity(self, attributes: Mapping[str, str]) -> None:
        """Its sport."""
        self._activity = _Activity(sport_named(attributes.get("Sport", "")) or Sport.OTHER)
        self.in_activity = True

    def begin_lap(self, attributes: Mapping[str, str]) -> None:
        """Its time."""
        self._activity.begin_lap(moment(attributes.get("StartTime")))

    def begin_point(self, _attributes: Mapping[str, str]) -> None:
        """Nothing is known of it."""
        self._row = {}

    def end_point(self, _text: str, _parent: str) -> None:
        """All of it is known."""
        self._activity.points.add(self._row)
        self._row = {}

    def end_track(self, _text: str, _parent: str) -> None:
        """The next point does not follow the last one."""
        self._activity.points.begin_segment()

    def end_lap(self, _text: str, _parent: str) -> None:
        """Its totals."""
        self._activity.end_lap()

    def end_activity(self, _text: str = "", _parent: str = "") -> None:
        """A session more, also where the file breaks off."""
        if len(self.sessions) >= _MAX_ACTIVITIES:
            raise UnreadableRecording(f"The file has more than {_MAX_ACTIVITIES} activities: split it.")
        self.warnings += [warning for warning in self._activity.points.warnings() if warning not in self.warnings]
        self.sessions.append(self._activity.session())
        self.utc_offset_s = self.utc_offset_s or self._activity.points.utc_offset_s or self._activity.offset_s
        self._activity = _Activity()
        self.in_activity = False

    def identity(self, text: str, parent: str) -> None:
        """An activity's, which is when it began."""
        if parent == "Activity":
            self._activity.started_at = moment(text.strip())
            self._activity.offset_s = written_offset(text.strip())

    def name(self, text: str, parent: str) -> None:
        """Of the device."""
        if parent == "Creator":
            self.device = self.device or text.strip() or None

    def time(self, text: str, parent: str) -> None:
        """Of a point."""
        if parent == "Trackpoint":
            self._row[Column.T] = text

    def heart_rate(self, text: str, parent: str) -> None:
        """Of a point; laps have mean and maximum, and extensions may have values of anything."""
        if parent == "HeartRateBpm":
            self._row[Column.HEART_RATE] = text

    def distance(self, text: str, parent: str) -> None:
        """Of a point, or of a lap."""
        if parent == "Lap":
            self._activity.add_total("DistanceMeters", text)
        else:
            self._row[Column.DISTANCE] = text

    def value(self, column: Column) -> Closed:
        """What takes this column's value."""

        def take(text: str, _parent: str) -> None:
            self._row[column] = text

        return take

    def total(self, name: str) -> Closed:
        """What takes this total of a lap."""

        def take(text: str, parent: str) -> None:
            if parent == "Lap":
                self._activity.add_total(name, text)

        return take


def _row_of(point: bytes) -> Row | None:
    file, whole = read_xml(point, _File)
    return file.last if whole else None


def parse_tcx(data: bytes) -> Recording:
    """The activities of the file. A break wherever a track begins, also within a lap (a pause).

    Cadence on foot is in steps of both feet a minute: TCX counts one foot's.
    """
    file, whole = read_xml(data, _File, lambda file: AlikePoints("Trackpoint", _row_of, file))
    if not whole and file.in_activity:
        file.end_activity()
    if not whole:
        file.warnings.append("truncated: the XML ends early or is damaged; what comes before was kept")
    kept = tuple(one for one in file.sessions if len(one) or one.device.distance_m or one.device.timer_s)
    if not kept:
        raise EmptyRecording("The TCX file holds no track point and no lap with a distance or time: send an activity.")
    return Recording(Format.TCX, kept, file.device, file.utc_offset_s, tuple(file.warnings))
