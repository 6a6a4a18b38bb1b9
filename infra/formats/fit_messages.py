"""The messages of a FIT file: one walk gathers where they are, numpy then decodes all of a kind at once.

Follows the FIT protocol (developer.garmin.com/fit/protocol): chained files, definitions in both byte orders,
compressed timestamp headers, developer fields. What a broken file holds before the
fault is kept.
"""

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from fastcrc.crc16 import arc

from domain.recordings.recording import FloatColumn, UnreadableRecording
from infra.formats.fit_profile import TIMESTAMP, Field

_MAX_MESSAGES: Final = 2_000_000
_MAX_LAYOUTS: Final = 2_000  # different definitions: real files have some tens
_MAX_CHAINED: Final = 100
_LARGEST: Final = 1e12  # no quantity that we read comes near; beyond, times overflow


class _Base(NamedTuple):
    code: str  # numpy's, without byte order
    invalid: int | None


# by base type number (the low five bits): numpy type and the value that means "none"
_BASES: Final = {
    0x00: _Base("u1", 0xFF),
    0x01: _Base("i1", 0x7F),
    0x02: _Base("u1", 0xFF),
    0x03: _Base("i2", 0x7FFF),
    0x04: _Base("u2", 0xFFFF),
    0x05: _Base("i4", 0x7FFFFFFF),
    0x06: _Base("u4", 0xFFFFFFFF),
    0x08: _Base("f4", None),
    0x09: _Base("f8", None),
    0x0A: _Base("u1", 0),
    0x0B: _Base("u2", 0),
    0x0C: _Base("u4", 0),
    0x0D: _Base("u1", 0xFF),
    0x0E: _Base("i8", 0x7FFFFFFFFFFFFFFF),
    0x0F: _Base("u8", 0xFFFFFFFFFFFFFFFF),
    0x10: _Base("u8", 0),
}


@dataclass(frozen=True)
class _Layout:
    """Where the fields of a definition are: (number, offset, size, base type)."""

    message: int
    order: str  # "<" or ">"
    places: tuple[tuple[int, int, int, int], ...]
    size: int  # of a data message without its header byte, developer fields included
    developer: tuple[tuple[int, int, int, int], ...] = ()  # (developer, number, offset, size)


@dataclass
class _Group:
    """All data messages of one layout, by where they start."""

    layout: _Layout
    time: tuple[int, str] | None  # where the timestamp is, and how it is packed
    starts: list[int] = field(default_factory=list)


class Messages:
    """The data messages of one kind, in the order of the file."""

    def __init__(self, data: bytes, groups: list[_Group], stamps: dict[int, int]) -> None:
        self._blocks = [_Block(data, group) for group in groups]
        self._stamps = stamps
        starts = np.concatenate([np.array(group.starts, np.int64) for group in groups] or [np.empty(0, np.int64)])
        self._starts = starts
        self._order = np.argsort(starts, kind="stable") if len(groups) > 1 else slice(None)

    def __len__(self) -> int:
        return len(self._starts)

    def column(self, *fields: Field) -> FloatColumn:
        """The field's values, NaN where a message has none; of several fields the first that has one."""
        values = np.full(len(self), np.nan)
        for wanted in reversed(fields):
            found = self._raw(wanted.number) / wanted.scale - wanted.offset
            values = np.where(np.isnan(found), values, found)
        return values

    def timestamps(self) -> FloatColumn:
        """Seconds since FIT's epoch, also those told by compressed headers."""
        values = self.column(Field(TIMESTAMP))
        if self._stamps:
            told = np.array([self._stamps.get(int(start), -1) for start in self._starts[self._order]], float)
            values = np.where(told >= 0, told, values)
        return values

    def blobs(self, number: int) -> list[bytes]:
        """The field's bytes as they are, empty where a message has none."""
        found: dict[int, bytes] = {}
        for block in self._blocks:
            found |= block.blobs(number)
        if not found:
            return [b""] * len(self)
        return [found.get(start, b"") for start in self._starts[self._order].tolist()]

    def developer_column(self, developer: int, number: int, base_type: int) -> FloatColumn:
        """A developer's field, as its description tells it: the numbers of both, and the base type."""
        return self._ordered([block.developer_column(developer, number, base_type) for block in self._blocks])

    def _raw(self, number: int) -> FloatColumn:
        return self._ordered([block.column(number) for block in self._blocks])

    def _ordered(self, parts: list[FloatColumn]) -> FloatColumn:
        column: FloatColumn = np.concatenate(parts or [np.empty(0)])
        ordered: FloatColumn = column[self._order]
        return ordered


class _Block:
    """The data messages of one layout side by side, so that each field is a column of them."""

    def __init__(self, data: bytes, group: _Group) -> None:
        self._layout, self._starts = group.layout, group.starts
        if group.starts and group.layout.size:
            messages = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), group.layout.size)
            self._bytes = messages[group.starts]
        else:
            self._bytes = np.empty((len(group.starts), group.layout.size), np.uint8)

    def column(self, number: int) -> FloatColumn:
        for place, offset, size, base_type in self._layout.places:
            if place == number:
                return self._decode(offset, size, base_type)
        return self._nothing()

    def developer_column(self, developer: int, number: int, base_type: int) -> FloatColumn:
        for place in self._layout.developer:
            if place[:2] == (developer, number):
                return self._decode(place[2], place[3], base_type)
        return self._nothing()

    def blobs(self, number: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for place, offset, size, _ in self._layout.places:
            if place == number:
                column = self._bytes[:, offset : offset + size].tobytes()
                found |= {at: column[i * size : (i + 1) * size] for i, at in enumerate(self._starts)}
        return found

    def _nothing(self) -> FloatColumn:
        return np.full(len(self._starts), np.nan)

    def _decode(self, offset: int, size: int, base_type: int) -> FloatColumn:
        base = _BASES.get(base_type)
        if base is None:
            return self._nothing()  # text
        kind = np.dtype(self._layout.order + base.code)
        if size < kind.itemsize or size % kind.itemsize:
            return self._nothing()  # neither one value nor an array of them: the definition is wrong
        raw = np.ascontiguousarray(self._bytes[:, offset : offset + kind.itemsize]).view(kind)[:, 0]
        values: FloatColumn = raw.astype(np.float64)
        values[~(np.abs(values) < _LARGEST)] = np.nan
        if base.invalid is not None:
            values[raw == base.invalid] = np.nan
        return values


@dataclass
class Walk:
    """What a walk over the bytes found: groups by layout, times of compressed headers, faults, and messages."""

    groups: dict[_Layout, _Group] = field(default_factory=dict)
    stamps: dict[int, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    count: int = 0

    def counted(self, messages: int) -> None:
        """So many more; `UnreadableRecording` when they are too many."""
        self.count += messages
        if self.count > _MAX_MESSAGES:
            raise UnreadableRecording(f"The file has more than {_MAX_MESSAGES:,} messages: split it.")

    def group(self, layout: _Layout) -> _Group:
        """Where messages of this layout go; `UnreadableRecording` when there are too many layouts."""
        known = self.groups.get(layout)
        if known is None:
            known = self.groups[layout] = _Group(layout, _time_place(layout))
            if len(self.groups) > _MAX_LAYOUTS:
                raise UnreadableRecording(
                    f"The FIT file defines over {_MAX_LAYOUTS:,} kinds of messages: it is broken."
                )
        return known

    def of(self, data: bytes, message: int) -> Messages:
        """All messages of one kind."""
        return Messages(data, [group for group in self.groups.values() if group.layout.message == message], self.stamps)


def walk(data: bytes) -> Walk:
    """Find the messages of all chained files. Never raises for a broken file: what comes before the fault counts."""
    found, at, files = Walk(), 0, 0
    while at + 12 <= len(data) and data[at + 8 : at + 12] == b".FIT" and data[at] >= 12:
        files += 1
        if files > _MAX_CHAINED:
            raise UnreadableRecording(f"The file is a chain of over {_MAX_CHAINED} FIT files: send them one by one.")
        begin = at + data[at]
        length = struct.unpack_from("<I", data, at + 4)[0]
        end = begin + length if length else len(data) + 1  # a device that crashed never filled the length in
        if _told_too_short(data, at, end):
            end = len(data) - 2
            found.warnings.append("length: the file's header tells of less than the file holds; all of it was read")
        if end > len(data):
            found.warnings.append("truncated: the file ends early; what it holds up to there was kept")
        stopped = _walk_file(data, begin, min(end, len(data)), found)
        if stopped is not None:
            found.warnings.append(f"damaged: {stopped}; what comes before was kept")
        elif end + 2 <= len(data) and not _checks(data, at, end):
            found.warnings.append("checksum: the file's checksum does not match; all of it was read")
        at = end + 2
    return found


def _told_too_short(data: bytes, at: int, end: int) -> bool:
    """Whether the file goes on behind its end: no other begins there, and the checksum is not there either."""
    follows = data[end + 2 : end + 14]
    if not follows or follows[8:] == b".FIT" or not data[end + 2 :].rstrip(b"\0"):
        return False
    return not _checks(data, at, end)


def _checks(data: bytes, at: int, end: int) -> bool:
    told: int = struct.unpack_from("<H", data, end)[0]
    return arc(data[at:end]) == told


def _walk_file(data: bytes, at: int, end: int, found: Walk) -> str | None:
    """Walk one file's messages; why it stopped before the end, if it did."""
    local: dict[int, _Group] = {}
    last = 0  # timestamp, for compressed headers
    while at < end:
        header = data[at]
        if header & 0xC0 == 0x40:
            found.counted(1)
            read = _definition(data, at, end)
            if read is None:
                return None  # cut off within a definition: told as truncated
            layout, at = read
            local[header & 0x0F] = found.group(layout)
            continue
        number = (header >> 5) & 0x03 if header & 0x80 else header & 0x0F
        group = local.get(number)
        if group is None:
            return f"message type {number} at byte {at} was never defined"
        step = 1 + group.layout.size
        if at + step > end:
            return None
        if header & 0x80:  # five bits of seconds that roll over
            count = 1
            last += ((header & 0x1F) - (last & 0x1F)) & 0x1F
            found.stamps[at + 1] = last
        else:
            count = _alike(data, at, end, step) if data[at + step : at + step + 1] == data[at : at + 1] else 1
            if group.time is not None:
                last = _last_stamp(data, at + 1 + (count - 1) * step, group.time, last)
        found.counted(count)
        group.starts.extend(range(at + 1, at + 1 + count * step, step))
        at += count * step
    return None


def _alike(data: bytes, at: int, end: int, step: int) -> int:
    """How many whole messages of this length follow each other with the same header byte."""
    header, most, count = data[at : at + 1], (end - at) // step, 1
    while count < most:
        window = min(most - count, 4 * count)  # ever wider, so that short runs cost little
        headers = data[at + count * step : at + (count + window) * step : step]
        same = len(headers) - len(headers.lstrip(header))
        count += same
        if same < window:
            break
    return count


def _last_stamp(data: bytes, at: int, time: tuple[int, str], last: int) -> int:
    """The timestamp that compressed headers go on from: the message's, if it has one."""
    stamp = int(struct.unpack_from(time[1], data, at + time[0])[0])
    return last if stamp == 0xFFFFFFFF else stamp


def _definition(data: bytes, at: int, end: int) -> tuple[_Layout, int] | None:
    """The definition message at a place, and where it ends; None when it is cut off."""
    has_developer_fields = bool(data[at] & 0x20)
    if at + 6 > end:
        return None
    order = ">" if data[at + 2] == 1 else "<"
    message, count = struct.unpack_from(order + "H", data, at + 3)[0], data[at + 5]
    at += 6
    if at + 3 * count + has_developer_fields > end:
        return None
    places, own, offset = [], [], 0
    for number, size, base in struct.iter_unpack("BBB", data[at : at + 3 * count]):
        places.append((number, offset, size, base & 0x1F))
        offset += size
    at += 3 * count
    if has_developer_fields:
        count, at = data[at], at + 1
        if at + 3 * count > end:
            return None
        for number, size, developer in struct.iter_unpack("BBB", data[at : at + 3 * count]):
            own.append((developer, number, offset, size))
            offset += size
        at += 3 * count
    return _Layout(message, order, tuple(places), offset, tuple(own)), at


def _time_place(layout: _Layout) -> tuple[int, str] | None:
    for number, offset, size, _ in layout.places:
        if number == TIMESTAMP and size == 4:
            return offset, layout.order + "I"
    return None
