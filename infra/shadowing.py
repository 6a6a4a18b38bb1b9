"""New versions on trial: each read is asked of the old one too, and what differs is counted."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg import AsyncConnection

from projections.projection import Projection

Row = Mapping[str, Any]


class Shadowing:
    """Counts how often the new version answered as the old one, and how often not."""

    def __init__(self, projections: Sequence[Projection]) -> None:
        self._differs = {(projection.name, projection.version): projection.differs for projection in projections}
        self._counts: dict[str, list[int]] = {}
        self._last: dict[str, str] = {}

    def compare(self, name: str, version: int, schema: str, old: Sequence[Row], new: Sequence[Row]) -> None:
        """Count a read of this version in this schema, whose answers are these."""
        difference = _difference(old, new, self._differs[name, version])
        counted = self._counts.setdefault(schema, [0, 0])
        counted[0] += 1
        if difference is not None:
            counted[1] += 1
            self._last[schema] = difference

    async def store(self, connection: AsyncConnection) -> None:
        """Add what was counted since the last time to what the database has."""
        counts, self._counts = self._counts, {}
        last, self._last = self._last, {}
        for schema, (compared, mismatched) in counts.items():
            await connection.execute(_COUNT_SHADOW, (compared, mismatched, last.get(schema), schema))


def _difference(old: Sequence[Row], new: Sequence[Row], differs: frozenset[str]) -> str | None:
    """The first difference in the columns that both have and that should be equal. Its values are not told."""
    if len(old) != len(new):
        return f"{len(old)} rows before, {len(new)} now"
    for number, (was, now) in enumerate(zip(old, new, strict=True)):
        for name in was.keys() & now.keys() - differs:
            if was[name] != now[name]:
                return f"row {number}, column {name}"
    return None


_COUNT_SHADOW: Final = """
    UPDATE shadow_counts SET compared = compared + %s, mismatched = mismatched + %s,
        last_mismatch = coalesce(%s, last_mismatch) WHERE schema_name = %s
"""
