"""What the front says of requests that reach no endpoint."""

import asyncio
from collections import Counter
from uuid import uuid4

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from api.admission.pace import A_TURN
from api.front.front import Front
from tests.api.conftest import Runner, World
from tests.api.test_metrics import started

Counted = tuple[str, str, str, str]  # method, route, status and client


async def counted(http: httpx.AsyncClient) -> dict[Counted, float]:
    """The answers of a process."""
    families = text_string_to_metric_families((await http.get("/metrics")).text)
    return {
        (labels["method"], labels["route"], labels["status"], labels["client"]): sample.value
        for family in families
        if family.name == "cairn_http_requests"
        for sample in family.samples
        for labels in [sample.labels]
    }


async def test_what_reaches_no_endpoint_is_counted_without_what_its_sender_wrote(world: World, anna: Runner) -> None:
    signed = {"Authorization": f"Bearer {anna.tokens['access_token']}"}
    liar = {"Cairn-Client": f"{uuid4().hex[:8]}/1.0"}
    async with started(world) as http:
        assert (await http.get(f"/nowhere-{uuid4()}", headers=liar)).status_code == 404
        assert (await http.put("/v1/me/goals", headers=signed)).status_code == 405
        twice = [("Content-Type", "a"), ("Content-Type", "b")]
        assert (await http.post("/v1/me/goals", headers=twice)).status_code == 400
        assert await counted(http) == {
            ("GET", "other", "404", "other"): 1,
            ("other", "other", "405", "unnamed"): 1,
            ("other", "other", "400", "unnamed"): 1,
        }


async def test_refusals_are_few_in_each_turn_of_the_loop(world: World) -> None:
    refused: Counter[int] = Counter()
    turn = 0
    app: Front = world.app

    async def send(message: Message) -> None:
        refused[turn] += message["type"] == "http.response.start"

    async def receive() -> Message:
        raise AssertionError("its body is of no use")

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"authorization", b"a"), (b"authorization", b"b")],
    }
    asking = [asyncio.create_task(app(dict(scope), receive, send)) for _ in range(3 * A_TURN)]
    while refused.total() < len(asking):
        await asyncio.sleep(0)
        turn += 1
    assert max(refused.values()) <= A_TURN
