"""Endpoints as FastAPI declares them, compiled to plain calls: parameters and dependencies are resolved by a list that
is made once. FastAPI's own resolving costs more than most of our answers (docs/decisions/0012-front.md).
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Protocol, get_args, get_origin

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
    call, given, parameters = _coroutine(dependant), _picking(arguments), plan.parameters
    steps = [(step, _picking(wanted), not parameters.keys().isdisjoint(wanted)) for step, wanted in plan.steps]

    async def answer(request: Request) -> Response:
        errors: list[Any] = []
        found: dict[Any, Any] = {**constants, _REQUEST: request}
        for name, source in parameters.items():
            found[name] = source(request, errors)
        for step, picked, needs_parameters in steps:
            if errors and needs_parameters:
                raise RequestValidationError(errors)
            found[step] = await step(*picked(found))
        if errors:
            raise RequestValidationError(errors)
        response: Response = await call(*given(found))
        return response

    return answer


# The arguments of a call in their order, each by what gives it: the request, a parameter by its place, or a dependency.
_Wanted = Sequence[Any]
_REQUEST: Final = "request"


def _picking(wanted: _Wanted) -> Callable[[Mapping[Any, Any]], tuple[Any, ...]]:
    """The arguments, out of what was found."""
    if len(wanted) == 1:
        (one,) = wanted
        return lambda found: (found[one],)
    return itemgetter(*wanted) if wanted else lambda _found: ()


class _Plan:
    """Dependencies in the order in which they are to be called, each once."""

    def __init__(self, constants: Mapping[Callable[..., Any], Any]) -> None:
        self._known: set[Any] = set(constants)
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
        wanted: dict[str, Any] = {}
        if dependant.request_param_name:
            wanted[dependant.request_param_name] = _REQUEST
        for where, fields in (
            ("path", dependant.path_params),
            ("query", dependant.query_params),
            ("header", dependant.header_params),
        ):
            for field in fields:
                place = f"{where} {field.alias}"
                self.parameters[place] = _parameter(where, field)
                wanted[field.name] = place
        for dependency in dependant.dependencies:
            if dependency.call not in self._known:
                self._known.add(dependency.call)
                self.steps.append((_coroutine(dependency), self.arguments(dependency)))
            if dependency.name:  # without one it is asked for its refusal only
                wanted[dependency.name] = dependency.call
        return [wanted[name] for name in _positional(dependant)]


def _coroutine(dependant: Dependant) -> Callable[..., Awaitable[Any]]:
    call = dependant.call
    if call is None or not inspect.iscoroutinefunction(call):
        raise Unsupported(f"{call} is not a coroutine function")
    return call


def _positional(dependant: Dependant) -> Iterable[str]:
    """The names of its parameters, in their order."""
    for name, parameter in inspect.signature(_coroutine(dependant)).parameters.items():
        if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            raise Unsupported(f"{dependant.call} takes {name} by name or as one of many: let it have a place")
        yield name


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
    spelt = _spelling(field.field_info.annotation)
    default = _MISSING if field.field_info.is_required() else field.get_default()
    read = _READERS[where]
    if where == "header" and getattr(field.field_info, "convert_underscores", True):
        alias = alias.replace("_", "-")

    def value(request: Request, errors: list[Any]) -> object:
        text = read(request).get(alias)
        if text is None:
            if default is not _MISSING:
                return default
            errors.append({"loc": place, "msg": "Field required", "type": "missing"})
            return None
        if spelt is not None and spelt.fullmatch(text) is None:
            errors.append({"loc": place, "msg": "Input should be a number in decimal digits", "type": "number_parsing"})
            return None
        found, wrong = field.validate(text, {}, loc=place)
        errors.extend(wrong)
        return found

    return value


def _spelling(annotation: Any) -> re.Pattern[str] | None:  # noqa: ANN401 - any type is a parameter's
    """How a number is spelt, as JSON has it; None of what is none. pydantic takes 1_0 and +1 too, and 1.0 for 1."""
    kinds = {annotation, *get_args(annotation)}
    return _DECIMAL if float in kinds else _WHOLE if int in kinds else None


_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_READERS: Final[Mapping[str, Callable[[Request], Mapping[str, str]]]] = {
    "path": lambda request: request.path_params,
    "query": lambda request: request.query_params,
    "header": lambda request: request.headers,
}
