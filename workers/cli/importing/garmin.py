"""Garmin Connect's export: zips of all files that watches uploaded, and summaries of the activities among them.

Most FIT files are no activities (monitoring, sleep, settings). A file's name has the number of its upload, which seldom
is the number of its activity: the time at which both begin joins them.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

import msgspec
from msgspec import Struct

from infra.formats import sniff
from infra.formats.fit_head import fit_head, other_kind
from workers.cli.importing.entries import (
    MAX_BYTES,
    NOT_OPENED,
    Entry,
    Item,
    Left,
    NoActivity,
    NotRead,
    Told,
    is_recording,
    is_zip,
    recording_in,
    told,
    unpacked,
)
from workers.cli.importing.files import Files, Taken
from workers.cli.importing.sports import sport_of

SUMMARIES: Final = "_summarizedActivities.json"
_HOME: Final = re.compile(r"(.*?/)??DI[-_]CONNECT/", re.I | re.S)
_UPLOADS: Final = re.compile(r"UploadedFiles_[^/]*\.zip$", re.I)  # in folders that vary by year
_NUMBER: Final = re.compile(r"_(\d{5,})[^/]*$")  # after the e-mail address
_TIME: Final = re.compile(rb"\s*([0-9T:.+-]{19,35}Z?)")
_NEAR_SECONDS: Final = 5.0  # the file's id is written a moment before its first record
_MAX_SUMMARIES: Final = 512 * 1024 * 1024  # bytes of a file, in memory twice; heavy users have over 100 MB
_ZIP_IN_PART: Final = "a zip in a zip of uploads: unpack it, and import it by itself"
_NOT_TOLD: Final = Told(remarks=("no summary of it in the export: no title, no notes",))


class _Summary(Struct):
    """Of an activity, as far as we read it. Any: exports of some years have numbers as text, or types as objects."""

    activityId: Any = None  # noqa: N815 - Garmin's names
    name: Any = None
    activityType: Any = None  # noqa: N815
    description: Any = None
    beginTimestamp: Any = None  # noqa: N815
    startTimeGmt: Any = None  # noqa: N815


class _Summaries(Struct):
    summarizedActivitiesExport: list[_Summary] = []  # noqa: N815


class Summaries:
    """What the export says of its activities, by number and by begin."""

    def __init__(self, found: Iterable[_Summary]) -> None:
        self._by_number: dict[str, Told] = {}
        by_begin: dict[float, Told] = {}
        for one in found:
            words, number, begin = _told(one), _number(one.activityId), _number(one.beginTimestamp or one.startTimeGmt)
            if number is not None:
                self._by_number[str(int(number))] = words
            if begin is not None and (begin not in by_begin or words.sport is None):  # the whole before its parts
                by_begin[begin] = words
        self._by_begin = sorted(((begin / 1000, words) for begin, words in by_begin.items()), key=lambda item: item[0])

    def of(self, name: str, times: Sequence[datetime]) -> Told:
        """What is said of the file of this name, which may begin at these times."""
        number = _NUMBER.search(name)
        if number is not None and number[1] in self._by_number:
            return self._by_number[number[1]]
        near = (self._near(time.timestamp()) for time in times)
        return next((found for found in near if found is not None), _NOT_TOLD)

    def _near(self, begin: float) -> Told | None:
        at = bisect_left(self._by_begin, begin - _NEAR_SECONDS, key=lambda item: item[0])
        around = [item for item in self._by_begin[at : at + 5] if abs(item[0] - begin) <= _NEAR_SECONDS]
        return min(around, key=lambda item: abs(item[0] - begin))[1] if around else None


def entries(files: Files, taken: Taken, expect: Callable[[int], None]) -> Iterator[Item]:
    """The recordings in the zips of uploads of each export, with what its summaries say of each."""
    homes: dict[str, list[str]] = {}
    for name in files.files:
        if name not in taken.names and (home := _HOME.match(name)) is not None:
            homes.setdefault(home[0], []).append(name)
    for folder, names in homes.items():
        if any(_UPLOADS.search(name) or name.endswith(SUMMARIES) for name in names):
            taken.homes.append(folder[: -len("DI_CONNECT/")])
            taken.names.update(name for name in names if _UPLOADS.search(name) or not is_zip(name))
            yield from _export(files, names, expect)


def _export(files: Files, names: Sequence[str], expect: Callable[[int], None]) -> Iterator[Item]:
    found: list[_Summary] = []
    for name in names:
        if name.endswith(SUMMARIES):
            try:
                found += _summaries(files.read(name, _MAX_SUMMARIES))
            except NotRead as fault:
                expect(1)
                yield Left(files.shown(name), f"{fault}; its activities are brought without titles and notes")
    summaries = Summaries(found)
    for name in names:
        if _UPLOADS.search(name):
            try:
                with files.inner(name) as part:
                    yield from _part(part, summaries, expect)
            except NotRead as fault:
                expect(1)
                yield Left(files.shown(name), str(fault), NOT_OPENED)
    yield from _uploads(files, names, summaries, expect)  # what somebody has unpacked


def _part(part: Files, summaries: Summaries, expect: Callable[[int], None]) -> Iterator[Item]:
    """What one zip of uploads has."""
    zips = [name for name in part.files if is_zip(name)]
    expect(len(part.left) + len(zips))
    yield from part.left
    yield from (Left(part.shown(name), _ZIP_IN_PART, NOT_OPENED) for name in zips)
    yield from _uploads(part, part.files, summaries, expect)


def _uploads(files: Files, names: Iterable[str], summaries: Summaries, expect: Callable[[int], None]) -> Iterator[Item]:
    found = [name for name in names if is_recording(name) or _is_text(name)]
    expect(len(found))
    yield from (_entry(files, name, summaries) for name in found)


def _entry(files: Files, name: str, summaries: Summaries) -> Entry:
    def read() -> bytes:
        body = unpacked(files.read(name, MAX_BYTES))
        if other_kind(body) is not None or (_is_text(name) and sniff(body) is None):
            raise NoActivity
        return recording_in(body, name, is_named=summaries.of(name, _times(body)) is not _NOT_TOLD)

    return Entry(files.shown(name), files.key(name), read, lambda body: summaries.of(name, _times(body)))


def _is_text(name: str) -> bool:
    """As some uploads of TCX and GPX are called, beside others that are no recordings."""
    return name.lower().endswith(".txt")


def _times(body: bytes) -> Sequence[datetime]:
    head = fit_head(body)
    if head is not None:
        return head.times
    opening = b"<Id>" if b"<Id>" in body else b"<time>"  # TCX, or GPX with its first point
    at = body.find(opening, max(0, body.find(b"<trkpt")))
    text = _TIME.match(body, at + len(opening)) if at >= 0 else None
    with suppress(ValueError):
        time = datetime.fromisoformat(text[1].decode() if text else "")
        return [time if time.tzinfo else time.replace(tzinfo=UTC)]
    return []


def _summaries(text: bytes) -> list[_Summary]:
    try:
        return [
            one for part in msgspec.json.decode(text, type=list[_Summaries]) for one in part.summarizedActivitiesExport
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotRead(f"it is not what Garmin's summaries have been so far: {error}") from None


def _told(one: _Summary) -> Told:
    kind = one.activityType.get("typeKey") if isinstance(one.activityType, Mapping) else one.activityType
    sport, remarks = sport_of(kind if isinstance(kind, str) else "")
    title, notes = (text if isinstance(text, str) else "" for text in (one.name, one.description))
    return told(title, sport, notes, *remarks)


def _number(value: Any) -> float | None:  # noqa: ANN401 - as in _Summary
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None
