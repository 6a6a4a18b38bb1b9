"""Formats of recordings: what bytes are, and what they hold."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from domain.recordings.believing import believed
from domain.recordings.recording import Format, Recording, UnreadableRecording
from infra.formats.fit import parse_fit
from infra.formats.gpx import parse_gpx
from infra.formats.json_points import parse_json
from infra.formats.tcx import parse_tcx

_HEAD_BYTES: Final = 4096  # a root element stands before this
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


def parse(data: bytes) -> Recording:
    """The recording in the bytes; `UnreadableRecording` says what is wrong and what to do, nothing else is raised."""
    found = sniff(data)
    if found is None:
        raise UnreadableRecording("The bytes are no FIT, GPX, TCX or JSON recording: send the file as it was recorded.")
    return believed(_PARSERS[found](data))
