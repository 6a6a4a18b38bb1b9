"""XML as a stream of elements, for files from strangers: no DTD, no entities, no network, bounded depth and memory.

Expat calls for each tag and keeps nothing, so that memory does not grow with the file. Names count without their
namespace, or without a prefix that was never bound.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeVar
from xml.parsers import expat

from domain.recordings.recording import UnreadableRecording
from infra.formats.alike import AlikePoints

Opened = Callable[[Mapping[str, str]], None]
"""Takes the attributes of an element that begins."""
Closed = Callable[[str, str], None]
"""Takes the text of an element that ends (what stands after its last child), and its parent's local name."""

_BEFORE_TEXT: Final = b"\xef\xbb\xbf \t\r\n"  # UTF-8's byte order mark and white space
_UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DECLARED: Final = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)""")
# Those of several bytes a letter, which expat does not know; as WHATWG's Encoding reads them: a standard's name stands
# for what programs made of it.
_OF_SEVERAL_BYTES: Final = {
    **dict.fromkeys(("shift_jis", "cp932"), "cp932"),
    **dict.fromkeys(("gb2312", "gbk", "gb18030"), "gb18030"),
    **dict.fromkeys(("euc_kr", "cp949"), "cp949"),
    **dict.fromkeys(("big5", "big5hkscs"), "big5hkscs"),
    **{name: name for name in ("euc_jp", "iso2022_jp", "cp950", "johab")},
}
_CONTROLS: Final = bytes(set(range(0x20)) - {*b"\t\n\r"})
_SPACED: Final = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))
# what begins none of the five entities of XML, nor a reference to a character that it has
_STRAY: Final = re.compile(
    rb"&(?!(?:amp|lt|gt|quot|apos|#(?!5[5-7]\d{3};)(?:[3-9]\d|\d{3,7})"
    rb"|#x(?![dD][89a-fA-F]..;)(?:[2-9a-fA-F][\da-fA-F]|[\da-fA-F]{3,6}));)"
)
_MOST_STRAY: Final = 10_000  # each makes the file longer
_CODES: Final = expat.errors.codes
_OF_ENCODING: Final = {
    _CODES[expat.errors.XML_ERROR_UNKNOWN_ENCODING],
    _CODES[expat.errors.XML_ERROR_INCORRECT_ENCODING],
}
_OF_LETTERS: Final = {
    _CODES[expat.errors.XML_ERROR_INVALID_TOKEN],
    _CODES[expat.errors.XML_ERROR_UNDEFINED_ENTITY],
    _CODES[expat.errors.XML_ERROR_BAD_CHAR_REF],
}
_CHUNK_BYTES: Final = 64 * 1024
_SMALL_BYTES: Final = 16 * 1024  # in less than this, patterns are not worth making
_LONGEST_TAG: Final = 1024 * 1024  # bytes between two events of the parser: a tag, or a comment
_DEEPEST: Final = 256
_MOST_NAMES: Final = 2_000  # different ones: each is kept
_MOST_UNUSED: Final = 100_000  # elements in a row that no recording has
_MOST_PIECES: Final = 1_000  # of 8 KB, of one text
_NO_DOCTYPE: Final = "The XML declares a DOCTYPE, which no recording needs: remove it."
_NO_RECORDING: Final = "The XML is mostly other things than a recording: export it again."


class Document(Protocol):
    """What takes the elements of a file, each by its local name."""

    def opened(self) -> Mapping[str, Opened]:
        """As they begin."""
        ...

    def closed(self) -> Mapping[str, Closed]:
        """As they end; a name with the prefix that it is usually written with goes before one without."""
        ...


D = TypeVar("D", bound=Document)


def read_xml(data: bytes, begin: Callable[[], D], alike: Callable[[D], AlikePoints] | None = None) -> tuple[D, bool]:
    """What was read, and whether the file is whole.

    Elements that are written alike may go past the document by `alike`. After a syntax error what came before counts.
    Letters that XML or the declared encoding does not have break nothing: then all is read once more, without them.
    """
    data = data.lstrip(_BEFORE_TEXT)
    document = begin()
    fault = _fault_in(data, None, document, alike)
    if fault is not None and (mended := _mended(data, fault)) is not None:
        document = begin()
        fault = _fault_in(*mended, document, alike)
    return document, fault is None


def _fault_in(
    data: bytes, encoding: str | None, document: D, alike: Callable[[D], AlikePoints] | None
) -> Exception | None:
    points = alike(document) if alike is not None and len(data) > _SMALL_BYTES else None
    try:
        _Reading(document).read(data, encoding, points)
    except (expat.ExpatError, LookupError, ValueError) as fault:  # the last two are the codecs'
        return fault
    return None


def _mended(data: bytes, fault: Exception) -> tuple[bytes, str] | None:
    """The bytes without letters that may have been the fault, and their encoding; None when it was something else."""
    code = fault.code if isinstance(fault, expat.ExpatError) else None
    of_encoding = code is None or code in _OF_ENCODING
    if not (of_encoding or code in _OF_LETTERS):
        return None
    if b"\0" in data[:4]:
        read, declared, encoding = _from_utf16(data), "utf-16", "utf-8"
    else:
        told = _DECLARED.match(data)
        declared = told[1].decode().lower() if told else "utf-8"
        read, encoding = data, "iso-8859-1" if of_encoding or declared.startswith("utf") else declared
        if (decoded := _from_several_bytes(data, declared)) is not None:
            read, encoding = decoded, "utf-8"
        elif _is_utf8(data):
            encoding = "utf-8"
    mended = _STRAY.sub(b"&amp;", read.translate(_SPACED), _MOST_STRAY)
    return None if (mended, encoding) == (data, declared) else (mended, encoding)


def _from_utf16(data: bytes) -> bytes:
    """As UTF-8, whatever it declares: by its byte order mark, else by where the NULs of its first letters are."""
    encoding = "utf-16" if data[:2] in _UTF16_MARKS else "utf-16-be" if data[0] == 0 else "utf-16-le"
    return data.decode(encoding, "replace").encode()


def _from_several_bytes(data: bytes, declared: str) -> bytes | None:
    """As UTF-8; None for another encoding, or when the bytes are none of it."""
    try:
        codec = _OF_SEVERAL_BYTES.get(codecs.lookup(declared).name)
        return None if codec is None else data.decode(codec).encode()
    except (LookupError, UnicodeDecodeError):
        return None


def _is_utf8(data: bytes) -> bool:
    try:
        for _ in codecs.iterdecode((data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES)), "utf-8"):
            pass
    except UnicodeDecodeError:
        return False
    return True


class _Reading:
    """One walk through the tags."""

    def __init__(self, document: Document) -> None:
        self._opened, self._closed = document.opened(), document.closed()
        self._known: dict[str, tuple[str, Opened | None, Closed | None]] = {}  # by the name as it is written
        self._path = [""]  # local names of what is open
        self._pieces: list[str] = []  # of the text since the last tag
        self._unused = 0
        self._point = (0, -1)  # where the tags of the last point begin, in the bytes that were parsed

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
        closed = (self._closed.get(known) for known in (tag, name, name.lower()))
        found = self._opened.get(name), next(filter(None, closed), None)
        self._known[tag] = name, *found
        return self._known[tag]


def _refuse_doctype(*_: object) -> None:
    raise UnreadableRecording(_NO_DOCTYPE)
