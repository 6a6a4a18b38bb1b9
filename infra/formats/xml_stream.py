"""XML as a stream of elements, for files from strangers: no DTD, no entities, no network, bounded depth and memory."""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Final, cast

from lxml import etree

from domain.recordings.recording import UnreadableRecording

_DOCTYPE: Final = re.compile(rb"<\s*!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
_PROLOG_BYTES: Final = 64 * 1024  # a DTD stands before the root element
_MOST_UNUSED: Final = 100_000  # elements in a row that no recording has, and that take memory
_NO_DOCTYPE: Final = "The XML declares a DOCTYPE, which no recording needs: remove it."


class Elements:
    """The elements of a file as they end. After a syntax error `broken` says so, and what came before counts."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.broken = False
        self.root: etree._Element | None = None  # known once the first element has ended

    def ended(self, *names: str, kept: frozenset[str] = frozenset()) -> Iterator[tuple[str, etree._Element]]:
        """Local name and element, when one of these names ends.

        It is emptied, and all before it in its parent freed, when the next one is asked for; those in `kept` are
        emptied with their parent only.
        """
        if _DOCTYPE.search(self._data[:_PROLOG_BYTES].replace(b"\0", b"")):  # the NULs are UTF-16's
            raise UnreadableRecording(_NO_DOCTYPE)
        wanted, unused = frozenset(names) | kept, 0
        parsing = etree.iterparse(
            BytesIO(self._data.lstrip()),
            events=("end",),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        try:
            for _, element in parsing:
                if self.root is None:
                    self.root = _checked_root(element)
                name, unused = local(element), unused + 1
                if unused > _MOST_UNUSED:
                    raise UnreadableRecording("The XML is mostly other things than a recording: export it again.")
                if name not in wanted:
                    continue
                yield name, element
                if name not in kept:
                    unused = 0
                    _free(element)
        except etree.XMLSyntaxError:
            self.broken = True


def _checked_root(element: etree._Element) -> etree._Element:
    """The root of the document, which declares no DTD in whatever encoding."""
    tree = element.getroottree()
    if cast("etree.DTD | None", tree.docinfo.internalDTD) is not None:  # the stubs forget None
        raise UnreadableRecording(_NO_DOCTYPE)
    return tree.getroot()


def local(element: etree._Element) -> str:
    """The name without its namespace, or without a prefix that was never bound."""
    return str(element.tag).rpartition("}")[2].rpartition(":")[2]


def parent_of(element: etree._Element) -> str:
    """The local name of the element around, empty for the root."""
    parent = element.getparent()
    return "" if parent is None else local(parent)


def text_of(element: etree._Element, name: str) -> str | None:
    """The text of the first child of this local name."""
    for child in element:
        if local(child) == name:
            return (child.text or "").strip() or None
    return None


def number(text: str | None) -> float:
    """The number, NaN when there is none that is finite and could be a measurement."""
    try:
        value = float(text) if text is not None and "_" not in text else float("nan")
    except ValueError:
        return float("nan")
    return value if abs(value) < 1e12 else float("nan")


def _free(element: etree._Element) -> None:
    element.clear()
    parent = element.getparent()
    if parent is not None:
        while (previous := element.getprevious()) is not None:
            parent.remove(previous)
