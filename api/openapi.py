"""What routes say of themselves for OpenAPI: bodies, answers, and what their dependencies ask for.

`api/document.py` makes the document of it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.inspect import DateTimeType, Field, StructType, UnionType, type_info

from api.problems import Problem

_REF: Final = "#/components/schemas/{name}"
COMPONENTS: Final[dict[str, Any]] = {}  # filled while routers are defined: a schema for each named type

C = TypeVar("C", bound=Callable[..., Any])


class Told(Struct, frozen=True, kw_only=True):
    """What a dependency asks of a request and does to its answers."""

    bearer: bool = False  # needs an access token
    parameters: tuple[str, ...] = ()  # request headers that it reads, as `api/document.py` describes them
    problems: tuple[int, ...] = ()  # statuses that it may answer with
    headers: tuple[str, ...] = ()  # of a 2xx, where it has something to tell


_TOLD: Final[dict[Callable[..., Any], Told]] = {}


def tells(
    *,
    bearer: bool = False,
    parameters: tuple[str, ...] = (),
    problems: tuple[int, ...] = (),
    headers: tuple[str, ...] = (),
) -> Callable[[C], C]:
    """Say of a dependency what every route that has it asks for and answers: nobody needs to repeat it there."""

    def note(dependency: C) -> C:
        _TOLD[dependency] = Told(bearer=bearer, parameters=parameters, problems=problems, headers=headers)
        return dependency

    return note


def told_by(dependency: Callable[..., Any] | None) -> Told | None:
    """What was said of it."""
    return None if dependency is None else _TOLD.get(dependency)


def method_name(endpoint: str) -> str:
    """What an endpoint's operation is called: `get_feed` is `getFeed`."""
    first, *others = endpoint.split("_")
    return first + "".join(word.capitalize() for word in others)


def json_body(kind: type[Any], *headers: str) -> dict[str, Any]:
    """`openapi_extra` of a route that reads JSON, and these request headers."""
    return _reads({"application/json": {"schema": schema_of(kind)}}, headers)


def file_body(*media_types: str, headers: Sequence[str] = ()) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a file, and these request headers."""
    return _reads({kind: {"schema": _BINARY} for kind in media_types}, headers)


def _reads(content: Mapping[str, Any], headers: Sequence[str]) -> dict[str, Any]:
    body = {"description": "May be packed: `Content-Encoding: gzip` or `zstd`.", "required": True, "content": content}
    return {"requestBody": body, "parameters": [parameter(name) for name in headers]}


def parameter(name: str) -> dict[str, str]:
    """A request header, by its name."""
    return {"$ref": f"#/components/parameters/{name}"}


def answers(
    *problems: int, position: bool | None = None, headers: Iterable[str] = (), **kinds: type[Any] | None
) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: `ok=Feed`, `created=Signed`, `accepted=…`, `no_content=None`, and problem statuses.

    Writes carry a `Cairn-Position`, reads (`ok`) do not; `position` says it where it is the other way round. `headers`
    are what they carry besides, and other routes do not.
    """
    told: dict[int | str, dict[str, Any]] = {}
    for name, kind in kinds.items():
        status = _STATUSES[name]
        content = {} if kind is None else {"content": {"application/json": {"schema": schema_of(kind)}}}
        written = status != 200 if position is None else position
        named = _named([*(_written(status) if written else ()), *headers])
        told[status] = {"description": name.replace("_", " "), **content, **named}
    return {**told, **{status: problem_response(status) for status in problems}}


def _written(status: int) -> Sequence[str]:
    return ("Cairn-Position",) if status in (200, 204) else ("Cairn-Position", "Location")


def _named(headers: Iterable[str]) -> dict[str, Any]:
    told = {name: header(name) for name in headers}
    return {"headers": told} if told else {}


def header(name: str) -> dict[str, str]:
    """An answer's header, by its name."""
    return {"$ref": f"#/components/headers/{name}"}


def problem_response(status: int) -> dict[str, str]:
    """A problem with this status; one of those that `api/document.py` describes."""
    return {"$ref": f"#/components/responses/Problem{status}"}


def answers_file(
    media_types: str | Sequence[str], *problems: int, headers: Iterable[str] = ()
) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers with a file, with these headers; give it `response_class=Response` too."""
    kinds = [media_types] if isinstance(media_types, str) else media_types
    content = {
        kind: {"schema": _TEXT if kind.startswith("text/") or kind.endswith("svg+xml") else _BINARY} for kind in kinds
    }
    return {200: {"description": "ok", "content": content, **_named(headers)}, **answers(*problems)}


_TEXT: Final = {"type": "string"}
_BINARY: Final = {"type": "string", "format": "binary"}
_STATUSES: Final[Mapping[str, int]] = {"ok": 200, "created": 201, "accepted": 202, "no_content": 204}


def schema_of(kind: type[Any]) -> dict[str, Any]:
    """The type's schema; those of the named types in it stand under `components`."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template=_REF)
    structs = {found.cls.__name__: found for found in _structs(type_info(kind), set())}
    for name, component in components.items():
        _mend(component, structs.get(name))
        if COMPONENTS.setdefault(name, component) != component:
            raise TypeError(f"two types of the contract are called {name}: give one of them another name")
    return plain(schema)


def _structs(node: object, seen: set[type]) -> Iterator[StructType]:
    """All structs in a type."""
    if isinstance(node, StructType):
        if node.cls in seen:
            return
        seen.add(node.cls)
        yield node
    parts = node if isinstance(node, tuple) else _parts(node)
    for part in parts:
        yield from _structs(part, seen)


def _parts(node: object) -> Sequence[object]:
    return [getattr(node, name) for name in node.__struct_fields__] if isinstance(node, Struct) else ()


def _mend(component: dict[str, Any], struct: StructType | None) -> None:
    """Say what msgspec's schema leaves open: which fields an answer always has, and that times are RFC 3339."""
    if struct is not None:
        for field in struct.fields:
            component["properties"][field.encode_name] = _dated(component["properties"][field.encode_name], field)
        config = struct.cls.__struct_config__
        if not config.forbid_unknown_fields:  # an answer: only what we read forbids fields
            always = [field for field in struct.fields if field.required or not config.omit_defaults]
            component["required"] = [field.encode_name for field in always]
            for schema in component["properties"].values():
                schema.pop("default", None)
    component.update(plain(component))
    if not component.get("required", True):
        del component["required"]


def _dated(schema: dict[str, Any], field: Field) -> dict[str, Any]:
    kinds = field.type.types if isinstance(field.type, UnionType) else (field.type,)
    if not any(isinstance(kind, DateTimeType) for kind in kinds):
        return schema
    times = schema.get("anyOf", [schema])
    for one in times:
        if one.get("type") == "string":
            one["format"] = "date-time"
    return schema


def _deep(value: object) -> object:
    if isinstance(value, list):
        return [_deep(part) for part in value]
    return plain(value) if isinstance(value, dict) else value


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without what generators of clients stumble over, and with the same meaning."""
    made = {key: _deep(value) for key, value in schema.items()}
    match made.get("prefixItems"):
        case [first, *others] if all(other == first for other in others):  # a pair is a list of two
            del made["prefixItems"]
            made["items"] = first
    match made.get("enum"):
        case [str(), *_]:
            made["type"] = "string"
    if "default" in made and made["default"] is None:
        del made["default"]
    if made.get("type") == "number":
        made.setdefault("format", "double")  # else Kotlin gets a BigDecimal
    return made


schema_of(Problem)
