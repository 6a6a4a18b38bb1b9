"""The OpenAPI document: FastAPI's paths, msgspec's schemas, and what every route of ours has in common."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from api.deprecation import Deprecation, deprecation_of
from api.openapi import COMPONENTS, Told, header, method_name, parameter, plain, problem_response, told_by
from api.problems import STATUSES
from api.publishing import SURROGATE_KEY

BEARER: Final = "accessToken"
_ANYWHERE: Final = {400, 403, 429, 503}  # no request of HTTP, switched off, a limit, a server away: wherever it goes
_PROBLEMS: Final = sorted({*STATUSES.values(), *_ANYWHERE})
_LATER: Final = (409, 429, 503)  # with these, Retry-After says when to come again

_PARAMETERS: Final = {
    "Cairn-Client": "The app, its version and the installation: `ios/9.4.1; device=<uuid>`.",
    "Cairn-Min-Position": "A write's `Cairn-Position`: the read waits up to 2 s until it sees that write.",
    "If-None-Match": "The `ETag` of the answer that the app has: 304 without a body if it is still right.",
    "Prefer": "`wait=10`: answer once it is ready, if that is within so many seconds, at most 30 (RFC 7240).",
}

_HEADERS: Final = {
    "Cairn-Position": "What was written is seen from here on: send it as `Cairn-Min-Position` with a read.",
    "Cairn-Stale": "`true`: the read models are still behind `Cairn-Min-Position`.",
    "Location": "Where what was made is.",
    "ETag": "A strong validator: send it as `If-None-Match`.",
    "Retry-After": "Come again after so many seconds.",
    "Idempotency-Replayed": "`true`: this answer was given before, to the same `Idempotency-Key`.",
    "WWW-Authenticate": "Which kind of token is wanted.",
    "Deprecation": "Since when this route is deprecated: `@` and seconds since 1970 (RFC 9745).",
    "Sunset": "Before this date the route is not switched off (RFC 8594).",
    "Link": "`rel=successor-version`: what to call instead.",
    "RateLimit": "How many requests of this kind are left, and for how long (draft-ietf-httpapi-ratelimit-headers-10).",
    "RateLimit-Policy": "How many requests of this kind there may be at once, and in which time they come back.",
    "Cache-Control": "Whether and how long the answer may be kept (RFC 9111).",
    "Vary": "Which headers of the request the answer depends on.",
    "Content-Disposition": "A name for the file.",
    "X-Content-Type-Options": "`nosniff`: it is of the type that it says, whatever it looks like.",
    "Content-Security-Policy": "What it may load and run when it is opened by itself: nothing.",
    SURROGATE_KEY: "Under which keys a shared cache keeps it, and drops it.",
}
_LIMITED: Final = ("RateLimit", "RateLimit-Policy")  # of who is signed in
_ALWAYS: Final = frozenset({"ETag", "WWW-Authenticate", "Deprecation", "Sunset", "Link"})  # wherever they are named
_NOT_OURS: Final = frozenset({"HTTPValidationError", "ValidationError"})  # FastAPI's: ours are problems


def operation_id(route: APIRoute) -> str:
    """`get_feed` is called `getFeed` in generated clients: the endpoint's name is part of the contract."""
    return method_name(route.name)


def install(app: FastAPI) -> None:
    """Serve the document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = made_for(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the way to extend it that FastAPI documents


def made_for(app: FastAPI) -> dict[str, Any]:
    """The document of an app's routes."""
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            operation = made["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                _complete(operation, route, method)
    schemas = {**made["components"]["schemas"], **COMPONENTS}
    made["components"] = {
        "schemas": {name: schema for name, schema in sorted(schemas.items()) if name not in _NOT_OURS},
        "parameters": {name: _parameter(name) for name in _PARAMETERS},
        "headers": {name: _header(name) for name in _HEADERS},
        "responses": {f"Problem{status}": _problem(status) for status in _PROBLEMS},
        "securitySchemes": {BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
    }
    return made


def _complete(operation: dict[str, Any], route: RouteContext, method: str) -> None:
    """Say what follows from the route's dependencies, its method, and its being one of ours."""
    told = list(_told(route.dependant))
    parameters, responses = operation.get("parameters", []), operation["responses"]
    places = {one.get("in") for one in parameters}
    problems = {status for one in told for status in one.problems}
    problems |= {404} if "path" in places else set()  # what is no id names nothing
    problems |= {422} if places & {"query", "header"} else set()
    keyed = any(one.get("name", "").lower() == "idempotency-key" for one in parameters)
    problems |= {400, 409, 422} if keyed else set()
    parameters += [parameter(name) for one in told for name in one.parameters]
    if any(one.bearer for one in told):
        operation["security"] = [{BEARER: []}]
    if str(route.path_format).startswith("/v"):
        problems |= _ANYWHERE
        parameters += [parameter("Cairn-Client")]
        if method != "GET":
            problems |= {412}  # a condition that nobody looks at
        else:
            parameters += [parameter("If-None-Match")]
            same = {"headers": dict(responses["200"].get("headers", {}))}
            responses.setdefault("304", {"description": "The app has it already.", **same})
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]  # FastAPI's own: ours are problems
    for status in problems | {int(status) for status, told_of in responses.items() if "$ref" in told_of}:
        responses[str(status)] = problem_response(status)  # FastAPI puts a description beside the reference
    operation["parameters"] = [_mended(one) for one in parameters]
    if {"201", "202"} <= set(responses):  # generators take the first for the one answer: it shall be 202
        responses["2XX"] = {**responses.pop("201"), "description": "201: with `Prefer: wait`, and ready in that time"}
    operation["responses"] = dict(sorted(responses.items()))
    more = [name for one in told for name in one.headers] + ["Idempotency-Replayed"] * keyed
    if str(route.path_format).startswith("/v"):
        more += [*_LIMITED] * any(one.bearer for one in told)
        more += ["Cache-Control", "Vary"] if method == "GET" else ["Cache-Control"]
    _tell_headers(operation, more, method)
    if (found := deprecation_of(route.endpoint)) is not None:
        _tell_deprecation(operation, found)


def _told(dependant: Dependant) -> Iterator[Told]:
    for one in dependant.dependencies:
        if (found := told_by(one.call)) is not None:
            yield found
        yield from _told(one)


def _mended(one: dict[str, Any]) -> dict[str, Any]:
    """A header is named as in the documents; a parameter that may be left out is never null."""
    if "$ref" in one:
        return one
    schema = {key: value for key, value in one["schema"].items() if key != "title"}
    some = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    if len(some) == 1:
        schema = {**some[0], **schema}
    name = "-".join(map(str.capitalize, one["name"].split("-"))) if one["in"] == "header" else one["name"]
    return {**one, "name": name, "schema": plain(schema)}


def _tell_headers(operation: dict[str, Any], told: Sequence[str], method: str) -> None:
    for status, response in operation["responses"].items():
        if status.startswith(("2", "3")):
            named = [*told, "ETag"] if method == "GET" and "If-None-Match" in str(operation["parameters"]) else told
            if named:
                response["headers"] = {**response.get("headers", {}), **{name: header(name) for name in named}}


def _tell_deprecation(operation: dict[str, Any], found: Deprecation) -> None:
    operation["deprecated"] = True
    note = f"Deprecated since {found.since}, here until {found.sunset} at least: call `{found.successor}` instead."
    operation["description"] = f"{operation.get('description', '')}\n\n{note}".strip()
    for status, response in operation["responses"].items():
        if "$ref" in response:  # a problem: this route's have headers of their own
            operation["responses"][status] = _problem(int(status), *found.headers())
    _tell_headers(operation, list(found.headers()), "")


def _parameter(name: str) -> dict[str, Any]:
    schema = {"type": "string"}
    return {"name": name, "in": "header", "required": False, "description": _PARAMETERS[name], "schema": schema}


def _header(name: str) -> dict[str, Any]:
    kind = "integer" if name == "Retry-After" else "string"
    return {"description": _HEADERS[name], "required": name in _ALWAYS, "schema": {"type": kind}}


def _problem(status: int, *more: str) -> dict[str, Any]:
    """A problem's response, with more headers than all of its status have."""
    headers = ["Cache-Control", *_LIMITED, *more]
    headers += ["WWW-Authenticate"] * (status == 401) + ["Retry-After"] * (status in _LATER)
    headers += ["Cairn-Stale", SURROGATE_KEY, "Vary"] * (status == 404)  # what is not public is kept for a moment, too
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    told = {name: header(name) for name in headers}
    return {"description": HTTPStatus(status).phrase, "content": content, "headers": told}
