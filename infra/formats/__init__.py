"""Formats of recordings: what bytes are, and what they hold."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from domain.measures import Sport
from domain.recordings.believing import believed
from domain.recordings.ordering import in_order
from domain.recordings.recording import Column, Format, Recording, Session, UnreadableRecording
from infra.formats.fit import parse_fit
from infra.formats.gpx import parse_gpx
from infra.formats.json_points import parse_json
from infra.formats.table import both_feet
from infra.formats.tcx import parse_tcx

_HEAD_BYTES: Final = 16 * 1024  # a root element stands before this, also behind a long comment
_BEFORE_TEXT: Final = b"\xef\xbb\xbf\xff\xfe \t\r\n"  # byte order marks and white space
_ROOT: Final = re.compile(rb"<\s*(?:\w+:)?(gpx|TrainingCenterDatabase)[\s>/]", re.IGNORECASE)
_PARSERS: Final[Mapping[Format, Callable[[bytes], Recording]]] = {
    Format.FIT: parse_fit,
    Format.GPX: parse_gpx,
    Format.TCX: parse_tcx,
    Format.JSON: parse_json,
}


def sniff(data: bytes) -> Format | None:
    """The format by what the first bytes say, whatever they are called; None when they are no recording."""
    if data[8:12] == b".FIT":
        return Format.FIT
    head = data[:_HEAD_BYTES].replace(b"\0", b"").lstrip(_BEFORE_TEXT)  # the NULs are UTF-16's
    if head.startswith(b"{"):
        return Format.JSON
    root = _ROOT.search(head) if head.startswith(b"<") else None
    if root is None:
        return None
    return Format.GPX if root[1].lower() == b"gpx" else Format.TCX


def parse(data: bytes, sport: Sport | None = None) -> Recording:
    """The recording in the bytes, of this sport if one is told.

    `UnreadableRecording` says what is wrong and what to do, nothing else is raised.
    """
    found = sniff(data)
    if found is None:
        raise UnreadableRecording("The bytes are no FIT, GPX, TCX or JSON recording: send the file as it was recorded.")
    recording = _PARSERS[found](data)
    sessions = tuple(_in_sport(in_order(session), sport or session.sport, found) for session in recording.sessions)
    return believed(replace(recording, sessions=sessions))


def _in_sport(session: Session, sport: Sport, written_as: Format) -> Session:
    """The session as one of this sport, which decides what its cadence counts; our JSON always counts both feet."""
    columns = dict(session.columns)
    if Column.CADENCE in columns and written_as is not Format.JSON:
        columns[Column.CADENCE] = both_feet(columns[Column.CADENCE], sport)
    return replace(session, sport=sport, columns=columns)
