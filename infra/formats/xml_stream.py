"""XML as a stream of elements, for files from strangers: no DTD, no entities, no network, bounded depth and memory.

Expat calls for each tag and keeps nothing, so that memory does not grow with the file. Names count without their
namespace, or without a prefix that was never bound.
"""

from collections.abc import Callable, Mapping
from typing import Final
from xml.parsers import expat

from domain.recordings.recording import UnreadableRecording
from infra.formats.alike import AlikePoints

Opened = Callable[[Mapping[str, str]], None]
"""Takes the attributes of an element that begins."""
Closed = Callable[[str, str], None]
"""Takes the text of an element that ends (what stands after its last child), and its parent's local name."""

_CHUNK_BYTES: Final = 64 * 1024
_SMALL_BYTES: Final = 16 * 1024  # in less than this, patterns are not worth making
_LONGEST_TAG: Final = 1024 * 1024  # bytes between two events of the parser: a tag, or a comment
_DEEPEST: Final = 256
_MOST_NAMES: Final = 2_000  # different ones: each is kept
_MOST_UNUSED: Final = 100_000  # elements in a row that no recording has
_MOST_PIECES: Final = 1_000  # of 8 KB, of one text
_NO_DOCTYPE: Final = "The XML declares a DOCTYPE, which no recording needs: remove it."
_NO_RECORDING: Final = "The XML is mostly other things than a recording: export it again."


def read_xml(
    data: bytes, opened: Mapping[str, Opened], closed: Mapping[str, Closed], points: AlikePoints | None = None
) -> bool:
    """Call for the elements of these local names, as they begin and end; whether the file is whole.

    Elements that are written alike may go past it by `points`. After a syntax error what came before counts. An
    encoding that is unknown, or declared wrongly, costs only the letters beyond ASCII.
    """
    reading = _Reading(opened, closed)
    try:
        reading.read(data.lstrip(), None, points if len(data) > _SMALL_BYTES else None)
    except (expat.ExpatError, LookupError, ValueError) as error:
        if reading.begun or not _is_of_encoding(error):
            return False
        return _read_as_latin(data, opened, closed)
    return True


def _read_as_latin(data: bytes, opened: Mapping[str, Opened], closed: Mapping[str, Closed]) -> bool:
    try:
        _Reading(opened, closed).read(data.lstrip(), "iso-8859-1", None)
    except expat.ExpatError:
        return False
    return True


def _is_of_encoding(error: Exception) -> bool:
    if not isinstance(error, expat.ExpatError):
        return True  # the codec's own
    wrong = (expat.errors.XML_ERROR_UNKNOWN_ENCODING, expat.errors.XML_ERROR_INCORRECT_ENCODING)
    return expat.ErrorString(error.code) in wrong


class _Reading:
    """One walk through the tags."""

    def __init__(self, opened: Mapping[str, Opened], closed: Mapping[str, Closed]) -> None:
        self._opened, self._closed = opened, closed
        self._known: dict[str, tuple[str, Opened | None, Closed | None]] = {}  # by the name as it is written
        self._path = [""]  # local names of what is open
        self._pieces: list[str] = []  # of the text since the last tag
        self._unused = 0
        self._point = (0, -1)  # where the tags of the last point begin, in the bytes that were parsed

    @property
    def begun(self) -> bool:
        """Whether an element was seen."""
        return bool(self._known)

    def read(self, data: bytes, encoding: str | None, points: AlikePoints | None) -> None:
        """Through the whole file; `ExpatError` where it breaks, `UnreadableRecording` for what no recording has."""
        names: dict[str, str] = {}
        parser = expat.ParserCreate(encoding, intern=names)
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._pieces.append
        text = ""
        if points is not None:
            text = data.decode("latin-1")  # a character a byte
            self._note_places(parser, points.name)
        at = fed = 0
        between_points = True
        while at < len(data):
            stop = data.find(points.end_tag, at, at + _CHUNK_BYTES) if points is not None and between_points else -1
            part = data[at : at + _CHUNK_BYTES if points is None or stop < 0 else stop + len(points.end_tag)]
            parser.Parse(part, False)  # noqa: FBT003 - C takes it by place
            at, fed = at + len(part), fed + len(part)
            if fed - parser.CurrentByteIndex > _LONGEST_TAG:
                break  # a comment or a tag that nobody ended
            if len(names) > _MOST_NAMES:
                raise UnreadableRecording(_NO_RECORDING)
            del self._pieces[_MOST_PIECES:]
            if points is None or points.useless:
                points = None
                continue
            began, ended = self._point
            # a part that ended elsewhere is in no point: the next is long, or old parsers read it again and again
            between_points = stop < 0 or ended == fed - len(points.end_tag)
            if stop >= 0 and between_points:
                at = points.follow(text, at - fed + began, at)
        parser.Parse(b"", True)  # noqa: FBT003 - as above

    def _note_places(self, parser: expat.XMLParserType, name: str) -> None:
        """Remember where the last element of this name begins, and where its end tag does."""
        opened, closed = self._opened[name], self._closed[name]

        def begin(attributes: Mapping[str, str]) -> None:
            self._point = (parser.CurrentByteIndex, -1)
            opened(attributes)

        def end(text: str, parent: str) -> None:
            self._point = (self._point[0], parser.CurrentByteIndex)
            closed(text, parent)

        self._opened, self._closed = {**self._opened, name: begin}, {**self._closed, name: end}

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name, opened, _ = self._known.get(tag) or self._meet(tag)
        self._path.append(name)
        self._pieces.clear()
        self._unused += 1
        if self._unused > _MOST_UNUSED or len(self._path) > _DEEPEST:
            raise UnreadableRecording(_NO_RECORDING)
        if opened is not None:
            opened(attributes)

    def _end(self, tag: str) -> None:
        closed = self._known[tag][2]
        self._path.pop()
        if closed is not None:
            self._unused = 0
            closed("".join(self._pieces), self._path[-1])
        self._pieces.clear()

    def _meet(self, tag: str) -> tuple[str, Opened | None, Closed | None]:
        """A name for the first time."""
        name = tag.rpartition(":")[2]
        found = self._opened.get(name), self._closed.get(name) or self._closed.get(name.lower())
        self._known[tag] = name, *found
        return self._known[tag]


def _refuse_doctype(*_: object) -> None:
    raise UnreadableRecording(_NO_DOCTYPE)
