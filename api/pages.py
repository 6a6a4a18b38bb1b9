"""Pages by cursor: `limit` and `cursor` in, `next_cursor` out, null on the last page. And lists by `ids`."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query

from api.cursors import Place
from api.services import Services
from domain.errors import DomainError
from projections.projection import BEFORE_ALL

Limit = Annotated[int, Query(ge=1, le=100)]
MAX_IDS: Final = 100
_ID: Final = "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
Ids = Annotated[
    str,
    Query(
        max_length=40 * MAX_IDS,
        pattern=f"^{_ID}(,{_ID}){{0,{MAX_IDS - 1}}}$",
        description=f"Up to {MAX_IDS} ids, with commas between them.",
    ),
]
_OF_CURSORS: Final[dict[str, Any]] = {"maxLength": 200}  # told; a longer one is as malformed as any other
Cursor = Annotated[str | None, Query(json_schema_extra=_OF_CURSORS)]
Since = Annotated[
    str | None, Query(description="`next_cursor` of the last answer, or `cursor`.", json_schema_extra=_OF_CURSORS)
]


def place_of(cursor: str | None, services: Services, *scope: object) -> Place:
    """Where the page begins; `MalformedCursor` for a cursor of another list."""
    return BEFORE_ALL if cursor is None else services.cursors.read(cursor, *scope)


class InvalidIds(DomainError):
    """`ids` is a list of at most 100 UUIDs, with commas between them."""

    code = "invalid-parameter"


def ids_of(text: str) -> list[UUID]:
    """Each once, in their order. `InvalidIds`."""
    try:
        found = [*dict.fromkeys(map(UUID, text.split(",")))]
    except ValueError:
        raise InvalidIds from None
    if len(found) > MAX_IDS:
        raise InvalidIds
    return found
