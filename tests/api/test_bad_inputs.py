"""Whatever is sent, what is answered was meant; `.venv/bin/python -m tests.system.bad_inputs` measures its cost."""

import json

import pytest

from api.problems import MAX_ERRORS, STATUSES
from tests.api.bad_inputs import ABSENT, ENTRIES
from tests.api.bad_inputs.place import Bad, Place, settle, told
from tests.api.conftest import World

NAMED_BY_HTTP = {"method-not-allowed", "bad-request"}


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


@pytest.mark.parametrize("number", ABSENT)
async def test_what_does_not_apply_is_not_there(place: Place, number: int) -> None:
    reason, send = ABSENT[number]
    assert told(await send(place)) == "404 not-found", reason
