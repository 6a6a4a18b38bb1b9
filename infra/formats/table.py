"""Points collected one by one into columns, with what every text format must check."""

from array import array
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import numpy as np

from domain.measures import Sport
from domain.recordings.recording import DECIMALS, Column, DeviceTotals, FloatColumn, Lap, Session, UnreadableRecording

MAX_POINTS: Final = 1_000_000  # eleven days at one a second
YEARS: Final = range(1970, 2200)  # of times that a device can have meant

_MEASURED: Final = tuple(name for name in Column if name is not Column.T)
_NAN: Final = float("nan")
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
    Sport.TRANSITION: ("transition",),  # our own word for it, as an export has it
    Sport.FITNESS: ("fitness",),
}
_SPORTS: Final = {name: sport for sport, names in _NAMES.items() for name in names}


def sport_named(name: str | None) -> Sport:
    """The sport behind a file's word (or Strava's number) for it."""
    return _SPORTS.get((name or "").strip().lower(), Sport.OTHER)


def moment(text: str | None) -> datetime | None:
    """A time in ISO 8601, as UTC; a time without a zone is taken as UTC. None for what is no believable time."""
    try:
        found = datetime.fromisoformat(text or "")
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if found.year in YEARS else None


class Points:
    """The points of one session, as rows of numbers: a million take 80 MB."""

    def __init__(self) -> None:
        self._times = array("d")  # Unix time, NaN where there is none
        self._rows = array("d")
        self._breaks: list[int] = []
        self._begin: datetime | None = None
        self._misplaced = 0  # positions that are nowhere on Earth
        self._zoneless = 0  # times without a zone

    def __len__(self) -> int:
        return len(self._times)

    def add(self, time: str | None, values: Mapping[Column, float]) -> None:
        """One point more; `UnreadableRecording` when there are too many."""
        if len(self._times) >= MAX_POINTS:
            raise UnreadableRecording(f"The file has more than {MAX_POINTS:,} points: split it.")
        if abs(values.get(Column.LAT, 0.0)) > 90 or abs(values.get(Column.LON, 0.0)) > 180:
            values = {**values, Column.LAT: _NAN, Column.LON: _NAN}
            self._misplaced += 1
        at = moment(time)
        if at is not None:
            self._begin = self._begin or at
            self._zoneless += _is_zoneless(time or "")
        self._times.append(_NAN if at is None else at.timestamp())
        self._rows.extend([values.get(name, _NAN) for name in _MEASURED])

    def begin_segment(self) -> None:
        """The next point does not follow the last one."""
        if len(self) and self._breaks[-1:] != [len(self)]:
            self._breaks.append(len(self))

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
        table = np.array(self._rows, np.float64).reshape(-1, len(_MEASURED)).T
        columns: dict[Column, FloatColumn] = {
            name: np.round(values, DECIMALS[name]) for name, values in zip(_MEASURED, table, strict=True)
        }
        if sport in _ON_FOOT:
            columns[Column.CADENCE] *= 2
        if self._begin is not None:
            columns[Column.T] = np.round(np.array(self._times) - self._begin.timestamp(), DECIMALS[Column.T])
        return Session(
            sport=sport,
            started_at=self._begin or started_at,
            columns={name: column for name, column in columns.items() if not np.isnan(column).all()},
            device=device or DeviceTotals(),
            laps=laps,
            title=title,
            breaks=tuple(at for at in self._breaks if at < len(self)),
        )

    def warnings(self) -> list[str]:
        """What had to be left out or guessed."""
        found = []
        if self._misplaced:
            found.append(f"misplaced: {self._misplaced} positions outside of -90..90, -180..180 were left out")
        if self._zoneless:
            found.append("no-zone: the times name no zone and were taken as UTC")
        return found


def _is_zoneless(time: str) -> bool:
    clock = time.strip()[10:]  # after the date
    return not (clock.endswith(("Z", "z")) or "+" in clock or "-" in clock)
