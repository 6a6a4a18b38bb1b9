import json
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from api.app import create_app
from api.main import services_of
from api.problems import STATUSES
from domain.errors import DomainError
from tests.api.conftest import Runner, World

JSON = {"Content-Type": "application/json"}


def refusals(kind: type[DomainError] = DomainError) -> Iterator[type[DomainError]]:
    for refusal in kind.__subclasses__():
        yield refusal
        yield from refusals(refusal)


@pytest.mark.parametrize("refusal", list(refusals()), ids=lambda refusal: refusal.__name__)
def test_every_refusal_has_a_status_and_says_something(refusal: type[DomainError]) -> None:
    assert refusal.code in STATUSES
    assert len(refusal.__doc__ or "") > 20


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'{"title": "a"} trailing', 400),
        (b'{"title": "a"', 400),
        (b'{"title": NaN}', 400),
        (b'{"title": "\xff"}', 400),
        (b'{"title": "\\ud800"}', 400),
        (b'{"title": "\\u0000"}', 422),
        ('{"title": "a"}'.encode("utf-16"), 400),
        (b"[" * 60_000, 400),
        (b"{} more", 400),
        (b'{"unknown": 1', 400),
        (b'{"unknown": 1} {}', 400),
        (b'{"unknown": "\xff"}', 400),
        (b'{"unknown": 1}', 422),
        (b'{"title": ' + b"9" * 5_000 + b"}", 422),
        (b'{"title": "' + b"x" * 70_000 + b'"}', 413),
    ],
    ids=range(18),
)
async def test_bad_json_is_refused_without_an_echo(anna: Runner, body: bytes, status: int) -> None:
    answer = await anna("PATCH", f"/activities/{uuid4()}", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.content) < 1_000


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"display_name": "\\n"}', "Invalid value - at `$.display_name`"),
        (b'{"units": "secret"}', "Invalid value - at `$.units`"),
        (b'{"units": 1}', "Expected `str`, got `int` - at `$.units`"),
        (b'{"age": 1}', "Object contains unknown field `age`"),
    ],
)
async def test_a_value_that_does_not_fit_is_told_by_its_place(anna: Runner, body: bytes, error: str) -> None:
    answer = await anna("PATCH", "/me", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["errors"]) == (422, [error])


async def test_who_is_not_signed_in_is_told_that_first(world: World) -> None:
    for method, path in (("PATCH", "/me"), ("POST", "/activities"), ("PUT", f"/me/goals/{uuid4()}")):
        answer = await world.http.request(method, f"/v1{path}", content=b"{", headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (401, "token-refused")


async def test_a_pattern_is_not_told(anna: Runner) -> None:
    for answer in (
        await anna("PUT", f"/activities/{uuid4()}?title=%20", content=b"x"),
        await anna("GET", "/activities?ids=" + ",".join(str(uuid4()) for _ in range(101))),
    ):
        (error,) = answer.json()["errors"]
        assert "is not of the form" in error
        assert len(error) < 120


async def test_a_query_is_text(anna: Runner) -> None:
    answer = await anna("PUT", f"/activities/{uuid4()}?title=%ff", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-request")


@pytest.mark.parametrize("path", ["/v1/me", "/v1/me/goals", "/livez", "/v1/activities/none", "/v1/users"])
async def test_a_head_is_that_of_a_get_without_its_body(served: str, anna: Runner, path: str) -> None:
    headers = {"Authorization": f"Bearer {anna.tokens['access_token']}"}
    async with httpx.AsyncClient(base_url=served, headers=headers) as http:
        whole, head = await http.get(path), await http.head(path)
    assert head.status_code == whole.status_code
    assert head.content == b""
    told = ("Content-Type", "Content-Length", "ETag", "Cache-Control")
    assert [head.headers.get(name) for name in told] == [whole.headers.get(name) for name in told]


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/xml"])
async def test_json_is_sent_as_json(anna: Runner, content_type: str) -> None:
    answer = await anna("PATCH", "/me", content=b"{}", headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


@pytest.mark.parametrize(
    "path", ["/activities/x", "/activities/%00", "/activities/..%2f", "/nothing", "/users/1/followers"]
)
async def test_what_names_nothing_is_not_found(anna: Runner, path: str) -> None:
    missing = await anna("GET", f"/activities/{uuid4()}")
    answer = await anna("GET", path)
    assert (answer.status_code, answer.content) == (404, missing.content)


async def test_a_wrong_method_is_told_which_are_right(anna: Runner) -> None:
    answer = await anna("POST", "/feed")
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=many", "limit=1e9"])
async def test_wrong_parameters_are_named_and_not_echoed(anna: Runner, query: str) -> None:
    answer = await anna("GET", f"/feed?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameter")
    assert query.partition("=")[2] not in answer.text.replace("100", "")


async def test_health_says_what_is_there(world: World) -> None:
    assert (await world.http.get("/livez")).status_code == 200
    ready = await world.http.get("/readyz")
    assert ready.json()["status"] in ("ready", "waiting")


async def test_openapi_describes_every_body_and_answer(world: World) -> None:
    document = (await world.http.get("/openapi.json")).json()
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= set(schemas)
    assert {"Activity", "ActivityPage", "GoalWish", "Problem", "Registration", "UploadState"} <= set(schemas)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["responses"], (path, method)
            if method in ("post", "patch"):
                assert operation["requestBody"]["content"], (path, method)


@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
async def test_openapi_is_sent_once_to_who_keeps_it(world: World, coding: str) -> None:
    headers = {"Accept-Encoding": coding}
    plain = await world.http.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    first = await world.http.get("/openapi.json", headers=headers)
    assert first.json() == plain.json()
    assert (first.headers["Cache-Control"], first.headers["Vary"]) == ("public, no-cache", "Accept-Encoding")
    assert first.headers.get("Content-Encoding", "identity") == coding
    again = await world.http.get("/openapi.json", headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert (first.headers["ETag"] == plain.headers["ETag"]) is (coding == "identity")


async def test_what_was_ready_once_has_started(world: World) -> None:
    missing: dict[str, str] = {"postgres": "is away: start it"}
    services = replace(services_of(world.parts, world.settings), ready=lambda: missing)
    transport = httpx.ASGITransport(create_app(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://cairn") as http:
        assert (await http.get("/startupz")).json() == {"status": "waiting", "missing": missing}
        del missing["postgres"]
        assert (await http.get("/startupz")).status_code == 200
        missing["postgres"] = "is away again"
        assert ((await http.get("/startupz")).status_code, (await http.get("/readyz")).status_code) == (200, 503)
