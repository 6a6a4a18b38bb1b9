"""Routes that are on their way out: still answered, and said so in every answer; who still calls them is counted."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from functools import wraps
from typing import Any, Final, TypeVar

from fastapi import Response
from msgspec import Struct

from api.front.kept import KEPT, Kept
from api.front.request import Request

E = TypeVar("E", bound=Callable[..., Awaitable[Response]])


class Deprecation(Struct, frozen=True):
    """Since when, until when at least, and what to call instead. It answers after the sunset too, as long as it is
    in the code: an app that nobody updates shall go on.
    """

    since: date
    sunset: date
    successor: str

    def headers(self) -> Mapping[str, str]:
        """RFC 9745, RFC 8594, and RFC 5829 for what comes after it."""
        return {
            "Deprecation": f"@{int(_midnight(self.since).timestamp())}",
            "Sunset": format_datetime(_midnight(self.sunset), usegmt=True),
            "Link": f'<{self.successor}>; rel="successor-version", </docs>; rel="deprecation"; type="text/html"',
        }


_DEPRECATIONS: Final[dict[Callable[..., Any], Deprecation]] = {}


def deprecated(*, since: date, sunset: date, successor: str) -> Callable[[E], E]:
    """Put this between `@router.get(...)` and the endpoint, which has to take a request first.

    `successor` is the path to call instead; `sunset` the day before which the route stays, not sooner than `since`.
    What the route refuses says it too: `api/front/front.py` makes these answers.
    """
    if sunset < since:
        raise ValueError("a sunset is not earlier than the deprecation (RFC 9745, section 4)")
    noted = Deprecation(since, sunset, successor)

    def mark(endpoint: E) -> E:
        headers = noted.headers()

        @wraps(endpoint)
        async def answer(request: Request, *others: object) -> Response:
            found = await endpoint(request, *others)
            found.headers.update(headers)
            kept: Kept | None = request.scope.get(KEPT)
            if kept is not None:
                kept.tell(headers)
            return found

        _DEPRECATIONS[answer] = noted
        return answer  # type: ignore[return-value]  # called as the endpoint is

    return mark


def deprecation_of(endpoint: Callable[..., Any] | None) -> Deprecation | None:
    """What was said of it."""
    return None if endpoint is None else _DEPRECATIONS.get(endpoint)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
