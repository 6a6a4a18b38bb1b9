"""XML as a stream of elements, for files from strangers: no DTD, no entities, no network, bounded depth and memory."""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Final

from lxml import etree

from domain.recordings.recording import UnreadableRecording

_DOCTYPE: Final = re.compile(rb"<\s*!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
_PROLOG_BYTES: Final = 64 * 1024  # a DTD stands before the root element


class Elements:
    """The elements of a file as they end. After a syntax error `broken` says so, and what came before counts."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.broken = False

    def ended(self, *names: str) -> Iterator[tuple[str, etree._Element]]:
        """Local name and element, when one of these names ends. Its content is freed when the next one is asked for."""
        prolog = self._data[:_PROLOG_BYTES].replace(b"\0", b"")  # also in UTF-16
        if _DOCTYPE.search(prolog):
            raise UnreadableRecording("The XML declares a DOCTYPE, which no recording needs: remove it.")
        wanted = frozenset(names)
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
                name = local(element)
                if name in wanted:
                    yield name, element
                    _free(element)
        except etree.XMLSyntaxError:
            self.broken = True


def local(element: etree._Element) -> str:
    """The name without its namespace, or without a prefix that was never bound."""
    return str(element.tag).rpartition("}")[2].rpartition(":")[2]


def text_of(element: etree._Element, name: str) -> str | None:
    """The text of the first child of this local name."""
    for child in element:
        if local(child) == name:
            return (child.text or "").strip() or None
    return None


def number(text: str | None) -> float:
    """The number, NaN when there is none that is finite."""
    try:
        value = float(text) if text is not None and "_" not in text else float("nan")
    except ValueError:
        return float("nan")
    return value if abs(value) < 1e12 else float("nan")


def _free(element: etree._Element) -> None:
    """Let go of the element's content, and of its like before it: a track's points, but not a lap's totals."""
    element.clear()
    parent, previous = element.getparent(), element.getprevious()
    if parent is not None and previous is not None and previous.tag == element.tag:
        parent.remove(previous)
