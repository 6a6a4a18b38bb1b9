"""Endpoints as FastAPI declares them, compiled to plain calls: parameters and dependencies are resolved by a list that
is made once. FastAPI's own resolving costs more than most of our answers (docs/decisions/0012-front.md).
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, get_origin

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

Endpoint = Callable[[Request], Awaitable[Response]]
_Source = Callable[[Request, list[Any]], Any]
_MISSING: Final = object()


class Unsupported(TypeError):
    """The endpoint asks for something that is not resolved here: forms, cookies, `yield`, plain functions."""


def compiled(dependant: Dependant, constants: Mapping[Callable[..., Any], Any]) -> Endpoint:
    """The endpoint of a route. `constants`: dependencies that give the same for every request. `Unsupported`.

    Each dependency is called once a request. Parameters that do not fit raise FastAPI's `RequestValidationError`, all
    at once, and after the dependencies that need none: who is not signed in is told that first.
    """
    plan = _Plan(constants)
    arguments = plan.arguments(dependant)
    call, parameters = _coroutine(dependant), plan.parameters
    steps = [(step, wanted, any(kind == "parameter" for _, kind, _ in wanted)) for step, wanted in plan.steps]

    async def answer(request: Request) -> Response:
        found: list[Any] = []
        errors: list[Any] = []
        given = {name: source(request, errors) for name, source in parameters.items()}
        for step, wanted, needs_parameters in steps:
            if errors and needs_parameters:
                raise RequestValidationError(errors)
            found.append(await step(**_given(wanted, request, given, found)))
        if errors:
            raise RequestValidationError(errors)
        response: Response = await call(**_given(arguments, request, given, found))
        return response

    return answer


# where an argument's value comes from: the request, a parameter by its place, an earlier step's result, or a constant
_Wanted = list[tuple[str, str, Any]]


def _given(wanted: _Wanted, request: Request, parameters: dict[str, Any], found: list[Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, kind, source in wanted:
        if kind == "step":
            given[name] = found[source]
        elif kind == "parameter":
            given[name] = parameters[source]
        elif kind == "request":
            given[name] = request
        else:
            given[name] = source
    return given


class _Plan:
    """Dependencies in the order in which they are to be called, each once."""

    def __init__(self, constants: Mapping[Callable[..., Any], Any]) -> None:
        self._constants = constants
        self._places: dict[Any, int] = {}
        self.steps: list[tuple[Callable[..., Awaitable[Any]], _Wanted]] = []
        self.parameters: dict[str, _Source] = {}

    def arguments(self, dependant: Dependant) -> _Wanted:
        """What to call it with."""
        unsupported = (
            dependant.cookie_params,
            dependant.body_params,
            dependant.websocket_param_name,
            dependant.http_connection_param_name,
            dependant.response_param_name,
            dependant.background_tasks_param_name,
        )
        if any(unsupported):
            raise Unsupported(f"{dependant.call} asks for what is not resolved here")
        wanted: _Wanted = []
        if dependant.request_param_name:
            wanted.append((dependant.request_param_name, "request", None))
        for where, fields in (
            ("path", dependant.path_params),
            ("query", dependant.query_params),
            ("header", dependant.header_params),
        ):
            for field in fields:
                place = f"{where} {field.alias}"
                self.parameters[place] = _parameter(where, field)
                wanted.append((field.name, "parameter", place))
        for dependency in dependant.dependencies:
            kind, source = self._place(dependency)
            if dependency.name:  # without one it is asked for its refusal only
                wanted.append((dependency.name, kind, source))
        return wanted

    def _place(self, dependency: Dependant) -> tuple[str, Any]:
        if dependency.call is not None and dependency.call in self._constants:
            return "constant", self._constants[dependency.call]
        if dependency.call not in self._places:
            wanted = self.arguments(dependency)
            self._places[dependency.call] = len(self.steps)
            self.steps.append((_coroutine(dependency), wanted))
        return "step", self._places[dependency.call]


def _coroutine(dependant: Dependant) -> Callable[..., Awaitable[Any]]:
    call = dependant.call
    if call is None or not inspect.iscoroutinefunction(call):
        raise Unsupported(f"{call} is not a coroutine function")
    return call


class _Field(Protocol):
    """A parameter, as FastAPI describes it."""

    name: str

    @property
    def field_info(self) -> Any: ...  # noqa: ANN401 - pydantic's, which is not ours to import

    @property
    def alias(self) -> str: ...

    @property
    def validate(self) -> Callable[..., tuple[object, list[dict[str, Any]]]]: ...

    def get_default(self) -> object: ...


def _parameter(where: str, field: _Field) -> _Source:
    """A parameter's value in a request, as FastAPI would have it; what is wrong with it goes to the errors."""
    alias, place = field.alias, (where, field.alias)
    if get_origin(field.field_info.annotation) in (list, set, tuple):
        raise Unsupported(f"{alias}: lists are not resolved here; send names with commas between them")
    default = _MISSING if field.field_info.is_required() else field.get_default()
    read = _READERS[where]
    if where == "header" and getattr(field.field_info, "convert_underscores", True):
        alias = alias.replace("_", "-")

    def value(request: Request, errors: list[Any]) -> object:
        text = read(request).get(alias, _MISSING)
        if text is _MISSING:
            if default is not _MISSING:
                return default
            errors.append({"loc": place, "msg": "Field required", "type": "missing"})
            return None
        found, wrong = field.validate(text, {}, loc=place)
        errors.extend(wrong)
        return found

    return value


_READERS: Final[Mapping[str, Callable[[Request], Mapping[str, str]]]] = {
    "path": lambda request: request.path_params,
    "query": lambda request: request.query_params,
    "header": lambda request: request.headers,
}
