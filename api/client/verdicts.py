"""What an answer is worth: whether it decides the request, and when else to ask again; the two ways to get none."""

from collections.abc import Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

PACED: Final = frozenset({409, 429})  # with `Retry-After`: all is well, but not yet
_PASSING: Final = frozenset({408, 425, 429})  # of the 4xx, those that another try may mend
_NO_CONTENT: Final = 204
_NOT_FOUND: Final = 404
_NOT_MODIFIED: Final = 304

Json = dict[str, Any]


class Refused(Exception):
    """The server says no, and would say it again. `problem` is what it says, `code` its code (docs/problems.md);
    an empty `code` means that it was not the server, but something on the way to it.
    """

    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or f"HTTP {status}")
        self.status = status
        self.code = code_in(problem)
        self.problem = problem

    @property
    def is_missing(self) -> bool:
        """Whether it is the server's word that there is no such thing."""
        return self.status == _NOT_FOUND and bool(self.code)


class Unreachable(Exception):
    """No answer that counts within the client's patience. `again_in`: seconds until it makes sense to ask again,
    infinite when the session is over; `broke`: the network was at fault the last time.
    """

    def __init__(self, told: str, again_in: float, *, broke: bool = False) -> None:
        super().__init__(told)
        self.again_in = again_in
        self.broke = broke


def counts(answer: httpx.Response, wants: Collection[str] | None = None) -> bool:
    """Whether this decides the request. A page is no success: captive portals answer 200 or 302 for the server. Nor is
    JSON that is cut off, or without what is wanted; 204 only where nothing is.
    """
    if answer.is_success:
        if answer.status_code == _NO_CONTENT:
            return wants is None
        found = _object(answer) if answer.headers.get("Content-Type", "").startswith("application/json") else None
        return found is not None and found.keys() >= {*(wants or ())}
    if answer.status_code == _NOT_MODIFIED:
        return "If-None-Match" in answer.request.headers
    if answer.status_code in PACED and told_seconds(answer) is not None:
        return False
    return answer.is_client_error and answer.status_code not in _PASSING


def code_in(problem: Json) -> str:
    """The code of a refusal, as all of the server's have one; empty when there is none."""
    code = problem.get("code")
    return code if isinstance(code, str) else ""


def told_seconds(answer: httpx.Response) -> float | None:
    """`Retry-After`, which our server tells in seconds."""
    told = answer.headers.get("Retry-After", "")
    return float(told) if told.isdecimal() and told.isascii() else None


def told_at(answer: httpx.Response) -> datetime | None:
    """`Date`, when it tells one."""
    try:
        at = parsedate_to_datetime(answer.headers.get("Date", ""))
    except (ValueError, OverflowError):  # the second for a zone without end
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at  # -0000: in UTC, of no known zone (RFC 5322, 3.3)


def decoded(answer: httpx.Response) -> Json:
    """The JSON object of an answer; empty when it is none."""
    return _object(answer) or {}


def _object(answer: httpx.Response) -> Json | None:
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
