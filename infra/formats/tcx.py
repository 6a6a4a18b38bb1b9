"""Training Center XML: a session for each activity, its laps with the device's totals, and its track points."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from lxml import etree

from domain.measures import Metres, Seconds, Sport
from domain.recordings.recording import Column, DeviceTotals, EmptyRecording, Format, Lap, Recording, Session
from infra.formats.table import Points, moment, sport_named
from infra.formats.xml_stream import Elements, local, number, text_of

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


@dataclass
class _Activity:
    points: Points = field(default_factory=Points)
    laps: list[Lap] = field(default_factory=list)
    calories: list[float] = field(default_factory=list)

    def session(self, sport: Sport, started_at: datetime | None) -> Session:
        """The session, whose device totals are the sums over its laps."""
        distances = [lap.distance_m for lap in self.laps if lap.distance_m is not None]
        timers = [lap.elapsed_s for lap in self.laps if lap.elapsed_s is not None]
        device = DeviceTotals(
            distance_m=Metres(sum(distances)) if distances else None,
            timer_s=Seconds(sum(timers)) if timers else None,
            calories_kcal=sum(self.calories) if self.calories else None,
        )
        return self.points.session(sport, device=device, laps=tuple(self.laps), started_at=started_at)


def parse_tcx(data: bytes) -> Recording:
    """The activities of the file. A break wherever a track begins, also within a lap (a pause)."""
    elements, current = Elements(data), _Activity()
    sessions, device, warnings = [], None, list[str]()
    names = ("Trackpoint", "Track", "Lap", "Activity", "Creator")
    for name, element in elements.ended(*names):
        match name:
            case "Trackpoint":
                current.points.add(moment(text_of(element, "Time")), _values(element))
            case "Track":
                current.points.begin_segment()
            case "Lap":
                current.laps.append(_lap(element))
                calories = number(text_of(element, "Calories"))
                current.calories += [calories] if calories == calories else []  # noqa: PLR0124 - NaN is unlike itself
            case "Creator":
                device = device or text_of(element, "Name")
            case "Activity":
                warnings += current.points.warnings()
                sessions.append(current.session(sport_named(element.get("Sport")), moment(text_of(element, "Id"))))
                current = _Activity()
    if elements.broken:
        warnings.append("truncated: the XML ends early or is damaged; what comes before was kept")
        if current.points.times:
            sessions.append(current.session(Sport.OTHER, None))
    kept = tuple(session for session in sessions if len(session) or session.device.distance_m)
    if not kept:
        raise EmptyRecording("The TCX file holds no track point and no lap with a distance: send a recorded activity.")
    return Recording(Format.TCX, kept, device_name=device, warnings=tuple(warnings))


def _values(point: etree._Element) -> dict[Column, float]:
    values: dict[Column, float] = {}
    for element in point.iterdescendants():
        name = local(element)
        if name == "HeartRateBpm":
            values[Column.HEART_RATE] = number(text_of(element, "Value"))
        elif (column := _VALUES.get(name)) is not None:
            values[column] = number(element.text)
    return values


def _lap(element: etree._Element) -> Lap:
    elapsed, distance = (number(text_of(element, name)) for name in ("TotalTimeSeconds", "DistanceMeters"))
    return Lap(
        started_at=moment(element.get("StartTime")),
        elapsed_s=Seconds(elapsed) if elapsed >= 0 else None,
        distance_m=Metres(distance) if distance >= 0 else None,
    )
