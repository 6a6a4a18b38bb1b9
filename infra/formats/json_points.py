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
from infra.formats.table import MAX_POINTS, YEARS, zone_offset

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
_LARGEST: Final[Mapping[Column, float]] = {Column.T: 366 * 86_400.0, Column.LAT: 90.0, Column.LON: 180.0}
_LARGEST_ELSE: Final = 1e9


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
    if not any(len(column) for column in columns.values()):
        raise EmptyRecording("The JSON recording holds no point: put them in `points`, column by column.")
    for name, column in columns.items():
        largest = _LARGEST.get(name, _LARGEST_ELSE)
        if (np.abs(column) > largest).any():
            raise UnreadableRecording(f"points.{name} must lie between -{largest:.0f} and {largest:.0f}.")
    if document.started_at.year not in YEARS:
        raise UnreadableRecording(f"started_at must be a time from {YEARS.start} on, and before {YEARS.stop}.")
    session = Session(
        sport=document.sport,
        started_at=document.started_at.astimezone(UTC),
        columns={name: column for name, column in columns.items() if not np.isnan(column).all()},
        title=_text(document.title),
    )
    offset = zone_offset(document.started_at.utcoffset())
    return Recording(Format.JSON, (session,), device_name=_text(document.device), utc_offset_s=offset)


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
