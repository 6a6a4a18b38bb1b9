"""Whatever is sent, what is answered was meant; `.venv/bin/python -m tests.system.bad_inputs` measures its cost."""

import json

import httpx
import pytest

from api.app import create_app
from api.main import services_of
from api.problems import MAX_ERRORS, STATUSES
from tests.api.bad_inputs import ABSENT, ENTRIES
from tests.api.bad_inputs.place import Bad, Place, settle, told
from tests.api.conftest import Runner, World

NAMED_BY_HTTP = {"bad-request"}


@pytest.fixture(scope="module")
async def place(world: World, served: str) -> Place:
    key = world.settings.token_keys[0]
    return await settle(int(served.rpartition(":")[2]), (key.kid, key.secret))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.number}: {entry.text[:60]}")
async def test_a_bad_input_is_answered_as_the_contract_says(place: Place, entry: Bad) -> None:
    answer = await entry.send(place)
    assert told(answer) in entry.expected, answer
    if answer.headers.get("content-type") == "application/problem+json":
        problem = json.loads(answer.body)
        assert problem["code"] in STATUSES or problem["code"] in NAMED_BY_HTTP
        assert len(problem.get("errors", ())) <= MAX_ERRORS
        assert len(answer.body) < 1_500  # nothing of the input is in it


def test_every_number_of_the_list_is_here() -> None:
    assert {entry.number for entry in ENTRIES} | set(ABSENT) == set(range(1, 67))


async def test_nobody_fills_the_cache_with_long_addresses(world: World, anna: Runner) -> None:
    front = create_app(services_of(world.parts, world.settings))
    front._reads._cache.open = True
    async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://cairn") as http:
        for asked, kept in (("x" * 600, 0), ("x", 1)):
            answer = await http.get(
                f"/v1/me/goals?{asked}", headers={"Authorization": f"Bearer {anna.tokens['access_token']}"}
            )
            assert (answer.status_code, len(front._reads._cache)) == (200, kept)


@pytest.mark.parametrize("number", ABSENT)
async def test_what_does_not_apply_is_not_there(place: Place, number: int) -> None:
    reason, send = ABSENT[number]
    assert told(await send(place)) == "404 not-found", reason
