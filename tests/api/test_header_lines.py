"""Header lines that come twice: lists go on, of others nobody knows which was meant."""

import gzip
from uuid import uuid4

import httpx
import pytest

from tests.api.conftest import Runner, World
from tests.api.test_kept_reads import until_kept
from tests.recordings import fit


async def asked(
    runner: Runner, method: str, path: str, *lines: tuple[str, str], content: bytes = b""
) -> httpx.Response:
    signed = ("Authorization", f"Bearer {runner.tokens['access_token']}")
    return await runner.http.request(method, f"/v1{path}", headers=[signed, *lines], content=content)


async def test_a_list_may_come_in_several_lines(anna: Runner) -> None:
    etag = (await anna("GET", "/me")).headers["ETag"]
    for tags in ([etag, '"another"'], ['"another"', etag]):
        answer = await asked(anna, "GET", "/me", *(("If-None-Match", tag) for tag in tags))
        assert (answer.status_code, answer.content) == (304, b"")
    body = gzip.compress(b'{"display_name": "Anna"}')
    json, packed = ("Content-Type", "application/json"), ("Content-Encoding", "gzip")
    assert (await asked(anna, "PATCH", "/me", json, packed, content=body)).status_code == 204
    twice = await asked(anna, "PATCH", "/me", json, packed, packed, content=gzip.compress(body))
    assert (twice.status_code, twice.json()["code"]) == (415, "unsupported-encoding")
    wishes = [("Prefer", "wait=20"), ("Prefer", "respond-async")]
    done = await asked(anna, "PUT", f"/activities/{uuid4()}", *wishes, content=fit(390))
    assert done.status_code == 201


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Idempotency-Key"])
async def test_what_is_no_list_comes_once(anna: Runner, name: str) -> None:
    lines = [(name, "Bearer another"), *[(name, "one")] * (name != "Authorization")]
    answer = await asked(anna, "POST", "/me/goals", *lines, content=b"{}")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-request")


async def test_what_is_known_by_heart_is_not_told_to_who_says_twice_who_they_are(
    world: World, anna: Runner, ben: Runner
) -> None:
    await until_kept(world, anna, "/me")
    hers, his = ((b"authorization", f"Bearer {one.tokens['access_token']}".encode()) for one in (anna, ben))
    assert world.app.at_once(b"/v1/me", [hers]) is not None
    assert world.app.at_once(b"/v1/me", [his, hers]) is None


async def test_of_others_the_last_line_counts(anna: Runner) -> None:
    assert (await asked(anna, "GET", "/me", ("Cairn-Min-Position", "?"), ("Cairn-Min-Position", "p1-1"))).is_success
