"""Points collected one by one into columns, with what every text format must check."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from domain.measures import Sport
from domain.recordings.recording import DECIMALS, Column, DeviceTotals, FloatColumn, Lap, Session, UnreadableRecording

MAX_POINTS: Final = 1_000_000  # eleven days at one a second
MAX_LAPS: Final = 1_000
YEARS: Final = range(1970, 2200)  # of times that a device can have meant

_MEASURED: Final[tuple[Column, ...]] = tuple(name for name in Column if name is not Column.T)
_NAN: Final = float("nan")
_LARGEST: Final = 1e12  # no quantity that is read comes near
BATCH: Final = 2_048  # points whose texts are kept
_FIRST, _LAST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (YEARS.start, YEARS.stop))
_UTC_TIMES: Final = re.compile(r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z)*", re.ASCII)
# as ISO 8601 does not have it: months, days and hours of one digit, and the zone by its name
_LOOSE: Final = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)[T ] *(\d\d?):(\d\d?):(\d\d?)([.,]\d{1,6})?\d* *(Z|UTC|GMT|[+-]\d\d:?\d\d)?", re.ASCII
)
_ZONES: Final = timedelta(hours=-12), timedelta(hours=14)  # the westernmost and the easternmost
_UTC: Final = {"Z", "UTC", "GMT"}
_QUARTER: Final = timedelta(minutes=15)  # offsets of time zones are multiples of it
# steps a minute of one foot: 220 of both, which nobody holds for half a run, and 180, at which nobody walks; a run that
# is called a hike has nearly as many
_FASTEST_FOOT: Final = {Sport.RUNNING: 110.0, Sport.WALKING: 90.0, Sport.HIKING: 90.0}


def moment(text: str | None) -> datetime | None:
    """A time in ISO 8601, as UTC; a time without a zone is taken as UTC. None for what is no believable time."""
    try:
        found = _parsed(text or "")
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if found.year in YEARS else None


def _parsed(text: str) -> datetime:
    text = text.upper()  # a small "z" is none to Python
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        if (loose := _LOOSE.fullmatch(text)) is None:
            raise
    year, *numbers, fraction, zone = loose.groups(default="")
    month, day, hour, minute, second = (number.zfill(2) for number in numbers)
    zone = "Z" if zone in _UTC else zone
    return datetime.fromisoformat(f"{year}-{month}-{day}T{hour}:{minute}:{second}{fraction}{zone}")


def zone_offset(offset: timedelta | None) -> int | None:
    """Seconds that local time is ahead of UTC. None for what no zone has, and for 0: devices write UTC anywhere."""
    if not offset or not _ZONES[0] <= offset <= _ZONES[1] or offset % _QUARTER:
        return None
    return int(offset.total_seconds())


def written_offset(text: str) -> int | None:
    """That of a time in ISO 8601, as `zone_offset`."""
    try:
        return zone_offset(_parsed(text).utcoffset())
    except ValueError:
        return None


Row = dict[Column, str]
"""A point as it is written: the text of each value, and of the time."""


def both_feet(cadence: FloatColumn, sport: Sport) -> FloatColumn:
    """Steps a minute, on foot of both feet. Files count one foot's; but when half are faster than any foot, of both."""
    if sport not in _FASTEST_FOOT:
        return cadence
    stepping = cadence[cadence > 0]
    if len(stepping) and np.median(stepping) > _FASTEST_FOOT[sport]:
        return cadence
    return cadence * 2


class Points:
    """The points of one session. Texts become numbers some thousand points at a time: a million take 80 MB."""

    def __init__(self) -> None:
        self._rows: list[Row] = []  # not yet numbers
        self._blocks: list[dict[Column, FloatColumn]] = []  # T is Unix time in them
        self._settled = 0
        self._breaks: list[int] = []
        self._begin: datetime | None = None
        self._offset: int | None = None  # of the time that is `_begin`
        self._misplaced = 0  # positions that are nowhere on Earth
        self._swapped = 0  # of them, those that would be somewhere with latitude and longitude exchanged
        self._zoneless = 0  # times without a zone

    def __len__(self) -> int:
        return self._settled + len(self._rows)

    def add(self, row: Row) -> None:
        """One point more; `UnreadableRecording` when there are too many."""
        self._rows.append(row)
        if len(self._rows) >= BATCH:
            self._settle()

    def add_alike(self, columns: Sequence[Column], points: Sequence[Sequence[str]]) -> None:
        """More points, each with the values of the same columns; `UnreadableRecording` as `add`."""
        self._settle()
        self._keep(len(points), dict(zip(columns, zip(*points, strict=True), strict=True)))

    @property
    def last(self) -> Row | None:
        """The point that was added last, if it is no number yet."""
        return self._rows[-1] if self._rows else None

    def _settle(self) -> None:
        """Make numbers of the rows."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        present: set[Column] = set().union(*rows)
        texts = {name: [row.get(name, "nan") for row in rows] for name in _MEASURED if name in present}
        self._keep(len(rows), {**texts, Column.T: [row.get(Column.T, "").strip() for row in rows]})

    def _keep(self, count: int, texts: Mapping[Column, Sequence[str]]) -> None:
        self._settled += count
        if self._settled > MAX_POINTS:
            raise UnreadableRecording(f"The file has more than {MAX_POINTS:,} points: split it.")
        measured: dict[Column, Sequence[str]] = {name: texts[name] for name in _MEASURED if name in texts}
        block = {name: numbers(values) for name, values in measured.items()}
        if _has_decimal_commas(block, measured):
            block = {name: numbers([_point(text) for text in values]) for name, values in measured.items()}
        if block.keys() >= {Column.LAT, Column.LON}:
            misplaced, swapped = leave_out_misplaced(block[Column.LAT], block[Column.LON])
            self._misplaced += misplaced
            self._swapped += swapped
        block[Column.T] = self._times(texts.get(Column.T) or [""] * count)
        self._blocks.append(block)

    def _times(self, texts: Sequence[str]) -> FloatColumn:
        found = _utc_times(texts)
        if found is None:
            moments = [moment(text) for text in texts]
            found = np.array([np.nan if at is None else at.timestamp() for at in moments])
            self._zoneless += sum(
                at is not None and _is_zoneless(text) for at, text in zip(moments, texts, strict=True)
            )
        if self._begin is None and len(known := np.flatnonzero(~np.isnan(found))):
            first = texts[known[0]]
            self._begin, self._offset = moment(first), written_offset(first)
        return found

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
        """The points as a session."""
        self._settle()
        columns = {name: np.round(self._column(name), DECIMALS[name]) for name in _MEASURED}
        if self._begin is not None:
            columns[Column.T] = np.round(self._column(Column.T) - self._begin.timestamp(), DECIMALS[Column.T])
        return Session(
            sport=sport,
            started_at=self._begin or started_at,
            columns={name: column for name, column in columns.items() if not np.isnan(column).all()},
            device=device or DeviceTotals(),
            laps=laps,
            title=title,
            breaks=tuple(at for at in self._breaks if at < len(self)),
        )

    @property
    def utc_offset_s(self) -> int | None:
        """The offset that the first time is written with; None as `zone_offset`."""
        self._settle()
        return self._offset

    def _column(self, name: Column) -> FloatColumn:
        parts = [block[name] if name in block else np.full(len(block[Column.T]), np.nan) for block in self._blocks]
        column: FloatColumn = np.concatenate([np.empty(0), *parts])
        return column

    def warnings(self) -> list[str]:
        """What had to be left out or guessed."""
        self._settle()
        found = []
        if self._misplaced:
            found.append(of_misplaced(self._misplaced, self._swapped, len(self)))
        if self._zoneless:
            found.append("no-zone: the times name no zone and were taken as UTC")
        return found


def leave_out_misplaced(lat: FloatColumn, lon: FloatColumn) -> tuple[int, int]:
    """Make NaN of positions that are nowhere on Earth: how many, and how many of these would be somewhere with
    latitude and longitude exchanged.
    """
    misplaced = (np.abs(lat) > 90) | (np.abs(lon) > 180)
    swapped = misplaced & (np.abs(lat) <= 180) & (np.abs(lon) <= 90)
    lat[misplaced] = lon[misplaced] = np.nan
    return int(misplaced.sum()), int(swapped.sum())


def of_misplaced(count: int, swapped: int, points: int) -> str:
    """The warning, for a session of so many points."""
    why = "; latitude and longitude seem to be exchanged" if 2 * swapped > points else ""
    return f"misplaced: {count} positions outside of -90..90, -180..180 were left out{why}"


def numbers(texts: Sequence[str]) -> FloatColumn:
    """The numbers, NaN for what is none that is finite and could be a measurement."""
    try:
        read: Callable[[str], float] = _number if "_" in "".join(texts) else float  # Python takes 1_000 for a number
        values = np.fromiter(map(read, texts), np.float64, len(texts))
    except ValueError:
        values = np.fromiter(map(_number, texts), np.float64, len(texts))
    values[~(np.abs(values) < _LARGEST)] = np.nan
    return values


def _number(text: str) -> float:
    try:
        return _NAN if "_" in text else float(text)
    except ValueError:
        return _NAN


def decimal(text: str) -> float:
    """The number, NaN for none, whether its decimals come after a point or a comma."""
    return float(numbers([_point(text)])[0])


def _point(text: str) -> str:
    return text.replace(",", ".")


def _has_decimal_commas(block: Mapping[Column, FloatColumn], texts: Mapping[Column, Sequence[str]]) -> bool:
    """Whether the points were written by a program that went by its user's language: no position is a number."""
    axes = (Column.LAT, Column.LON)
    return all(name in block and np.isnan(block[name]).all() and "," in "".join(texts[name]) for name in axes)


def _utc_times(texts: Sequence[str]) -> FloatColumn | None:
    """Unix times, when every text is a believable time that ends in "Z", as nearly all files have it."""
    together = "".join(texts)
    if together.count("Z") != len(texts) or not all(text[-1:] == "Z" for text in texts):
        return None
    try:
        if _UTC_TIMES.fullmatch(together):  # numpy reads more than ISO 8601 has
            moments = np.array([text[:-1] for text in texts], "datetime64[us]")
            found = moments.astype(np.int64) / 1e6
        else:
            found = np.array([datetime.fromisoformat(text).timestamp() for text in texts])
    except (ValueError, OverflowError):
        return None
    return found if ((found >= _FIRST) & (found < _LAST)).all() else None


def _is_zoneless(time: str) -> bool:
    clock = time.strip().upper()[8:]  # after the date, however short
    return not (clock.endswith(("Z", "UTC", "GMT")) or "+" in clock or "-" in clock)
