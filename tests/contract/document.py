"""Today's OpenAPI document, and the one that was released."""

import json
from pathlib import Path
from typing import Any, Final, cast

from api.app import declared
from api.problems import STATUSES
from api.services import Services

RELEASED: Final = Path(__file__).with_name("released.json")
CODES: Final = Path(__file__).with_name("codes.json")  # of problems, with their statuses


def todays() -> dict[str, Any]:
    """As the app would serve it; nothing is started for it."""
    return declared(cast(Services, None)).openapi()


def released() -> dict[str, Any]:
    """As apps that are out there know it."""
    found: dict[str, Any] = json.loads(RELEASED.read_text())
    return found


def released_codes() -> dict[str, int]:
    """Codes of problems as apps know them, with their statuses."""
    found: dict[str, int] = json.loads(CODES.read_text())
    return found


def keep(document: dict[str, Any]) -> None:
    """Make it the released one, with today's codes."""
    RELEASED.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    CODES.write_text(json.dumps(STATUSES, indent=1, sort_keys=True) + "\n")


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for."""
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node
