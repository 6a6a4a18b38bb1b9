"""Write down what today's server answers to an app's version: `python -m tests.contract.record NAME --server URL`.

`golden/NAME.json` has the requests; their answers are filled in, or replaced. For a new version copy the file of the
one before, change what the app does otherwise, record, and read the difference. The file of a version that is out
there is not recorded anew: it is what that version was built on.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from tests.contract.golden import HEADERS, PATTERNS, STORIES, Names, ask, load

_TOKENS: Final = ("access_token", "refresh_token")
_FREE: Final = ("detail", "polyline", "sha256")  # no app may rely on these: prose, drawings, digests of our own files
_FRACTION: Final = re.compile(r".*T.*\.\d+Z")  # a moment of now; those of recordings are whole seconds
_RANGE: Final = re.compile(r"\d+-\d+")


async def record(http: httpx.AsyncClient, story: dict[str, Any]) -> None:
    """Fill in the answers."""
    names: Names = {}
    for step in story["steps"]:
        answer = await ask(http, story["client"], step, names)
        told: dict[str, Any] = {}
        if "json" in answer.headers.get("Content-Type", ""):
            told = {"json": _general(step["name"], "", answer.json(), names)}
        named = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
        headers = {name: _header(step["name"], name, value, answer, names) for name, value in named.items()}
        step["answer"] = {"status": answer.status_code, "headers": headers, **told}


def _header(step: str, name: str, value: str, answer: httpx.Response, names: Names) -> str:
    match name:
        case "Cairn-Position":
            return _place("position", f"{step}.position", value, names)
        case "ETag" if answer.status_code != 304:  # what two screens have in common today is no promise
            names[f"etag:{step}.etag"] = value
            return f"<etag:{step}.etag>"
        case "Retry-After":
            return "<number>"
        case _:
            return _known(value, names)


def _general(step: str, field: str, value: Any, names: Names) -> Any:
    """The value, with places for what is another every time."""
    if isinstance(value, Mapping):
        told = {key: _general(step, key, one, names) for key, one in value.items()}
        return {**told, "title": "<text>"} if "code" in told else told  # a problem's title is for people
    if isinstance(value, list):
        return [_general(step, field, one, names) for one in value]
    return _text(step, field, value, names) if isinstance(value, str) else value


def _text(step: str, field: str, value: str, names: Names) -> str:
    if field in _TOKENS:
        return _place("token", f"{step}.{field}", value, names)
    if field == "next_cursor":
        return _place("cursor", f"{step}.{field}", value, names)
    if field in _FREE or (field == "errors" and not _RANGE.fullmatch(value)):
        return "<text>"
    if _FRACTION.fullmatch(value):
        return "<time>"
    if value == str(datetime.now(UTC).date()):
        return "<date>"
    known = _known(value, names)
    return _place("uuid", f"{step}.{field}", value, names) if re.fullmatch(PATTERNS["uuid"], known) else known


def _place(kind: str, name: str, value: str, names: Names) -> str:
    """The place that has this value already, or a new one."""
    known = next((key for key, one in names.items() if one == value and key.startswith(f"{kind}:")), f"{kind}:{name}")
    names[known] = value
    return f"<{known}>"


def _known(text: str, names: Names) -> str:
    for name, value in names.items():
        text = text.replace(value, f"<{name}>")
    return text


async def main() -> None:
    """Play the story at a running instance, and keep what it answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="such as ios-1.0")
    parser.add_argument("--server", required=True, help="of a running instance: http://127.0.0.1:8000")
    told = parser.parse_args()
    story = load(told.name)
    async with httpx.AsyncClient(base_url=told.server, timeout=60) as http:
        await record(http, story)
    path = STORIES / f"{told.name}.json"
    path.write_text(json.dumps(story, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{len(story['steps'])} answers in {path}\n")


if __name__ == "__main__":
    asyncio.run(main())
