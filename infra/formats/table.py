"""Points collected one by one into columns, with what every text format must check."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from domain.measures import Sport
from domain.recordings.recording import DECIMALS, Column, DeviceTotals, FloatColumn, Lap, Session, UnreadableRecording

MAX_POINTS: Final = 1_000_000  # eleven days at one a second

_ON_FOOT: Final = (Sport.RUNNING, Sport.WALKING, Sport.HIKING)
_NAMES: Final = {
    Sport.RUNNING: ("running", "run", "jogging", "trail running", "trail_running", "treadmill running", "9"),
    Sport.WALKING: ("walking", "walk", "10"),
    Sport.HIKING: ("hiking", "hike", "trekking", "4"),
    Sport.CYCLING: ("cycling", "biking", "bike", "ride", "road_biking", "mountain biking", "virtualride", "1"),
    Sport.SWIMMING: ("swimming", "swim", "open_water_swimming"),
    Sport.ROWING: ("rowing", "row"),
    Sport.SKIING: ("skiing", "ski", "cross-country skiing", "nordicski", "7"),
    Sport.SKATING: ("skating", "inline skating", "ice skating"),
}
_SPORTS: Final = {name: sport for sport, names in _NAMES.items() for name in names}


def sport_named(name: str | None) -> Sport:
    """The sport behind a file's word (or Strava's number) for it."""
    return _SPORTS.get((name or "").strip().lower(), Sport.OTHER)


def moment(text: str | None) -> datetime | None:
    """A time in ISO 8601, as UTC; a time without a zone is taken as UTC. None for what is no time."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


@dataclass
class Points:
    """The points of one session."""

    times: list[datetime | None] = field(default_factory=list)
    values: list[Mapping[Column, float]] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    misplaced: int = 0  # positions that are nowhere on Earth

    def add(self, at: datetime | None, values: Mapping[Column, float]) -> None:
        """One point more; `UnreadableRecording` when there are too many."""
        if len(self.times) >= MAX_POINTS:
            raise UnreadableRecording(f"The file has more than {MAX_POINTS:,} points: split it.")
        if not (abs(values.get(Column.LAT, 0.0)) <= 90 and abs(values.get(Column.LON, 0.0)) <= 180):
            values = {name: value for name, value in values.items() if name not in (Column.LAT, Column.LON)}
            self.misplaced += 1
        self.times.append(at)
        self.values.append(values)

    def begin_segment(self) -> None:
        """The next point does not follow the last one."""
        if self.times and self.breaks[-1:] != [len(self.times)]:
            self.breaks.append(len(self.times))

    def session(
        self,
        sport: Sport,
        *,
        title: str | None = None,
        device: DeviceTotals | None = None,
        laps: tuple[Lap, ...] = (),
        started_at: datetime | None = None,
    ) -> Session:
        """The points as a session. Cadence on foot is in steps of both feet: files count one foot's."""
        begin = next((at for at in self.times if at is not None), None)
        columns: dict[Column, FloatColumn] = {name: self._column(name) for name in Column if name is not Column.T}
        if sport in _ON_FOOT:
            columns[Column.CADENCE] = columns[Column.CADENCE] * 2
        if begin is not None:
            columns[Column.T] = np.array(
                [np.nan if at is None else round((at - begin) / timedelta(seconds=1), 3) for at in self.times]
            )
        return Session(
            sport=sport,
            started_at=begin or started_at,
            columns={name: column for name, column in columns.items() if len(column) and not np.isnan(column).all()},
            device=device or DeviceTotals(),
            laps=laps,
            title=title,
            breaks=tuple(at for at in self.breaks if at < len(self.times)),
        )

    def _column(self, name: Column) -> FloatColumn:
        values = np.array([point.get(name, np.nan) for point in self.values], np.float64)
        return np.round(values, DECIMALS[name])

    def warnings(self) -> list[str]:
        """What had to be left out."""
        if not self.misplaced:
            return []
        return [f"misplaced: {self.misplaced} positions outside of -90..90, -180..180 were left out"]
