"""Ways to damage a recording: bits, blocks, cuts, splices, and for text formats its numbers, times and tags."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

Damage = Callable[[Random, bytes, bytes], bytes]
"""Makes of a recording, and another one to take from, a damaged one."""

_NUMBER: Final = re.compile(rb"-?\d+\.?\d*")
_TAG: Final = re.compile(rb"<(/?)([A-Za-z][\w:]*)([^<>]*)>")
_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)?")
_NO_NUMBERS: Final = (
    b"nan",
    b"inf",
    b"-inf",
    b"1e999",
    b"1e308",
    b"-1e11",
    b"9" * 400,
    b"",
    b"0",
    b"1,5",
    b"-",
    b"1_0",
)
_NO_TIMES: Final = (
    b"",
    b"0001-01-01T00:00:00Z",
    b"9999-12-31T23:59:59Z",
    b"2016-12-31T23:59:60Z",
    b"2199-12-31T23:59:59.999999Z",
    b"1970-01-01T00:00:00Z",
    b"2026-05-01T07:00:00+14:00",
    b"2026-05-01",
    b"1650000000000",
    b"T",
)
_FRAGMENTS: Final = (
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"&#0;",
    b"&x;",
    b"<!DOCTYPE gpx>",
    b"<?x ",
    b"\xff\xfe",
    b"\0",
)
_RAW: Final = (b"\0", b"\xff", b"\x7f", b"\x80")


def damaged(random: Random, content: bytes, other: bytes) -> tuple[str, bytes]:
    """One to four ways at once, and their names."""
    names, made = [], content
    ways = _WAYS if content[:1] in (b"<", b"{", b"\xef") else _BINARY
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        way = random.choice(ways)
        names.append(way.__name__)
        made = way(random, made, other) or b"\0"
    return "+".join(names), made


def _span(random: Random, content: bytes) -> tuple[int, int]:
    """A block: mostly small, sometimes most of the file, one time in three near the beginning."""
    begin = random.randrange(min(len(content), 400) if random.random() < 1 / 3 else len(content))
    longest = random.choice((8, 200, 5_000, len(content)))
    return begin, min(len(content), begin + 1 + random.randrange(longest))


def bits(random: Random, content: bytes, _other: bytes) -> bytes:
    """Up to 64 flipped."""
    made = bytearray(content)
    for _ in range(random.choice((1, 4, 16, 64))):
        made[_span(random, content)[0]] ^= 1 << random.randrange(8)
    return bytes(made)


def swapped_bytes(random: Random, content: bytes, _other: bytes) -> bytes:
    """Neighbours exchanged."""
    made = bytearray(content)
    for _ in range(random.choice((1, 4, 16))):
        at = _span(random, content)[0]
        made[at : at + 2] = made[at : at + 2][::-1]
    return bytes(made)


def cut_end(random: Random, content: bytes, _other: bytes) -> bytes:
    """What a crash leaves."""
    return content[: random.randrange(len(content) + 1)]


def cut_beginning(random: Random, content: bytes, _other: bytes) -> bytes:
    """Without its first bytes."""
    return content[_span(random, content)[0] :]


def removed(random: Random, content: bytes, _other: bytes) -> bytes:
    """A block less."""
    begin, end = _span(random, content)
    return content[:begin] + content[end:]


def repeated(random: Random, content: bytes, _other: bytes) -> bytes:
    """A block several times, the file at most twice as long."""
    begin, end = _span(random, content)
    times = min(random.choice((1, 3, 1_000)), max(1, len(content) // (end - begin)))
    return content[:end] + content[begin:end] * times + content[end:]


def moved(random: Random, content: bytes, _other: bytes) -> bytes:
    """A block somewhere else."""
    begin, end = _span(random, content)
    rest = content[:begin] + content[end:]
    to = random.randrange(len(rest) + 1)
    return rest[:to] + content[begin:end] + rest[to:]


def overwritten(random: Random, content: bytes, _other: bytes) -> bytes:
    """A block of one byte, or of noise."""
    begin, end = _span(random, content)
    fill = random.choice(_RAW) * (end - begin) if random.random() < 0.7 else random.randbytes(end - begin)
    return content[:begin] + fill + content[end:]


def spliced(random: Random, content: bytes, other: bytes) -> bytes:
    """The beginning of one and the end of another."""
    return content[: random.randrange(len(content) + 1)] + other[random.randrange(len(other) + 1) :]


def inserted(random: Random, content: bytes, _other: bytes) -> bytes:
    """A piece of syntax."""
    at = _span(random, content)[0]
    return content[:at] + random.choice(_FRAGMENTS) + content[at:]


def _some(pattern: re.Pattern[bytes], random: Random, content: bytes) -> list[re.Match[bytes]]:
    """A few matches, one time in six all in a long stretch of the file."""
    start = random.randrange(len(content))
    few = random.choice((1, 1, 3, 10, 10, 5_000))
    found = []
    for match in pattern.finditer(content, start):
        found.append(match)
        if len(found) >= few:
            break
    return found


def _replaced(content: bytes, matches: Sequence[re.Match[bytes]], text: Callable[[re.Match[bytes]], bytes]) -> bytes:
    pieces, at = [], 0
    for match in matches:
        pieces += [content[at : match.start()], text(match)]
        at = match.end()
    return b"".join([*pieces, content[at:]])


def numbers(random: Random, content: bytes, _other: bytes) -> bytes:
    """What is none, or none that can be."""
    return _replaced(content, _some(_NUMBER, random, content), lambda _: random.choice(_NO_NUMBERS))


def scaled(random: Random, content: bytes, _other: bytes) -> bytes:
    """Other magnitudes and signs."""
    factor = random.choice((b"-", b"1", b"99", b"0."))
    return _replaced(content, _some(_NUMBER, random, content), lambda match: factor + match[0].lstrip(b"-"))


def times(random: Random, content: bytes, _other: bytes) -> bytes:
    """What no device meant."""
    return _replaced(content, _some(_TIME, random, content), lambda _: random.choice(_NO_TIMES))


def shuffled_times(random: Random, content: bytes, _other: bytes) -> bytes:
    """The right ones in the wrong order."""
    matches = _some(_TIME, random, content)
    texts = [match[0] for match in matches]
    random.shuffle(texts)
    return _replaced(content, matches, lambda _: texts.pop())


def tags(random: Random, content: bytes, _other: bytes) -> bytes:
    """Others' names, no closing, closed at once, twice, or without attributes."""
    names = [match[2] for match in _some(_TAG, random, content)] or [b"trkpt"]

    def other_tag(match: re.Match[bytes]) -> bytes:
        slash, name, rest = match.groups()
        renamed = b"<" + slash + random.choice(names) + rest + b">"
        bare = b"<" + slash + name + b">"
        return random.choice((renamed, b"", b"<" + name + b"/>", match[0] * 2, bare, match[0] * 300))

    return _replaced(content, _some(_TAG, random, content)[:50], other_tag)


_BINARY: Final[Sequence[Damage]] = (
    bits,
    swapped_bytes,
    cut_end,
    cut_beginning,
    removed,
    repeated,
    moved,
    overwritten,
    spliced,
)
_WAYS: Final[Sequence[Damage]] = (*_BINARY, inserted, numbers, scaled, times, shuffled_times, tags)
