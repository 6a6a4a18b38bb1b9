"""The routes that were declared, compiled, by their paths."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from api.admission.door import Entrance, entrance_of
from api.dependencies import asking, services_of
from api.deprecation import deprecation_of
from api.front.endpoint import Endpoint, compiled
from api.front.meter import Meter
from api.front.table import Table
from api.services import Services

_GET: Final = "GET"


class Route(NamedTuple):
    """An endpoint, with what is counted of it. `keeps`: whether its last answer could be kept; `refusing`: headers of
    its refusals, where it is deprecated.
    """

    template: str
    endpoint: Endpoint
    meter: Meter
    entrance: Entrance
    keeps: list[bool]
    refusing: Mapping[str, str]


def declared(app: FastAPI) -> Iterator[tuple[Any, str]]:
    """Each route of ours, as FastAPI has it, with a method."""
    for context in iter_route_contexts(app.routes):
        if hasattr(context, "dependant"):  # the others are the documentation's
            for method in sorted(context.methods or ()):
                yield context, method


def table_of(app: FastAPI, services: Services) -> Table[Route]:
    """Every route that was declared, compiled."""
    table: Table[Route] = Table()
    for context, method in declared(app):
        template = str(context.path_format)
        endpoint = compiled(context.dependant, {services_of: services})
        meter = services.telemetry.meters.of(method, template)
        deprecation = deprecation_of(context.endpoint)
        meter.deprecated = deprecation is not None
        refusing = {} if deprecation is None else deprecation.headers()
        table.add(template, method, Route(template, endpoint, meter, entrance_of(method, template), [True], refusing))
    return table


def paths_by_client(app: FastAPI) -> frozenset[bytes]:
    """The paths whose answers depend on which app asks."""
    routes = (context for context, method in declared(app) if method == _GET)
    return frozenset(str(one.path_format).encode() for one in routes if _asks(one.dependant, asking))


def _asks(dependant: Dependant, what: Callable[..., Any]) -> bool:
    return any(one.call is what or _asks(one, what) for one in dependant.dependencies)
