"""Requests of an app's version with the answers that it was built on: played again, and compared.

A story is a file in `golden/`, by app and version. `<kind:name>` in it stands for what is another every time:
`<uuid:run>`, `<email:anna>` and `<key:tap>` are made when a request first needs them; `<token:step.access_token>`,
`<position:step.position>`, `<etag:step.etag>` and `<cursor:step.next_cursor>` are taken from the answer to a step.
"""

import asyncio
import gzip
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from tests import recordings

STORIES: Final = Path(__file__).with_name("golden")
HEADERS: Final = (  # what apps may rely on; the rest is HTTP's own
    *("Content-Type", "Location", "ETag", "Cairn-Position", "Idempotency-Replayed", "Retry-After"),
    *("WWW-Authenticate", "Deprecation", "Sunset", "Link"),
)
PATTERNS: Final = {
    "uuid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "email": r"\S+@\S+",
    "key": r"\S+",
    "token": r"[A-Za-z0-9._~-]{20,}",
    "position": r"[A-Za-z0-9._~-]+",
    "etag": r'"[^"]+"',
    "cursor": r"[A-Za-z0-9_-]+",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z",
    "date": r"\d{4}-\d\d-\d\d",
    "number": r"\d+",
    "text": r"(?s:.+)",
}
PLACE: Final = re.compile(rf"<({'|'.join(PATTERNS)})(?::([\w.-]+))?>")
_LIKE: Final = 0.01  # a better measurement is no other contract
_PATIENCE: Final = 150  # of 0.2 s, for what is done in the background

Names = dict[str, str]


class Differs(AssertionError):
    """An app of this version would get something else than what it was built on."""


def load(name: str) -> dict[str, Any]:
    """The story of an app's version."""
    story: dict[str, Any] = json.loads((STORIES / f"{name}.json").read_text())
    return story


async def play(http: httpx.AsyncClient, story: Mapping[str, Any]) -> int:
    """Send every request, compare every answer; how many."""
    names: Names = {}
    for step in story["steps"]:
        answer = await ask(http, story["client"], step, names)
        place = f"{story['client']}, {step['name']}"
        told = step["answer"]
        if answer.status_code != told["status"]:
            raise Differs(f"{place}: the status was {told['status']}, is {answer.status_code}: {answer.text[:300]}")
        for name, value in told["headers"].items():
            compare(f"{place}: {name}", value, answer.headers.get(name), names)
        if "json" in told:
            compare(place, told["json"], answer.json(), names)
    return len(story["steps"])


async def ask(http: httpx.AsyncClient, client: str, step: Mapping[str, Any], names: Names) -> httpx.Response:
    """The answer to a step's request: once it is as far as `until` says, and not stale."""
    request = step["request"]
    headers = {"Cairn-Client": client, **fill(request.get("headers", {}), names)}
    body, kind = _body(request, names)
    for _ in range(_PATIENCE):
        path = fill(request["path"], names)
        answer = await http.request(request["method"], path, headers={**kind, **headers}, content=body)
        if "Cairn-Stale" not in answer.headers and step.get("until", {}).items() <= _told(answer).items():
            return answer
        await asyncio.sleep(0.2)
    raise Differs(f"{client}, {step['name']}: never got as far as {step.get('until', 'its position')}")


def _told(answer: httpx.Response) -> Mapping[str, Any]:
    found = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _body(request: Mapping[str, Any], names: Names) -> tuple[bytes | None, dict[str, str]]:
    if "json" in request:
        return json.dumps(fill(request["json"], names)).encode(), {"Content-Type": "application/json"}
    if (told := request.get("recording")) is None:
        return None, {}
    write = {"fit": recordings.fit, "gpx": recordings.gpx}[told["format"]]
    later = timedelta(days=told.get("days_later", 0))
    body = write(told["seed"], told["kilometres"], recordings.STARTED + later)
    begin, end = told.get("part", [None, None])
    return (gzip.compress(body, mtime=0) if told.get("gzip") else body[begin:end]), {}


def fill(value: Any, names: Names) -> Any:
    """With values for places: known ones, or new ones where an app makes them."""
    if isinstance(value, dict):
        return {key: fill(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [fill(one, names) for one in value]
    return PLACE.sub(lambda place: _value(place, names), value) if isinstance(value, str) else value


def _value(place: re.Match[str], names: Names) -> str:
    kind, name = place.groups()
    made = {"uuid": str(uuid4()), "email": f"{name}-{uuid4().hex}@example.com", "key": uuid4().hex}
    return names.setdefault(f"{kind}:{name}", made[kind]) if kind in made else names[f"{kind}:{name}"]


def _alike(told: float, found: float) -> bool:
    """Whether one figure is a better measurement of the other: within a hundredth, or by one in its last digit."""
    digit = 10.0 ** int(Decimal(repr(told)).as_tuple().exponent)
    return abs(found - told) <= max(_LIKE * abs(told), 1.001 * digit)


def compare(place: str, told: Any, found: Any, names: Names) -> None:
    """Raise `Differs` unless all that was told is there. More fields may be."""
    match told:
        case str() if isinstance(found, str):
            _compare_text(place, told, found, names)
        case dict() if isinstance(found, dict):
            for key, value in told.items():
                if key not in found:
                    raise Differs(f"{place}.{key} was there, and is not")
                compare(f"{place}.{key}", value, found[key], names)
        case list() if isinstance(found, list) and len(found) == len(told):
            for number, value in enumerate(told):
                compare(f"{place}[{number}]", value, found[number], names)
        case float() if isinstance(found, float) and _alike(told, found):
            pass
        case _ if type(told) is not type(found) or told != found:
            raise Differs(f"{place} was {told!r}, is {found!r}")


def _compare_text(place: str, told: str, found: str, names: Names) -> None:
    pattern, kinds, end = "", [], 0
    for part in PLACE.finditer(told):
        pattern += re.escape(told[end : part.start()])
        pattern += f"({PATTERNS[part[1]]})"
        kinds.append(f"{part[1]}:{part[2]}" if part[2] else "")
        end = part.end()
    fitting = re.fullmatch(pattern + re.escape(told[end:]), found)
    if fitting is None:
        raise Differs(f"{place} was {told!r}, is {found!r}")
    for name, value in zip(kinds, fitting.groups(), strict=True):
        if name and names.setdefault(name, value) != value:
            raise Differs(f"{place} was the {name} of before, is {value!r}")
