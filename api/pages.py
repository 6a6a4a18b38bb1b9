"""Pages by cursor: `limit` and `cursor` in, `next_cursor` out, null on the last page."""

from typing import Annotated

from fastapi import Query

from api.cursors import Place
from api.services import Services
from projections.projection import BEFORE_ALL

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=200)]


def place_of(cursor: str | None, services: Services, *scope: object) -> Place:
    """Where the page begins; `MalformedCursor` for a cursor of another list."""
    return BEFORE_ALL if cursor is None else services.cursors.read(cursor, *scope)
