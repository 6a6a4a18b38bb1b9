"""A FIT activity file from a session: file id, timer events, records, one lap, session and activity."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from fastcrc.crc16 import arc

from domain.measures import ON_FOOT
from domain.recordings.cleaning import clean
from domain.recordings.distance import DistanceSource, gaps_of, way_of
from domain.recordings.exports import ExportNeedsTimes, Totals
from domain.recordings.recording import Column, FloatColumn, Session
from infra.formats import fit_profile as profile

_U8, _ENUM, _S8, _U16, _S32, _U32 = 0x02, 0x00, 0x01, 0x84, 0x85, 0x86  # base types
_CODES: Final = {_U8: "B", _ENUM: "B", _S8: "b", _U16: "H", _S32: "i", _U32: "I"}
_INVALID: Final = {_U8: 0xFF, _ENUM: 0xFF, _S8: 0x7F, _U16: 0xFFFF, _S32: 0x7FFFFFFF, _U32: 0xFFFFFFFF}
_DEVELOPMENT: Final = 255  # the manufacturer id that is free for everyone
_ACTIVITY_FILE: Final = 4
_STRING: Final = 0x07
_MAX_TITLE: Final = 254  # bytes of UTF-8: a field has 255, the last of them 0


class _Out(NamedTuple):
    """A field to write."""

    number: int
    base: int


_RECORD: Final = (
    (_Out(0, _S32), Column.LAT, profile.RECORD_FIELDS[Column.LAT]),
    (_Out(1, _S32), Column.LON, profile.RECORD_FIELDS[Column.LON]),
    (_Out(2, _U16), Column.ALTITUDE, profile.ALTITUDE[1]),
    (_Out(3, _U8), Column.HEART_RATE, profile.RECORD_FIELDS[Column.HEART_RATE]),
    (_Out(4, _U8), Column.CADENCE, profile.RECORD_FIELDS[Column.CADENCE]),
    (_Out(53, _U8), Column.CADENCE, profile.FRACTIONAL_CADENCE),
    (_Out(5, _U32), Column.DISTANCE, profile.RECORD_FIELDS[Column.DISTANCE]),
    (_Out(6, _U16), Column.SPEED, profile.SPEED[1]),
    (_Out(7, _U16), Column.POWER, profile.RECORD_FIELDS[Column.POWER]),
    (_Out(13, _S8), Column.TEMPERATURE, profile.RECORD_FIELDS[Column.TEMPERATURE]),
)


def write_fit(session: Session, totals: Totals | None = None) -> bytes:
    """The session as a watch would write it, times to the second and never falling, with these totals (None: what the
    points amount to).

    A point without a time gets one evenly between its timed neighbours, at the ends the next one's. The distance by the
    positions, where that one counts, is written too: by times so rounded a reader would take some steps for jumps. Over
    what the activity's total leaves out of it, the timer stops.

    It must have times from 1990 to 2125 (`started_at` and column t), else `ExportNeedsTimes`. What FIT's fields cannot
    hold is left out, point by point.
    """
    begin = -1 if session.started_at is None else int(session.started_at.timestamp()) - profile.EPOCH
    track = clean(session)
    if begin < 0 or not track.has_times or begin + track.t[-1] >= _INVALID[_U32]:
        raise ExportNeedsTimes
    seconds = np.rint(track.t).astype(np.int64)
    elapsed, end = int(seconds[-1]), begin + int(seconds[-1])
    paused = sum(int(seconds[at] - seconds[at - 1]) for at in session.breaks)
    sport = next((number for number, known in profile.SPORTS.items() if known is session.sport), 0)
    total_m = 0.0 if totals is None else totals.distance_m
    distance, gaps = way_of(session, track, total_m), gaps_of(session, track, total_m)
    if distance.source is DistanceSource.POSITIONS and distance.total_m > 0:
        session = replace(session, columns={**session.columns, Column.DISTANCE: distance.column})
    session = replace(session, breaks=tuple(sorted({*session.breaks, *gaps})))
    told = totals or Totals(distance.total_m, elapsed, elapsed - paused)
    timer = round(told.moving_s * 1000)
    sums: list[tuple[_Out, int]] = [
        (_Out(253, _U32), end),
        (_Out(2, _U32), begin),
        (_Out(7, _U32), round(told.elapsed_s * 1000)),
        (_Out(8, _U32), timer),
        (_Out(9, _U32), round(told.distance_m * 100)),
    ]
    body = b"".join(
        [
            _message(profile.FILE_ID, _file_id(begin)),
            _sport(sport, session.title),
            _event(begin, profile.TIMER_START),
            _records(session, (begin + seconds).tolist(), [(at, begin + int(seconds[at])) for at in session.breaks]),
            _event(end, profile.TIMER_STOPS[1]),
            _message(profile.LAP, [*sums, (_Out(254, _U16), 0)]),
            _message(profile.SESSION, [*sums, (_Out(5, _ENUM), sport), (_Out(26, _U16), 1), *_of_session(told)]),
            _message(profile.ACTIVITY, [*_local(end, told), (_Out(0, _U32), timer), (_Out(1, _U16), 1)]),
        ]
    )
    header = struct.pack("<BBHI4s", 14, 0x20, 2195, len(body), b".FIT")
    head = header + struct.pack("<H", arc(header))
    return head + body + struct.pack("<H", arc(head + body))


def _of_session(told: Totals) -> list[tuple[_Out, int]]:
    """What the session says besides the lap's sums, as far as it is known: to whole calories, beats and metres."""
    known = (
        (_Out(11, _U16), told.calories_kcal),
        (_Out(16, _U8), told.avg_heart_rate_bpm),
        (_Out(17, _U8), told.max_heart_rate_bpm),
        (_Out(22, _U16), told.elevation_gain_m),
    )
    return [(out, round(value)) for out, value in known if value is not None]


def _local(at: int, told: Totals) -> list[tuple[_Out, int]]:
    """A time, and what clocks showed then where it was, if that is known."""
    local = [] if told.utc_offset_s is None else [(_Out(5, _U32), at + told.utc_offset_s)]
    return [(_Out(253, _U32), at), *local]


def _file_id(created: int) -> list[tuple[_Out, int]]:
    return [
        (_Out(0, _ENUM), _ACTIVITY_FILE),
        (_Out(1, _U16), _DEVELOPMENT),
        (_Out(2, _U16), 0),
        (_Out(4, _U32), created),
    ]


def _sport(sport: int, title: str | None) -> bytes:
    """What was done, with the title as the name of it; nothing without a title."""
    if not title:
        return b""
    name = title.encode("utf-8", "replace")[:_MAX_TITLE].decode("utf-8", "ignore").encode() + bytes(1)
    fields = struct.pack("BBBBBB", 0, 1, _ENUM, 3, len(name), _STRING)
    return struct.pack("<BBBHB", 0x40, 0, 0, profile.SPORT, 2) + fields + struct.pack("<BB", 0, sport) + name


def _event(at: int, kind: int) -> bytes:
    fields = [(_Out(253, _U32), at), (_Out(0, _ENUM), profile.TIMER_EVENT), (_Out(1, _ENUM), kind)]
    return _message(profile.EVENT, fields)


def _records(session: Session, stamps: Sequence[int], breaks: list[tuple[int, int]]) -> bytes:
    """Local message 1, defined once; around a break the timer stops after one record and starts with the next."""
    present = [(out, _raw(session, name, field, out.base)) for out, name, field in _RECORD if name in session.columns]
    outs = [_Out(253, _U32), *(out for out, _ in present)]
    pack = struct.Struct("<B" + "".join(_CODES[out.base] for out in outs)).pack
    written, resumes = [_definition(1, profile.RECORD, outs)], dict(breaks)
    for index, stamp in enumerate(stamps):
        if index in resumes:
            written += [_event(int(stamps[index - 1]), profile.TIMER_STOPS[1]), _event(resumes[index], 0)]
        written.append(pack(1, int(stamp), *(int(values[index]) for _, values in present)))
    return b"".join(written)


def _raw(session: Session, name: Column, field: profile.Field, base: int) -> FloatColumn:
    values = session.columns[name]
    if name is Column.CADENCE:  # whole strokes of one foot, and what is left
        strokes = values / 2 if session.sport in ON_FOOT else values
        values = strokes % 1 if field is profile.FRACTIONAL_CADENCE else np.floor(strokes)
    scaled = np.rint((values + field.offset) * field.scale)
    lowest = 0 if base in (_U8, _U16, _U32) else -_INVALID[base]
    fits = (scaled >= lowest) & (scaled < _INVALID[base])  # NaN does not
    return np.where(fits, scaled, _INVALID[base])


def _definition(local: int, message: int, outs: Sequence[_Out]) -> bytes:
    fields = b"".join(struct.pack("BBB", out.number, struct.calcsize(_CODES[out.base]), out.base) for out in outs)
    return struct.pack("<BBBHB", 0x40 | local, 0, 0, message, len(outs)) + fields


def _message(message: int, fields: list[tuple[_Out, int]]) -> bytes:
    """A definition of local message 0 and one message of it."""
    outs = [out for out, _ in fields]
    layout = "<B" + "".join(_CODES[out.base] for out in outs)
    values = (value if value < _INVALID[out.base] else _INVALID[out.base] for out, value in fields)
    return _definition(0, message, outs) + struct.pack(layout, 0, *values)
