"""Holds answers to the document: status, media type, body and headers are as the route says."""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import jsonschema_rs

from tests.contract.document import resolved, todays

_OF_HTTP: Final = frozenset({"content-type", "content-length", "content-encoding"})  # others have to be named
_NOT_OF_ROUTES: Final = frozenset({405, 408, 414, 431, 500})  # the server's, whatever was asked for


class Unlike(AssertionError):
    """The answer is not what the document says."""


@cache
def _document() -> dict[str, Any]:
    return todays()


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Those with fewer places to fill in first: `/users/me` before `/users/{id}`."""
    paths = sorted(_document()["paths"], key=lambda path: (path.count("{"), path))
    return [(re.compile(re.sub(r"\\{.+?\\}", "[^/]+", re.escape(path))), path) for path in paths]


@cache
def _validator(path: str, method: str, status: str, media_type: str) -> jsonschema_rs.Draft202012Validator:
    response = resolved(_document(), _document()["paths"][path][method]["responses"][status])
    schema = {**response["content"][media_type]["schema"], "components": _document()["components"]}
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def check(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raise `Unlike` when a route of ours answered otherwise than it says. `headers` in lower case."""
    found = next((name for pattern, name in _paths() if pattern.fullmatch(path)), None)
    operation = _document()["paths"].get(found, {}).get(method.lower())
    if found is None or operation is None or status in _NOT_OF_ROUTES:
        return
    place = f"{method} {found} answered {status}"
    told = next((name for name in (str(status), f"{status // 100}XX") if name in operation["responses"]), None)
    if told is None:
        raise Unlike(f"{place}, which it does not name: add it to answers(...), or to tells(...) of what raises it")
    response = resolved(_document(), operation["responses"][told])
    _check_headers(place, headers, response.get("headers", {}))
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    if "content" not in response:
        if body:
            raise Unlike(f"{place} with a body")
        return
    if media_type not in response["content"]:
        raise Unlike(f"{place} with {media_type or 'no type'}, and names {', '.join(response['content'])}")
    if media_type.endswith("json"):
        try:
            _validator(found, method.lower(), told, media_type).validate(json.loads(body))
        except jsonschema_rs.ValidationError as error:
            raise Unlike(f"{place}: {'/'.join(map(str, error.instance_path))}: {error.message[:300]}") from None


def _check_headers(place: str, headers: Mapping[str, str], told: Mapping[str, Any]) -> None:
    for name in set(headers) - {name.lower() for name in told} - _OF_HTTP:
        raise Unlike(f"{place} with {name}, which it does not name: see api/document.py")
    for name, header in told.items():
        if resolved(_document(), header).get("required") and name.lower() not in headers:
            raise Unlike(f"{place} without {name}")
