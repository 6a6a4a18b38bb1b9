"""The demo's story where something came before it."""

from uuid import uuid5

import pytest

from api.client import Client
from infra.faults import Fault
from infra.formats import sniff
from tests.network import Answer, Request, network
from workers.cli.story import _RUNNERS, Runner, _made_up, tell_story


async def test_a_demo_goes_on_with_the_runs_that_one_before_it_left_out() -> None:
    runner = _RUNNERS[0]
    there = f"GET /v1/activities/{uuid5(runner.user_id, 'run 1')}/upload"

    def script(request: Request) -> Answer:
        return Answer(200, {"status": "ready"}) if request.line == there else Answer(404, {"code": "not-found"})

    async with network(script) as (url, _), Client(url) as client:
        missing = await _made_up(client, runner)
    assert [one.activity_id for one in missing] == [uuid5(runner.user_id, f"run {index}") for index in (0, 2, 3)]


@pytest.mark.parametrize("runner", _RUNNERS, ids=lambda runner: runner.name)
async def test_every_runner_has_a_watch_and_a_phone(runner: Runner) -> None:
    async with network(lambda _: Answer(404, {"code": "not-found"})) as (url, _), Client(url) as client:
        made = await _made_up(client, runner)
    assert {sniff(one.body) for one in made} == {"fit", "gpx"}


async def test_an_address_that_is_somebody_elses_is_named_with_the_way_out() -> None:
    taken = Answer(409, {"code": "email-taken", "detail": "Another account has this e-mail address."})
    async with network(lambda _: taken) as (url, _):
        with pytest.raises(Fault, match=r"anna@example.com is somebody else's here: .* --data"):
            await tell_story(url, None)
