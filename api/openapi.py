"""OpenAPI for bodies that msgspec reads and writes: their schemas stand beside FastAPI's own."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.problems import Problem

_REF: Final = "#/components/schemas/{name}"
_COMPONENTS: Final[dict[str, Any]] = {}  # filled while routers are defined: a schema for each named type


def _schema(kind: type[Any]) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([kind], ref_template=_REF)
    _COMPONENTS.update(components)
    return schema


def json_body(kind: type[Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads JSON."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _schema(kind)}}}}


def file_body(*media_types: str) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a file."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": dict.fromkeys(media_types, binary)}}


def answers(*problems: int, **kinds: type[Any] | None) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: `ok=Feed`, `created=Signed`, `accepted=…`, `no_content=None`, and problem statuses."""
    told: dict[int | str, dict[str, Any]] = {}
    for name, kind in kinds.items():
        content = {} if kind is None else {"content": {"application/json": {"schema": _schema(kind)}}}
        told[_STATUSES[name]] = {"description": name.replace("_", " "), **content}
    for status in problems:
        content = {"application/problem+json": {"schema": _schema(Problem)}}
        told[status] = {"description": "problem", "content": content}
    return told


def answers_file(media_types: str | Sequence[str], *problems: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers with a file; give it `response_class=Response` too."""
    kinds = [media_types] if isinstance(media_types, str) else media_types
    content = {kind: {"schema": _TEXT if kind.endswith("xml") else _BINARY} for kind in kinds}
    return {200: {"description": "ok", "content": content}, **answers(*problems)}


_TEXT: Final = {"type": "string"}
_BINARY: Final = {"type": "string", "format": "binary"}
_STATUSES: Final[Mapping[str, int]] = {"ok": 200, "created": 201, "accepted": 202, "no_content": 204}


def install(app: FastAPI) -> None:
    """Serve one document with FastAPI's paths and our components."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(_COMPONENTS)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the way to extend it that FastAPI documents
