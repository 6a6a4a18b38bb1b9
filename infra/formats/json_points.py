"""Recordings as JSON: columns of points, named and measured as `/track` gives them."""

import codecs
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from domain.errors import without_input
from domain.measures import Sport
from domain.recordings.believing import BELIEVABLE
from domain.recordings.recording import (
    DECIMALS,
    Column,
    EmptyRecording,
    FloatColumn,
    Format,
    Recording,
    Session,
    UnreadableRecording,
)
from infra.formats.table import MAX_POINTS, YEARS, leave_out_misplaced, of_misplaced, zone_offset

_Values = Annotated[list[float | None], Meta(max_length=MAX_POINTS)]


class _Document(Struct, forbid_unknown_fields=True):
    started_at: Annotated[datetime, Meta(tz=True)]
    points: dict[Column, _Values]
    sport: Sport = Sport.OTHER
    title: Annotated[str, Meta(max_length=200)] | None = None
    device: Annotated[str, Meta(max_length=80)] | None = None


_NEEDED: Final = frozenset({"started_at", "points"})
_DECODER: Final = msgspec.json.Decoder(_Document)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MOST_S: Final = 366 * 86_400.0
_LARGEST: Final = 1e9  # of all else
_POSITION: Final = (Column.LAT, Column.LON)


def is_points(data: bytes) -> bool:
    """Whether it may be a recording, and no other JSON: by its uppermost names, or by all of it when damaged."""
    try:
        return _MEMBERS.decode(data).keys() >= _NEEDED
    except msgspec.ValidationError:
        return False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return all(b'"%s"' % name.encode() in data for name in _NEEDED)


def parse_json(data: bytes) -> Recording:
    """`{started_at, points: {t: [0, 1, ...], lat: [...], lon: [...], ...}, sport?, title?, device?}`.

    Cadence is what `/track` gives: on foot, the steps of both feet a minute.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        document = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = without_input(error) if isinstance(error, msgspec.ValidationError) else "it is no valid JSON in UTF-8"
        raise UnreadableRecording(f"The JSON recording cannot be read: {reason}.") from None
    if _has_a_key_twice(data):
        raise UnreadableRecording("The JSON recording has a key twice: nobody knows which of them was meant.")
    if len({len(values) for values in document.points.values()}) > 1:
        raise UnreadableRecording("The columns in `points` must be of one length, with null where a value is missing.")
    columns = {name: _column(name, values) for name, values in document.points.items()}
    if _is_empty(columns):
        raise EmptyRecording("The JSON recording holds no value: put them in `points`, column by column.")
    warnings = _leave_out_impossible(columns)
    if _is_empty(columns):
        raise EmptyRecording(f"The JSON recording holds no value that can be: {'; '.join(warnings)}.")
    if document.started_at.year not in YEARS:
        raise UnreadableRecording(f"started_at must be a time from {YEARS.start} on, and before {YEARS.stop}.")
    session = Session(
        sport=document.sport,
        started_at=document.started_at.astimezone(UTC),
        columns={name: column for name, column in columns.items() if not np.isnan(column).all()},
        title=_text(document.title),
    )
    offset = zone_offset(document.started_at.utcoffset())
    return Recording(
        Format.JSON, (session,), device_name=_text(document.device), utc_offset_s=offset, warnings=tuple(warnings)
    )


def _is_empty(columns: Mapping[Column, FloatColumn]) -> bool:
    return all(np.isnan(column).all() for column in columns.values())


def _leave_out_impossible(columns: Mapping[Column, FloatColumn]) -> list[str]:
    """Make NaN of values that cannot be, with a warning for each kind, as of any file. Times of which none can be are
    refused: they count something else than seconds from the start. What no sensor measures is left out later.
    """
    warnings = []
    for name, column in columns.items():
        largest = _MOST_S if name is Column.T else _LARGEST
        wrong = np.abs(column) > largest
        count = int(wrong.sum())
        if count == 0 or name in BELIEVABLE or name in _POSITION:
            continue
        if name is Column.T and count == len(column):
            raise UnreadableRecording(f"points.t must lie between -{largest:.0f} and {largest:.0f}.")
        column[wrong] = np.nan
        warnings.append(f"out-of-range: {count} values of {name} outside of {-largest:g}..{largest:g} were left out")
    lat, lon = [columns.get(name, np.full(len(next(iter(columns.values()))), np.nan)) for name in _POSITION]
    misplaced, swapped = leave_out_misplaced(lat, lon)
    if misplaced:
        warnings.append(of_misplaced(misplaced, swapped, len(lat)))
    return warnings


def _has_a_key_twice(data: bytes) -> bool:
    """Whether there are more colons than different keys, and texts, account for: the decoder keeps the last of two.
    Of a document that was decoded.
    """
    members = _MEMBERS.decode(data)
    texts = sum(bytes(value).count(b":") for name, value in members.items() if name != "points")
    return data.count(b":") != len(members) + len(_MEMBERS.decode(members["points"])) + texts


def _text(text: str | None) -> str | None:
    """Without NULs, which no database keeps; None for nothing."""
    return (text or "").replace("\0", "").strip() or None


def _column(name: Column, values: _Values) -> FloatColumn:
    column: FloatColumn = np.array(values, np.float64)
    return np.round(column, DECIMALS[name])
