"""An SVG under construction. Self-contained: no script, style sheet, font or reference to anything outside."""

import math
from collections.abc import Iterable
from typing import Final

from lxml import etree

_NS: Final = "http://www.w3.org/2000/svg"
_FONT: Final = "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"

Point = tuple[float, float]
Value = str | float


class Svg:
    """Elements in the order of painting. Attributes are named as in Python: `stroke_width`."""

    def __init__(self, width: int, height: int, label: str, background: str) -> None:
        self._root = etree.Element(f"{{{_NS}}}svg", nsmap={None: _NS})  # type: ignore[dict-item]  # the stubs know no default namespace
        self._set(self._root, width=width, height=height, viewBox=f"0 0 {width} {height}", role="img")
        self._root.set("font-family", _FONT)
        self._root.set("font-size", "11")
        self._add("title").text = label  # what a screen reader says
        self._add("rect", width=width, height=height, fill=background)

    def path(self, data: str, **attributes: Value) -> None:
        """A line or a shape; see `line`."""
        self._add("path", d=data, **attributes)

    def circle(self, at: Point, radius: float, **attributes: Value) -> None:
        """A disc or a ring."""
        self._add("circle", cx=at[0], cy=at[1], r=radius, **attributes)

    def text(self, at: Point, words: str, then: str = "", then_fill: str = "", **attributes: Value) -> None:
        """A word or two, right of the point unless `text_anchor` says otherwise; `then` one that matters less."""
        element = self._add("text", x=at[0], y=at[1], **attributes)
        element.text = words
        if then:
            rest = etree.SubElement(element, f"{{{_NS}}}tspan")
            self._set(rest, dx=6, font_size=11, font_weight="400", fill=then_fill)
            rest.text = then

    def encode(self) -> bytes:
        """The document."""
        document: bytes = etree.tostring(self._root, encoding="UTF-8")
        return document

    def _add(self, name: str, **attributes: Value) -> etree._Element:
        element = etree.SubElement(self._root, f"{{{_NS}}}{name}")
        self._set(element, **attributes)
        return element

    def _set(self, element: etree._Element, **attributes: Value) -> None:
        for name, value in attributes.items():
            kept = name if name == "viewBox" else name.replace("_", "-")
            element.set(kept, value if isinstance(value, str) else number(value))


def line(points: Iterable[Point], *, closed: bool = False) -> str:
    """Path data through the points, those that fall on their neighbour left out."""
    shown: list[str] = []
    for x, y in points:
        point = f"{number(x)} {number(y)}"
        if not shown or shown[-1] != point:
            shown.append(point)
    if len(shown) == 1:
        shown.append(shown[0])  # a round cap makes a dot of it
    return f"M{'L'.join(shown)}{'Z' if closed else ''}"


def number(value: float) -> str:
    """To a tenth of a pixel, as short as can be."""
    if not math.isfinite(value):
        raise ValueError("a picture has no place for what is not a number")
    shown = f"{value:.1f}".removesuffix(".0")
    return "0" if shown == "-0" else shown
