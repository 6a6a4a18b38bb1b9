"""What is measured, over real parts."""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import timedelta
from unittest.mock import AsyncMock
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.main import services_of
from domain.measures import ActivityId
from domain.uploads import Waiting
from infra.bootstrap import now
from infra.queue_watch import QueueState
from projections import PROJECTIONS
from tests.api.conftest import Runner, World


def started(world: World) -> httpx.AsyncClient:
    """A process that was just started."""
    app = create_app(services_of(world.parts, world.settings))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cairn")


def by_label(text: str, name: str, label: str) -> dict[str, float]:
    """The values of a metric."""
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    return {sample.labels.get(label, ""): sample.value for sample in families[name]}


async def test_the_queue_is_measured(world: World, anna: Runner) -> None:
    await anna("PUT", f"/activities/{uuid4()}", content=b"<gpx/>", headers={"Prefer": "wait=20"})
    async with started(world) as http, asyncio.timeout(10):
        while True:  # the runner hears of it first
            answer = await http.get("/metrics")
            failed = by_label(answer.text, "cairn_uploads_failed", "code")
            if failed["recording-unreadable"] + failed["recording-empty"]:
                break
    assert answer.status_code == 200
    found = {
        sample.name: (sample.labels, sample.value)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name != "cairn_uploads_failed"
    }
    assert failed["body-damaged"] == 0  # it is there before it happens: else the first has no increase
    for name in ("waiting", "oldest_age_seconds"):
        assert 0 <= found[f"cairn_uploads_{name}"][1] < 100
    assert found["cairn_upload_hints"][1] >= 0
    assert found["process_resident_memory_bytes"][1] > 10_000_000


@pytest.mark.parametrize(("told", "waiting"), [(0, None), (3, 3)])
async def test_an_object_store_that_falls_silent_holds_no_scrape_up(
    world: World, monkeypatch: pytest.MonkeyPatch, told: int, waiting: int | None
) -> None:
    async def silent() -> AsyncIterator[Waiting]:
        for _ in range(told):
            yield Waiting(ActivityId(uuid4()), now() - timedelta(seconds=100), "")
        await asyncio.Event().wait()

    monkeypatch.setattr(world.parts.inbox, "waiting", silent)
    monkeypatch.setattr("infra.queue_watch._LISTING_SECONDS", 0.01)
    async with asyncio.timeout(30):
        state = await world.parts.queue_watch.state()
    assert (state.waiting, state.failed is None) == (waiting, False)
    assert (state.oldest_age_s or 0.0) >= (100 if told else 0)


async def test_how_old_what_is_read_is_is_measured(world: World) -> None:
    async with started(world) as http:
        answer = await http.get("/metrics")
    families = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
    names = {projection.name for projection in PROJECTIONS}
    for told in ("lag_seconds", "workers"):
        found = {sample.labels["projection"]: sample.value for sample in families[f"cairn_projection_{told}"]}
        assert found.keys() == names
        assert all(0 <= value < 100 for value in found.values())
    assert by_label(answer.text, "cairn_projection_quarantined_keys", "projection") == dict.fromkeys(names, 0)
    assert by_label(answer.text, "cairn_streams_parked", "") == {"": 0}


async def test_what_nobody_can_know_is_not_a_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    state = QueueState(waiting=None, oldest_age_s=None, hints=None, taken=None, failed=None)
    monkeypatch.setattr(world.parts.queue_watch, "state", AsyncMock(return_value=state))
    away = AsyncMock(return_value={projection.name: None for projection in PROJECTIONS})
    monkeypatch.setattr(world.parts.projection_watch, "state", away)
    async with started(world) as http:
        answer = await http.get("/metrics")
    failed = by_label(answer.text, "cairn_uploads_failed", "code")
    assert "processing-failed" in failed
    quarantined = by_label(answer.text, "cairn_projection_quarantined_keys", "projection")
    parked = by_label(answer.text, "cairn_streams_parked", "")
    assert all(map(math.isnan, [*failed.values(), *quarantined.values(), *parked.values()]))


async def test_servers_are_asked_once_for_many_scrapes_and_again_for_later_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = 0, world.parts.queue_watch.state

    async def counted() -> QueueState:
        nonlocal looks
        looks += 1
        return await look()

    monkeypatch.setattr(world.parts.queue_watch, "state", counted)
    monkeypatch.setattr("api.metrics._FRESH_SECONDS", 1_000.0)
    async with started(world) as http:
        answers = await asyncio.gather(*(http.get("/metrics") for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        assert looks == 1
        scrapes = 'cairn_http_requests_total{client="unnamed",method="GET",route="/metrics",status="200"} 50.0'
        assert scrapes in (await http.get("/metrics")).text  # what the process counts itself is of now
        monkeypatch.setattr("api.metrics._FRESH_SECONDS", 0.0)
        await http.get("/metrics")
        assert looks == 2


async def test_an_app_whose_label_left_while_it_was_answered_is_not_counted_under_it(
    world: World, anna: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.telemetry._LEAVING_SECONDS", 1_000.0)
    services = services_of(world.parts, world.settings)
    assert services.telemetry.client("ios/1.1", signed_in=True) == "ios/1.1"

    async def body() -> AsyncIterator[bytes]:
        for number in range(100):
            services.telemetry.client(f"web/{number}", signed_in=True)
        yield b'{"display_name": "Anna"}'

    headers = {
        "Authorization": f"Bearer {anna.tokens['access_token']}",
        "Content-Type": "application/json",
        "Cairn-Client": "ios/1.1",
    }
    transport = httpx.ASGITransport(create_app(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://cairn") as http:
        assert (await http.patch("/v1/me", content=body(), headers=headers)).is_success
        clients = by_label((await http.get("/metrics")).text, "cairn_http_requests", "client")
    assert "ios/1.1" not in clients
    assert clients["other"] == 1
