import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

import api
from api.admission.kinds import Kind, lowered, sort_of
from api.dependencies import recording_bearer


def routes() -> Iterator[tuple[str, str, APIRoute]]:
    """All that the API's modules declare."""
    for found in pkgutil.iter_modules(api.__path__):
        router = getattr(import_module(f"api.{found.name}"), "router", None)
        for route in router.routes if router else ():
            assert isinstance(route, APIRoute)
            for method in route.methods or ():
                yield method, f"/v1{route.path}", route


def dependencies(dependant: Dependant) -> Iterator[object]:
    for found in dependant.dependencies:
        yield found.call
        yield from dependencies(found)


def test_recordings_are_the_routes_that_a_late_token_opens() -> None:
    late = {(method, path) for method, path, route in routes() if recording_bearer in dependencies(route.dependant)}
    assert late == {(method, path) for method, path, _ in routes() if sort_of(method, path).kind is Kind.RECORDING}
    assert len(late) >= 4


def test_every_route_that_changes_something_is_a_command_or_a_recording() -> None:
    changing = {sort_of(method, path).kind for method, path, _ in routes() if method not in ("GET", "HEAD")}
    assert changing == {Kind.COMMAND, Kind.RECORDING}


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("PUT", "/v1/activities/0f3c/chunks/7", Kind.RECORDING),
        ("GET", "/v1/activities/0f3c/chunks", Kind.RECORDING),
        ("PATCH", "/v1/activities/0f3c", Kind.COMMAND),
        ("PUT", "/v1/activities/0f3c/kudos", Kind.COMMAND),
        ("GET", "/v1/activities/0f3c", Kind.READ),
        ("GET", "/v1/activities/0f3c/upload", Kind.READ),
        ("GET", "/v1/me/summaries", Kind.STATS),
        ("GET", "/v1/activities/0f3c/export.fit", Kind.STATS),
        ("GET", "/docs", Kind.READ),
    ],
)
def test_kinds_of_paths(method: str, path: str, kind: Kind) -> None:
    assert sort_of(method, path).kind is kind


@pytest.mark.parametrize(
    ("method", "path", "rate"),
    [
        ("POST", "/v1/users", "registration"),
        ("POST", "/v1/sessions", "sign-in"),
        ("POST", "/v1/sessions/refresh", "refresh"),
        ("DELETE", "/v1/sessions", "anonymous"),
        ("GET", "/v1/users", "anonymous"),
    ],
)
def test_rates_of_those_who_are_not_signed_in(method: str, path: str, rate: str) -> None:
    assert sort_of(method, path).anonymous == rate


@pytest.mark.parametrize(
    ("priority", "kind"),
    [
        (b"u=0", Kind.READ),
        (b"u=3, i", Kind.READ),
        (b"i", Kind.READ),
        (b"u=4", Kind.PREFETCH),
        (b"i, u=6", Kind.PREFETCH),
        (b"u=7", Kind.STATS),
        (b"u=8", Kind.READ),
        (b"u=55", Kind.READ),
        (b"xu=7", Kind.READ),
        (b"", Kind.READ),
        (b"\xff\xfe", Kind.READ),
    ],
)
def test_a_client_may_lower_its_read(priority: bytes, kind: Kind) -> None:
    assert lowered(Kind.READ, priority) is kind


@pytest.mark.parametrize("kind", [Kind.RECORDING, Kind.COMMAND, Kind.STATS])
def test_nothing_else_is_lowered_or_raised(kind: Kind) -> None:
    assert lowered(kind, b"u=6") is lowered(kind, b"u=0") is kind
