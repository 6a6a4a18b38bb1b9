"""FIT activities: sessions, their records as columns, the device's totals, laps and pauses."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain.measures import Metres, Seconds, Sport
from domain.recordings.recording import (
    DECIMALS,
    Column,
    DeviceTotals,
    EmptyRecording,
    FloatColumn,
    Format,
    Lap,
    Recording,
    Session,
    UnreadableRecording,
)
from infra.formats import fit_profile as profile
from infra.formats.fit_messages import Messages, Walk, walk
from infra.formats.table import MAX_LAPS, MAX_POINTS

_QUARTER: Final = 900  # seconds: offsets of time zones are multiples of it
_LARGEST_OFFSET: Final = 14 * 3600
_LAST_SECOND: Final = 2**32  # in 2125
_MAX_SESSIONS: Final = 100


def parse_fit(data: bytes) -> Recording:
    """The activity in a FIT file, with what a truncated or damaged one still holds.

    Cadence on foot is in steps of both feet a minute: FIT counts one foot's.
    """
    found = walk(data)
    records, sessions = found.of(data, profile.RECORD), found.of(data, profile.SESSION)
    if len(records) > MAX_POINTS or len(sessions) > _MAX_SESSIONS:
        raise UnreadableRecording(f"The file has over {MAX_POINTS:,} points or {_MAX_SESSIONS} sessions: split it.")
    if not len(sessions) and profile.COURSE_FILE in found.of(data, profile.FILE_ID).column(profile.FILE_TYPE):
        raise EmptyRecording("The FIT file is a course, which nobody ran yet: send an activity file.")
    made = _sessions(data, found, records, sessions)
    if not made:
        raise EmptyRecording("The FIT file holds no recorded points and no session: send an activity file.")
    return Recording(
        format=Format.FIT,
        sessions=tuple(made),
        device_name=_device_name(data, found),
        utc_offset_s=_utc_offset(found.of(data, profile.ACTIVITY)),
        warnings=tuple(found.warnings),
    )


def _sessions(data: bytes, found: Walk, records: Messages, sessions: Messages) -> list[Session]:
    """A session for each session message, or one for all records when the file lost it."""
    times = records.timestamps()
    columns, sports = _columns(records), _sports(sessions, profile.SESSION_SPORT, profile.SESSION_SUB_SPORT)
    starts = sessions.column(profile.START_TIME)
    owner = _owners(times, starts)
    laps, pauses = found.of(data, profile.LAP), _resumes(found.of(data, profile.EVENT))
    lap_owner = _owners(laps.column(profile.START_TIME), starts)
    titles = [text.split(b"\0")[0].decode("utf-8", "replace") for text in found.of(data, profile.SPORT).blobs(3)]
    if np.isnan(columns[Column.POWER]).all():
        columns[Column.POWER] = _developer_power(found.of(data, profile.FIELD_DESCRIPTION), records)
    totals, made = {name: sessions.column(*fields) for name, fields in profile.TOTALS.items()}, []
    order = _as_they_happened(starts) if len(sessions) else np.zeros(1, np.int64)
    told_m = totals["distance_m"] if len(sessions) else np.full(1, np.nan)
    columns[Column.DISTANCE] = _from_each_start(columns[Column.DISTANCE], owner, order, told_m)
    for index in order:
        mine = owner == index
        made.append(
            _session(
                {name: column[mine] for name, column in columns.items()},
                times[mine],
                sports[index] if sports else _sport_of(found.of(data, profile.SPORT)),
                starts[index] if len(sessions) else np.nan,
                _totals(totals, index) if len(sessions) else DeviceTotals(),
                _laps(laps, lap_owner == index),
                pauses,
                titles[0] if len(titles) == 1 and titles[0] else None,
            )
        )
    return [session for session in made if len(session) or session.device.distance_m or session.device.elapsed_s]


def _as_they_happened(starts: FloatColumn) -> NDArray[np.int64]:
    """The sessions by their starts; of those with the same one the last, which brings the others up to date."""
    order = np.argsort(starts, kind="stable")
    last: NDArray[np.int64] = order[np.diff(starts[order], append=np.nan) != 0]
    return last


def _owners(times: FloatColumn, starts: FloatColumn) -> NDArray[np.int64]:
    """The session of each time: the last one that began by then, the first for what came before all."""
    if len(starts) < 2:
        return np.zeros(len(times), np.int64)
    order = np.argsort(starts, kind="stable")
    place = np.clip(np.searchsorted(starts[order], times, side="right") - 1, 0, None)
    return order[place].astype(np.int64)


def _from_each_start(
    distance: FloatColumn, owner: NDArray[np.int64], order: NDArray[np.int64], told_m: FloatColumn
) -> FloatColumn:
    """The distance of each session from 0 at its start, where it goes on from that of the one before.

    It starts where the totals of those before end, if that is between the records around it, else at its first record.
    """
    counted, reached, start = distance.copy(), 0.0, 0.0
    for index in order:
        mine = np.flatnonzero((owner == index) & ~np.isnan(distance))
        if len(mine):
            first = float(distance[mine[0]])
            if 0 < reached <= distance[mine].min():
                start = start if reached <= start <= first else first
                counted[mine] -= start
            else:
                start = 0.0
            reached = float(distance[mine[-1]])
        start = round(start + float(told_m[index]), DECIMALS[Column.DISTANCE])
    return np.round(counted, DECIMALS[Column.DISTANCE])


def _session(
    columns: dict[Column, FloatColumn],
    times: FloatColumn,
    sport: Sport,
    start: float,
    device: DeviceTotals,
    laps: tuple[Lap, ...],
    pauses: FloatColumn,
    title: str | None,
) -> Session:
    known = times[~np.isnan(times)]
    begin = float(known[0]) if len(known) else float(start)
    if len(known):
        columns[Column.T] = times - begin
    present = {name: column for name, column in columns.items() if not np.isnan(column).all()}
    resumed = pauses[(pauses > begin) & (pauses <= (known[-1] if len(known) else begin))]
    breaks = np.unique(np.searchsorted(np.maximum.accumulate(np.nan_to_num(times, nan=-1.0)), resumed))
    return Session(
        sport=sport,
        started_at=_moment(begin),
        columns=present,
        device=device,
        laps=laps,
        title=title,
        breaks=tuple(int(index) for index in breaks if 0 < index < len(times)),
    )


def _columns(records: Messages) -> dict[Column, FloatColumn]:
    columns = {name: records.column(field) for name, field in profile.RECORD_FIELDS.items()}
    columns[Column.ALTITUDE] = np.round(records.column(*profile.ALTITUDE), DECIMALS[Column.ALTITUDE])  # 0.2 m - 500 m
    columns[Column.SPEED] = records.column(*profile.SPEED)
    columns[Column.CADENCE] = columns[Column.CADENCE] + np.nan_to_num(records.column(profile.FRACTIONAL_CADENCE))
    lat, lon = columns[Column.LAT], columns[Column.LON]
    nowhere = (np.abs(lat) > 90) | (np.abs(lon) > 180)
    columns[Column.LAT], columns[Column.LON] = (np.where(nowhere, np.nan, axis) for axis in (lat, lon))
    packed = records.blobs(profile.COMPRESSED_SPEED_DISTANCE)
    if any(packed) and np.isnan(columns[Column.DISTANCE]).all():
        columns[Column.SPEED], columns[Column.DISTANCE] = _unpacked(packed)
    return columns


def _developer_power(descriptions: Messages, records: Messages) -> FloatColumn:
    """Power from a foot pod's own field (Stryd and others), which a description in the file names."""
    developers, numbers, bases = (descriptions.column(field) for field in profile.DESCRIBED)
    for row, name in enumerate(descriptions.blobs(profile.DESCRIBED_NAME)):
        told = (developers[row], numbers[row], bases[row])
        if name.split(b"\0")[0].strip().lower() == b"power" and not np.isnan(told).any():
            return records.developer_column(int(told[0]), int(told[1]), int(told[2]) & 0x1F)
    return np.full(len(records), np.nan)


def _unpacked(packed: list[bytes]) -> tuple[FloatColumn, FloatColumn]:
    """Speed and distance of `compressed_speed_distance`: twelve bits each; the distance rolls over every 256 m."""
    triples = np.array([list(blob) if len(blob) == 3 and blob != b"\xff\xff\xff" else [-1] * 3 for blob in packed])
    missing = triples[:, 0] < 0
    speed = np.where(missing, np.nan, (triples[:, 0] | (triples[:, 1] & 0x0F) << 8) / 100)
    raw = (triples[:, 1] >> 4 | triples[:, 2] << 4)[~missing]
    distance = np.full(len(packed), np.nan)
    distance[~missing] = np.cumsum(np.diff(raw, prepend=0) % 4096) / 16
    return speed, distance


def _totals(columns: Mapping[str, FloatColumn], index: int) -> DeviceTotals:
    told = {name: _told(float(column[index])) for name, column in columns.items()}
    return DeviceTotals(
        distance_m=_metres(told["distance_m"]),
        elapsed_s=_seconds(told["elapsed_s"]),
        timer_s=_seconds(told["timer_s"]),
        ascent_m=_metres(told["ascent_m"]),
        avg_heart_rate_bpm=told["avg_heart_rate_bpm"],
        max_heart_rate_bpm=told["max_heart_rate_bpm"],
        avg_cadence_spm=told["avg_cadence_spm"],
        max_speed_mps=told["max_speed_mps"],
        calories_kcal=told["calories_kcal"],
    )


def _laps(laps: Messages, mine: NDArray[np.bool_]) -> tuple[Lap, ...]:
    """The first thousand: nobody marks more, but broken files hold more."""
    first = np.flatnonzero(mine)[:MAX_LAPS]
    rows = zip(
        laps.column(profile.START_TIME)[first],
        laps.column(profile.ELAPSED)[first],
        laps.column(profile.DISTANCE)[first],
        strict=True,
    )
    return tuple(
        Lap(_moment(start), _seconds(_told(float(elapsed))), _metres(_told(float(distance))))
        for start, elapsed, distance in rows
    )


def _resumes(events: Messages) -> FloatColumn:
    """When the timer was started after a stop."""
    kinds, types, times = events.column(profile.EVENT_KIND), events.column(profile.EVENT_TYPE), events.timestamps()
    stopped, resumed = False, []
    for kind, what, at in zip(kinds, types, times, strict=True):
        if kind != profile.TIMER_EVENT or np.isnan(at):
            continue
        if what in profile.TIMER_STOPS:
            stopped = True
        elif what == profile.TIMER_START and stopped:
            stopped = False
            resumed.append(float(at))
    return np.array(resumed, float)


def _sports(messages: Messages, sport: profile.Field, sub_sport: profile.Field) -> list[Sport]:
    return [*map(profile.sport_of, messages.column(sport), messages.column(sub_sport))]


def _sport_of(messages: Messages) -> Sport:
    """The sport of a file that lost its session: the sport message comes first."""
    return next(iter(_sports(messages, profile.SPORT_SPORT, profile.SPORT_SUB_SPORT)), Sport.OTHER)


def _device_name(data: bytes, found: Walk) -> str | None:
    file_id, devices = found.of(data, profile.FILE_ID), found.of(data, profile.DEVICE_INFO)
    for blob in [*file_id.blobs(profile.FILE_PRODUCT_NAME), *devices.blobs(profile.DEVICE_PRODUCT_NAME)]:
        if name := blob.split(b"\0")[0].decode("utf-8", "replace").strip():
            return name[:80]
    if len(file_id) == 0 or np.isnan(maker := file_id.column(profile.MANUFACTURER)[0]):
        return None
    product = file_id.column(profile.PRODUCT)[0]
    name = profile.MANUFACTURERS.get(int(maker), f"manufacturer {int(maker)}")
    return name if np.isnan(product) else f"{name} {int(product)}"


def _utc_offset(activities: Messages) -> int | None:
    """Local time minus UTC, to the quarter of an hour, if the file tells a believable one."""
    if len(activities) == 0:
        return None
    offset = (activities.column(profile.LOCAL_TIMESTAMP) - activities.timestamps())[0]
    if np.isnan(offset) or abs(offset) > _LARGEST_OFFSET + _QUARTER / 2:
        return None
    return int(round(offset / _QUARTER) * _QUARTER)


def _told(value: float) -> float | None:
    """A total, None when there is none: it cannot be negative."""
    return value if value >= 0 else None


def _moment(seconds: float) -> datetime | None:
    if not 0 <= seconds <= _LAST_SECOND:
        return None
    return datetime.fromtimestamp(profile.EPOCH, UTC) + timedelta(seconds=float(seconds))


def _metres(value: float | None) -> Metres | None:
    return None if value is None else Metres(value)


def _seconds(value: float | None) -> Seconds | None:
    return None if value is None else Seconds(value)
