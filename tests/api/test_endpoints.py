"""Endpoints that are compiled answer as FastAPI would have them answer."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts

from api.front.endpoint import Unsupported, compiled

CALLS: list[str] = []


async def who(request: Request) -> str:
    CALLS.append("who")
    if "authorization" not in request.headers:
        raise PermissionError
    return request.headers["authorization"]


async def greeting(name: Annotated[str, Depends(who)], polite: Annotated[int, Query()] = 0) -> str:
    return f"{'Good day' if polite else 'Hi'} {name}"


def endpoint(declared: Any, path: str = "/{activity_id}", constants: Mapping[Any, Any] | None = None) -> Any:
    router = APIRouter()
    router.get(path)(declared)
    app = FastAPI()
    app.include_router(router)
    (context,) = [one for one in iter_route_contexts(app.routes) if hasattr(one, "dependant")]
    return compiled(context.dependant, constants or {})


def request(query: str = "", headers: Mapping[str, str] | None = None, **path: str) -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request(
        {"type": "http", "method": "GET", "path_params": path, "query_string": query.encode(), "headers": raw}
    )


async def show(
    activity_id: UUID,
    said: Annotated[str, Depends(greeting)],
    name: Annotated[str, Depends(who)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    first: Annotated[str | None, Query(alias="from")] = None,
    idempotency_key: Annotated[str | None, Header(max_length=5)] = None,
) -> Response:
    return Response(f"{activity_id} {said} {name} {limit} {first} {idempotency_key}")


async def test_parameters_and_dependencies_are_filled_in_each_once() -> None:
    CALLS.clear()
    activity_id = uuid4()
    headers = {"Authorization": "Anna", "Idempotency-Key": "k"}
    answer = await endpoint(show)(request("limit=5&from=x&polite=1", headers, activity_id=str(activity_id)))
    assert bytes(answer.body).decode() == f"{activity_id} Good day Anna Anna 5 x k"
    assert CALLS == ["who"]


async def test_what_is_left_out_has_its_default() -> None:
    answer = await endpoint(show)(request("", {"Authorization": "Anna"}, activity_id=str(uuid4())))
    assert bytes(answer.body).endswith(b"Hi Anna Anna 20 None None")


async def test_all_that_does_not_fit_is_told_at_once() -> None:
    headers = {"Authorization": "Anna", "Idempotency-Key": "too long"}
    with pytest.raises(RequestValidationError) as told:
        await endpoint(show)(request("limit=0", headers, activity_id="7"))
    places = {tuple(error["loc"]) for error in told.value.errors()}
    assert places == {("path", "activity_id"), ("query", "limit"), ("header", "idempotency-key")}


async def test_who_may_not_is_told_before_what_does_not_fit() -> None:
    with pytest.raises(PermissionError):
        await endpoint(show)(request("limit=0", activity_id="7"))


async def test_a_required_parameter_that_is_missing_is_told() -> None:
    async def required(wanted: int) -> Response:
        return Response(str(wanted))

    with pytest.raises(RequestValidationError, match="Field required"):
        await endpoint(required, "/")(request())


@pytest.mark.parametrize("text", ["1.0", "%2B1", "01", "1_0", " 1", "1%20", "-", "", "\u0661", "1e1"])
async def test_a_number_is_spelt_in_decimal_digits(text: str) -> None:
    async def counted(wanted: int | None = None, seconds: float | None = None) -> Response:
        return Response(f"{wanted} {seconds}")

    answer = await endpoint(counted, "/")(request("wanted=-10&seconds=1.5e1"))
    assert bytes(answer.body) == b"-10 15.0"
    for name in ("wanted", "seconds")[: 1 if text in ("1.0", "1e1") else 2]:
        with pytest.raises(RequestValidationError, match="decimal digits"):
            await endpoint(counted, "/")(request(f"{name}={text}"))


async def test_constants_stand_for_dependencies() -> None:
    async def show_name(name: Annotated[str, Depends(who)]) -> Response:
        return Response(name)

    CALLS.clear()
    answer = await endpoint(show_name, "/", {who: "Ben"})(request())
    assert (bytes(answer.body), CALLS) == (b"Ben", [])


def plain() -> str:
    return "in a thread"


async def with_plain(name: Annotated[str, Depends(plain)]) -> Response:
    return Response(name)


async def with_list(name: Annotated[str, Query()], text: Annotated[list[str], Query()]) -> Response:
    return Response(name + text[0])


async def by_name(*, name: Annotated[str, Query()]) -> Response:
    return Response(name)


@pytest.mark.parametrize("declared", [with_plain, with_list, by_name])
def test_what_is_not_resolved_is_refused_at_the_start(declared: Any) -> None:
    with pytest.raises(Unsupported):
        endpoint(declared, "/")
