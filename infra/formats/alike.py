"""Points that are written like one before them: by a pattern made of that one, at a fraction of a parser's cost.

A device writes all its points in the same way. The parser reads one; a pattern is made of its bytes, with a place for
each value and all else literally as it was. What matches is as well-formed as that point was, and its values stand in
the same places. Whatever does not match goes through the parser.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from domain.recordings.recording import Column
from infra.formats.table import BATCH, Row

_TAG: Final = re.compile(r"<([^<>]*)>([^<]*)")
_ATTRIBUTE: Final = re.compile(r'(\s[\w:.-]+=")([^"]*)"')
_SPACE: Final = "[ \\t\\r\\n]*"
_VALUE: Final = "[\\w.:+-]*"  # numbers, times and words: nothing that XML or its encodings give a meaning to
_PLAIN: Final = re.compile(_VALUE, re.ASCII)
_BETWEEN: Final = re.compile("(?<=>)[ \\t\\r\\n]+")
_LONGEST: Final = 4_000  # characters of a point
_MOST_VALUES: Final = 60
_MOST_PATTERNS: Final = 8
_FEW: Final = 32  # points that are not worth columns of their own
_WORTH: Final = 50  # points that a pattern must have matched before another one is made beyond the first few


class Taker(Protocol):
    """Where points go."""

    def add(self, row: Row) -> None:
        """One more."""
        ...

    def add_alike(self, columns: Sequence[Column], points: Sequence[Sequence[str]]) -> None:
        """More, each with the values of the same columns."""
        ...


class AlikePoints:
    """Patterns of one file. `row_of` reads the bytes of one point, as the parser would."""

    def __init__(self, name: str, row_of: Callable[[bytes], Row | None], taker: Taker) -> None:
        self.name, self.end_tag = name, f"</{name}>".encode()
        self._row_of, self._taker = row_of, taker
        self._patterns: list[tuple[re.Pattern[str], list[Column]]] = []
        self._made = self._followed = 0

    @property
    def useless(self) -> bool:
        """Whether the points of this file differ too much."""
        return self._made > _MOST_PATTERNS + self._followed // _WORTH

    def follow(self, text: str, began: int, at: int) -> int:
        """Take the points from `at` on that match; where the first one begins that does not.

        The parser has just read the point that stands from `began` to there.
        """
        if not any(pattern.fullmatch(text, began, at) for pattern, _ in self._patterns):
            self._learn(text[began:at])
        return self._take(text, at)

    def _learn(self, point: str) -> None:
        self._made += 1
        shape = _shape(point)
        if shape is None:
            return
        texts, values = shape
        marks = {f"value{i}": i for i in range(values)}
        row = self._row_of("".join(map("".join, zip(texts, [*marks, ""], strict=True))).encode("latin-1"))
        if row is None or any(mark.strip() and mark not in marks for mark in row.values()):
            return
        column_of = {marks[mark]: column for column, mark in row.items() if mark.strip()}
        pieces = [_SPACE]
        for i, text in enumerate(texts):
            pieces.append(_spaced(text))
            if i < values:
                pieces.append(f"({_VALUE})" if i in column_of else _VALUE)
        columns = [column_of[i] for i in sorted(column_of)]
        self._patterns.insert(0, (re.compile("".join(pieces), re.ASCII), columns))
        del self._patterns[_MOST_PATTERNS:]

    def _take(self, text: str, at: int) -> int:
        while (known := self._matching(text, at)) is not None:
            pattern, columns = known
            points: list[Sequence[str]] = []
            while len(points) < BATCH and (match := pattern.match(text, at)) is not None:
                points.append(match.groups())
                at = match.end()
            self._followed += len(points)
            if len(points) >= _FEW:
                self._taker.add_alike(columns, points)
                continue
            for point in points:
                self._taker.add(dict(zip(columns, point, strict=True)))
        return at

    def _matching(self, text: str, at: int) -> tuple[re.Pattern[str], list[Column]] | None:
        for place, known in enumerate(self._patterns):
            if known[0].match(text, at):
                self._patterns.insert(0, self._patterns.pop(place))  # it is the most likely one from here on
                return known
        return None


def _shape(point: str) -> tuple[list[str], int] | None:
    """What stands around the point's values, and how many those are; None for what no pattern should be made of."""
    if len(point) > _LONGEST or "&" in point or "<!" in point or "<?" in point:
        return None
    texts, at = [""], 0
    for tag in _TAG.finditer(point):
        inside, text = tag.groups()
        if tag.start() != at:
            return None
        at = tag.end()
        texts[-1] += "<"
        begun = 0
        for attribute in _ATTRIBUTE.finditer(inside):
            if not _PLAIN.fullmatch(attribute[2]):
                return None
            texts[-1] += inside[begun : attribute.end(1)]
            texts.append('"')
            begun = attribute.end()
        texts[-1] += inside[begun:] + ">"
        if text.strip(" \t\r\n") == "":
            texts[-1] += text
        elif _PLAIN.fullmatch(text):
            texts.append("")
        else:
            return None
    values = len(texts) - 1
    return (texts, values) if at == len(point) and values <= _MOST_VALUES else None


def _spaced(text: str) -> str:
    """A pattern of the text, in which any white space between tags will do."""
    return _SPACE.join(re.escape(piece) for piece in _BETWEEN.split(text))
