"""Refusals as answers: RFC 9457 problem details with a public `code`. No input is echoed, at most 20 errors told."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from msgspec import Struct
from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from api.admission.refusals import TurnedAway
from api.admission.spread import spread, who_asks
from api.clients import ClientTooOld
from domain.client_settings import Upgrade
from domain.errors import DomainError

_log = logging.getLogger(__name__)

MAX_ERRORS: Final = 20

STATUSES: Final[Mapping[str, int]] = {
    "not-found": 404,
    "recording-differs": 409,
    "recording-unreadable": 422,
    "recording-empty": 422,
    "processing-failed": 422,
    "body-damaged": 422,
    "session-ended": 401,
    "upload-dropped": 422,
    "stream-contended": 503,
    "stream-unreadable": 503,
    "request-running": 409,
    "idempotency-key-reused": 422,
    "unavailable": 503,
    "email-taken": 409,
    "user-id-taken": 409,
    "sign-in-refused": 401,
    "token-refused": 401,
    "cannot-follow-yourself": 422,
    "goal-ends-before-it-starts": 422,
    "goal-out-of-time": 422,
    "goal-needs-an-end": 422,
    "malformed-position": 400,
    "malformed-cursor": 400,
    "malformed-body": 400,
    "malformed-idempotency-key": 400,
    "invalid-body": 422,
    "invalid-parameter": 422,
    "range-empty": 422,
    "entry-out-of-time": 422,
    "entry-impossible": 422,
    "time-zone-unknown": 422,
    "condition-not-taken": 412,
    "body-too-large": 413,
    "request-too-slow": 408,
    "address-too-long": 414,
    "headers-too-large": 431,
    "malformed-request": 400,
    "method-not-allowed": 405,
    "method-unknown": 501,
    "transfer-coding-unknown": 501,
    "http-version-unknown": 505,
    "unsupported-media-type": 415,
    "unsupported-encoding": 415,
    "recording-format-unknown": 415,
    "activity-id-reserved": 422,
    "recording-closed": 409,
    "recording-processing": 409,
    "chunk-differs": 409,
    "chunks-missing": 409,
    "checksum-differs": 409,
    "chunk-out-of-range": 422,
    "chunk-empty": 422,
    "track-damaged": 503,
    "original-damaged": 503,
    "upload-damaged": 503,
    "export-needs-times": 409,
    "export-needs-positions": 409,
    "client-too-old": 403,  # 426 would have to name a protocol to upgrade to (RFC 9110, 15.5.22)
    "resync-needed": 410,
    "rate-limited": 429,
    "overloaded": 503,
    "internal-error": 500,
}
# seconds, and the window that clients are spread over from there: what everybody meets, not all may repeat at once
_RETRY_AFTER: Final[Mapping[str, tuple[int, int]]] = {
    "stream-contended": (1, 2),
    "stream-unreadable": (60, 60),
    "request-running": (1, 0),
    "recording-processing": (2, 2),
    "unavailable": (2, 8),
    "track-damaged": (60, 60),
    "original-damaged": (60, 60),
    "upload-damaged": (60, 60),
}


class Problem(Struct, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457). Clients match on `code`; `title` and `detail` are for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[str, ...] = ()
    upgrade: Upgrade | None = None  # with `client-too-old`


def problem(code: str, detail: str, *, status: int | None = None, errors: Sequence[str] = ()) -> Problem:
    """The problem of a code; `status` only for codes that HTTP itself names."""
    told = STATUSES[code] if status is None else status
    return Problem(
        type=f"urn:cairn:problem:{code}",
        title=HTTPStatus(told).phrase,
        status=told,
        code=code,
        detail=detail,
        errors=tuple(errors)[:MAX_ERRORS],
    )


def answer_problem(found: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as an answer."""
    more = dict(headers or {})
    if found.code in _RETRY_AFTER:
        more.setdefault("Retry-After", str(_RETRY_AFTER[found.code][0]))
    if found.status == HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = 'Bearer realm="cairn"'
    more["Cache-Control"] = "no-store"
    return Response(msgspec.json.encode(found), found.status, more, "application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every HTTP error and bug with a problem where FastAPI itself answers."""
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(Exception, _answer)


def answer_error(request: Request, error: Exception) -> Response:
    """Whatever an endpoint raised, as an answer."""
    match error:
        case DomainError():
            return _refused(request, error)
        case HTTPException():
            return _http_error(error)
        case RequestValidationError():
            return _invalid(error)
        case ClientDisconnect():  # before its body was whole: nobody reads this answer, and nothing was done
            return answer_problem(problem("malformed-body", "The body ended early."))
        case _:
            return _bug(request, error)


def method_not_allowed(allowed: Iterable[str]) -> Response:
    """There is something at this path, but not for this method."""
    found = problem("method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED.phrase)
    with_head = {*allowed, "HEAD"} if "GET" in allowed else allowed  # which is answered as a GET is
    return answer_problem(found, {"Allow": ", ".join(sorted(with_head))})


async def _answer(request: Request, error: Exception) -> Response:
    return answer_error(request, error)


def _refused(request: Request, error: DomainError) -> Response:
    if error.code == NOT_FOUND.code:  # hidden, deleted and missing look alike, byte for byte
        return answer_problem(NOT_FOUND, {"Cairn-Stale": "true"} if hasattr(request.state, "stale") else None)
    return answer_refusal(error, request.scope)


def problem_of(refusal: DomainError) -> Problem:
    """What is told of a refusal."""
    if refusal.code == NOT_FOUND.code:
        return NOT_FOUND
    errors = refusal.args[1] if len(refusal.args) > 1 else ()
    detail = str(refusal.args[0]) if refusal.args else " ".join((refusal.__doc__ or "").split())
    found = problem(refusal.code, detail, errors=errors)
    return replace(found, upgrade=refusal.upgrade) if isinstance(refusal, ClientTooOld) else found


def answer_refusal(error: DomainError, scope: Scope) -> Response:
    """The refusal as an answer to this request, with a Retry-After of its client's own where there is one."""
    headers = dict(error.headers) if isinstance(error, TurnedAway) else {}
    if error.code in _RETRY_AFTER:
        headers["Retry-After"] = str(spread(*_RETRY_AFTER[error.code], who_asks(scope)))
    return answer_problem(problem_of(error), headers)


def _http_error(error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return answer_problem(NOT_FOUND)
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "-")
    return answer_problem(problem(code, str(error.detail), status=error.status_code), error.headers)


def _invalid(error: RequestValidationError) -> Response:
    """A path or query parameter. An id that is no UUID names nothing: the same 404 as a missing one."""
    places = [(str(found["loc"][0]), str(found["loc"][-1]), _message(found)) for found in error.errors()]
    if any(where == "path" for where, _, _ in places):
        return answer_problem(NOT_FOUND)
    errors = [f"{name}: {message}" for _, name, message in places]
    return answer_problem(problem("invalid-parameter", "A query parameter or header is not valid.", errors=errors))


def _message(found: Mapping[str, Any]) -> str:
    """A pattern is for machines."""
    if found["type"] == "string_pattern_mismatch":
        return "The value is not of the form that the parameter's description has (see /docs)"
    return str(found["msg"])


def _bug(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "This is a fault of the server's. It was logged; the same request is safe to repeat later."
    return answer_problem(problem("internal-error", detail))


NOT_FOUND: Final = problem("not-found", "There is nothing here, or nothing that this user may see.")
