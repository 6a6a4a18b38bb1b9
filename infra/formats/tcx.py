"""Training Center XML: a session for each activity, its laps with the device's totals, and its track points."""

from datetime import datetime
from typing import Final

from lxml import etree

from domain.measures import Metres, Seconds, Sport
from domain.recordings.recording import Column, DeviceTotals, EmptyRecording, Format, Lap, Recording, Session
from infra.formats.table import Points, moment, sport_named
from infra.formats.xml_stream import Elements, local, number, parent_of, text_of

_VALUES: Final = {
    "AltitudeMeters": Column.ALTITUDE,
    "DistanceMeters": Column.DISTANCE,
    "Cadence": Column.CADENCE,
    "RunCadence": Column.CADENCE,
    "LatitudeDegrees": Column.LAT,
    "LongitudeDegrees": Column.LON,
    "Speed": Column.SPEED,
    "Watts": Column.POWER,
}


_LAP_VALUES: Final = ("TotalTimeSeconds", "DistanceMeters", "Calories")


class _Activity:
    """What was read of one activity, up to now."""

    def __init__(self) -> None:
        self.points = Points()
        self.started_at: datetime | None = None
        self._laps: list[Lap] = []
        self._calories: list[float] = []
        self._lap: dict[str, float] = {}  # totals of the lap that is being read

    def add_total(self, name: str, text: str | None) -> None:
        """A total of the lap that is being read."""
        if (value := number(text)) >= 0:
            self._lap[name] = value

    def end_lap(self, started_at: datetime | None) -> None:
        """The lap's totals are complete."""
        elapsed, distance, calories = (self._lap.get(name) for name in _LAP_VALUES)
        self._laps.append(
            Lap(
                started_at,
                None if elapsed is None else Seconds(elapsed),
                None if distance is None else Metres(distance),
            )
        )
        self._calories += [] if calories is None else [calories]
        self._lap = {}

    def session(self, sport: Sport) -> Session:
        """The session, whose device totals are the sums over its laps."""
        distances = [lap.distance_m for lap in self._laps if lap.distance_m is not None]
        timers = [lap.elapsed_s for lap in self._laps if lap.elapsed_s is not None]
        device = DeviceTotals(
            distance_m=Metres(sum(distances)) if distances else None,
            timer_s=Seconds(sum(timers)) if timers else None,
            calories_kcal=sum(self._calories) if self._calories else None,
        )
        return self.points.session(sport, device=device, laps=tuple(self._laps), started_at=self.started_at)


def parse_tcx(data: bytes) -> Recording:
    """The activities of the file. A break wherever a track begins, also within a lap (a pause).

    Cadence on foot is in steps of both feet a minute: TCX counts one foot's.
    """
    elements, current = Elements(data), _Activity()
    sessions, device, warnings = [], None, list[str]()
    freed, kept = ("Trackpoint", "Track", "Lap", "Activity", "Creator"), frozenset({"Id", *_LAP_VALUES})
    for name, element in elements.ended(*freed, kept=kept):
        match name:
            case "Trackpoint":
                current.points.add(text_of(element, "Time"), _values(element))
            case "Track":
                current.points.begin_segment()
            case "Lap":
                current.end_lap(moment(element.get("StartTime")))
            case "Creator":
                device = device or text_of(element, "Name")
            case "Activity":
                warnings += [warning for warning in current.points.warnings() if warning not in warnings]
                sessions.append(current.session(sport_named(element.get("Sport"))))
                current = _Activity()
            case "Id" if parent_of(element) == "Activity":
                current.started_at = moment(element.text)
            case _ if parent_of(element) == "Lap":
                current.add_total(name, element.text)
    if elements.broken:
        warnings.append("truncated: the XML ends early or is damaged; what comes before was kept")
        if len(current.points):
            sessions.append(current.session(_open_sport(elements)))
    kept_sessions = tuple(session for session in sessions if len(session) or session.device.distance_m)
    if not kept_sessions:
        raise EmptyRecording("The TCX file holds no track point and no lap with a distance: send a recorded activity.")
    return Recording(Format.TCX, kept_sessions, device_name=device, warnings=tuple(warnings))


def _open_sport(elements: Elements) -> Sport:
    """The sport of the activity in which the file breaks off: the last one begun."""
    begun = [] if elements.root is None else [el for el in elements.root.iter() if local(el) == "Activity"]
    return sport_named(begun[-1].get("Sport")) if begun else Sport.OTHER


def _values(point: etree._Element) -> dict[Column, float]:
    values: dict[Column, float] = {}
    for element in point.iterdescendants():
        name = local(element)
        if name == "HeartRateBpm":
            values[Column.HEART_RATE] = number(text_of(element, "Value"))
        elif (column := _VALUES.get(name)) is not None:
            values[column] = number(element.text)
    return values
