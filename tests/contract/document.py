"""Today's OpenAPI document, and the one that was released."""

import json
from pathlib import Path
from typing import Any, Final, cast

from api.app import declared
from api.services import Services

RELEASED: Final = Path(__file__).with_name("released.json")


def todays() -> dict[str, Any]:
    """As the app would serve it; nothing is started for it."""
    return declared(cast(Services, None)).openapi()


def released() -> dict[str, Any]:
    """As apps that are out there know it."""
    found: dict[str, Any] = json.loads(RELEASED.read_text())
    return found


def keep(document: dict[str, Any]) -> None:
    """Make it the released one."""
    RELEASED.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for."""
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node
