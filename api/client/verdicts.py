"""What an answer is worth: whether it decides the request, and when else to ask again."""

from typing import Any, Final

import httpx

PACED: Final = frozenset({409, 429})  # with `Retry-After`: all is well, but not yet
_PASSING: Final = frozenset({408, 425, 429})  # of the 4xx, those that another try may mend
_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304

Json = dict[str, Any]


def counts(answer: httpx.Response) -> bool:
    """Whether this decides the request. A page is no success: captive portals answer 200 or 302 for the server."""
    if answer.is_success:
        kind = answer.headers.get("Content-Type", "")
        return answer.status_code == _NO_CONTENT or kind.startswith("application/json")
    if answer.status_code == _NOT_MODIFIED:
        return "If-None-Match" in answer.request.headers
    if answer.status_code in PACED and told_seconds(answer) is not None:
        return False
    return answer.is_client_error and answer.status_code not in _PASSING


def told_seconds(answer: httpx.Response) -> float | None:
    """`Retry-After`, which our server tells in seconds."""
    told = answer.headers.get("Retry-After", "")
    return float(told) if told.isdecimal() and told.isascii() else None


def decoded(answer: httpx.Response) -> Json:
    """The JSON object of an answer; empty when it is none."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
