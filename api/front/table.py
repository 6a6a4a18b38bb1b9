"""Which route a path belongs to, by its segments: as many steps as the path has, however many routes there are."""

from collections.abc import Mapping
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

_DEEPEST: Final = 32  # segments; ours have six


class _Node(Generic[T]):
    __slots__ = ("found", "literal", "names", "parameter")

    def __init__(self) -> None:
        self.literal: dict[str, _Node[T]] = {}
        self.parameter: _Node[T] | None = None
        self.found: dict[str, T] = {}  # by method
        self.names: dict[str, tuple[str, ...]] = {}  # of the path's parameters, by method


class Found(NamedTuple, Generic[T]):
    """What answers at a path by method, the names of its parameters by method, and their values."""

    answering: Mapping[str, T]
    names: Mapping[str, tuple[str, ...]]
    values: list[str]


class Table(Generic[T]):
    """Paths such as `/v1/activities/{activity_id}/track`, each with what answers a method there.

    Where a literal segment and a parameter both fit, the literal one wins if the rest of the path fits too.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, path: str, method: str, answering: T) -> None:
        """Put it in. A segment is a literal or a parameter: `ValueError` for one that is both (`{id}.gpx`)."""
        node, names = self._root, list[str]()
        for segment in path.split("/"):
            if segment.startswith("{") and segment.endswith("}") and segment.count("{") == 1:
                names.append(segment[1:-1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            elif "{" in segment:
                raise ValueError(f"{path}: a segment is either a parameter or none")
            else:
                node = node.literal.setdefault(segment, _Node())
        node.found[method] = answering
        node.names[method] = tuple(names)

    def find(self, path: str) -> "Found[T] | None":
        """None: nothing answers there."""
        segments = path.split("/")
        if len(segments) > _DEEPEST:
            return None
        values: list[str] = []
        node = self._root
        for segment in segments:
            if segment in node.literal:
                if node.parameter is not None:
                    return self._tried(segments)
                node = node.literal[segment]
            elif node.parameter is not None and segment:
                node = node.parameter
                values.append(segment)
            else:
                return None
        return Found(node.found, node.names, values) if node.found else None

    def _tried(self, segments: list[str]) -> "Found[T] | None":
        """As `find`, where a segment may be either: one way after the other."""
        values: list[str] = []
        node = _find(self._root, segments, 0, values)
        return None if node is None else Found(node.found, node.names, values)


def _find(node: _Node[T], segments: list[str], at: int, values: list[str]) -> _Node[T] | None:
    if at == len(segments):
        return node if node.found else None
    segment = segments[at]
    literal = node.literal.get(segment)
    if literal is not None and (found := _find(literal, segments, at + 1, values)) is not None:
        return found
    if node.parameter is None or not segment:
        return None
    depth = len(values)
    values.append(segment)
    found = _find(node.parameter, segments, at + 1, values)
    if found is None:
        del values[depth:]
    return found
