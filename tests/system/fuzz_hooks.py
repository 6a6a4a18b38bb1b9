"""What Schemathesis is told about the product, and loads itself (`SCHEMATHESIS_HOOKS`): how to sign in, files that are
recordings, and what a schema cannot say.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

import httpx
import schemathesis
from schemathesis import AuthContext, Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

from tests.recordings import fit

_URL: Final = os.environ["CAIRN_FUZZ_URL"]
_CREDENTIALS: Final = {"email": os.environ["CAIRN_FUZZ_EMAIL"], "password": os.environ["CAIRN_FUZZ_PASSWORD"]}
_KEPT: Final = frozenset(os.environ["CAIRN_FUZZ_KEPT"].split(","))  # activities that are there to the end
_TOKEN_SECONDS: Final = 300.0

# ST202 says that whatever fits the schema must be accepted. What no schema can say, by the code of the refusal:
BEYOND_SCHEMAS: Final[Mapping[str, str]] = {
    "malformed-cursor": "cursors are signed, for one user and one list",
    "malformed-position": "positions are given out by the server",
    "cannot-follow-yourself": "who asks is not in the schema",
    "goal-ends-before-it-starts": "two fields that must fit each other",
    "range-empty": "as above",
    "goal-needs-an-end": "a field that is needed by another one's value",
    "entry-impossible": "as above",
    "entry-out-of-time": "JSON Schema has no bounds of dates",
    "goal-out-of-time": "JSON Schema has no bounds of dates",
    "time-zone-unknown": "there are 600, and others next year",
    "idempotency-key-reused": "the key was used for something else before",
    "activity-id-reserved": "UUIDs of version 8 are the server's, and JSON Schema knows of no versions",
    "recording-format-unknown": "to a schema, a file is any bytes",
    "recording-empty": "as above",
    "recording-unreadable": "as above",
    "chunk-empty": "as above",
}


@schemathesis.auth(refresh_interval=None)
class SignedIn:
    """Anna. Who signs out does so in a session of its own, or nobody would be signed in from then on."""

    def __init__(self) -> None:
        self._token, self._until = "", 0.0

    def get(self, case: Case[Any], _context: AuthContext) -> str:
        """An access token."""
        if case.operation.label == "DELETE /v1/sessions":
            return _sign_in()
        if time.monotonic() > self._until:
            self._token, self._until = _sign_in(), time.monotonic() + _TOKEN_SECONDS
        return self._token

    def set(self, case: Case[Any], data: str, _context: AuthContext) -> None:
        """Put it into the request."""
        case.headers["Authorization"] = f"Bearer {data}"


def _sign_in() -> str:
    answer = httpx.post(f"{_URL}/v1/sessions", json=_CREDENTIALS, timeout=30)
    return str(answer.json()["access_token"])


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001 - the hook's shape
    """Some activities are never deleted, and a file that is meant well is a recording."""
    label, activity_id = case.operation.label, str(case.path_parameters.get("activity_id", ""))
    if label == "DELETE /v1/activities/{activity_id}" and activity_id in _KEPT:
        case.path_parameters["activity_id"] = str(uuid4())
    if label == "PUT /v1/activities/{activity_id}" and case.meta is not None and case.meta.generation.mode.is_positive:
        case.body = fit(seed=len(activity_id), kilometres=0.2)


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:  # noqa: ARG001 - as above
    """Whether it is a finding. A 503 of these two is none (ST101): it says what the instance waits for."""
    if case.operation.label in ("GET /readyz", "GET /startupz") and response.status_code == 503:
        return False
    if response.status_code in _BELOW_THE_APP:
        return False
    if isinstance(failure, RejectedPositiveData):
        return not _is_beyond_schemas(json.loads(response.content))
    if isinstance(failure, AcceptedNegativeData):
        return not _is_meant(case.operation.label, failure.message)
    return True


def _is_beyond_schemas(problem: Mapping[str, Any]) -> bool:
    """One thing more that no schema says: 2.0 is an integer in JSON Schema, and none to us."""
    return problem["code"] in BEYOND_SCHEMAS or "got `float`" in str(problem.get("errors"))


def _is_meant(label: str, message: str) -> bool:
    """What is taken though it does not fit the schema (ST201): a file is judged once it is safe, so that 202 is no word
    on what is in it; and of these headers, what cannot be read counts as not sent.
    """
    if label in _FILES and "parameter" not in message:
        return True
    of_headers = re.search(r"Invalid component: parameters? (.+) in header", message)
    return of_headers is not None and set(re.findall(r"`([^`]+)`", of_headers[1])) <= _LENIENT


_BELOW_THE_APP: Final = (408, 414, 431)  # the server's own, whatever the route
_LENIENT: Final = frozenset({"Cairn-Client", "If-None-Match", "Prefer"})
_FILES: Final = ("PUT /v1/activities/{activity_id}", "PUT /v1/activities/{activity_id}/chunks/{seq}")
