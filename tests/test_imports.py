"""What the domain and the projections may import: all that is not listed here does I/O, or is none of their business.

`lint-imports` looks at the rest, and at what is imported by a detour (pyproject.toml).
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

CHECKOUT: Final = Path(__file__).parents[1]
# of the standard library: no files, sockets, processes, clocks or dice
PLAIN: Final = frozenset(
    {
        *("abc", "binascii", "bisect", "calendar", "collections", "contextlib", "dataclasses", "datetime", "enum"),
        *("functools", "hashlib", "heapq", "itertools", "math", "operator", "re", "statistics", "string", "struct"),
        *("typing", "unicodedata", "uuid", "zlib"),
    }
)
ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "domain": PLAIN | {"domain", "msgspec", "numpy", "pypolyline", "pyproj", "shapely"},
    "projections": PLAIN
    | {"projections", "domain.errors", "domain.events", "domain.measures", "domain.texts", "msgspec", "psycopg"},
}
DICE: Final = frozenset({"uuid.uuid1", "uuid.uuid4", "numpy.random"})


def imported(source: str) -> Iterator[str]:
    """Names with their modules: `uuid.UUID`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{one.name}" for one in node.names)


def refused(package: str, source: str) -> list[str]:
    return [
        name
        for name in imported(source)
        if name in DICE or not any(name == one or name.startswith(f"{one}.") for one in ALLOWED[package])
    ]


@pytest.mark.parametrize("package", ALLOWED)
def test_only_what_is_plain_is_imported(package: str) -> None:
    paths = sorted((CHECKOUT / package).rglob("*.py"))
    assert paths
    assert {str(path): found for path in paths if (found := refused(package, path.read_text()))} == {}


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("domain", "import httpx"),
        ("domain", "from psycopg_pool import ConnectionPool"),
        ("domain", "import time"),
        ("domain", "from uuid import UUID, uuid4"),
        ("projections", "from domain.uploads import Upload"),
        ("projections", "from domain import notices"),
        ("projections", "import redis.asyncio"),
    ],
)
def test_other_imports_are_seen(package: str, line: str) -> None:
    assert len(refused(package, line)) == 1
