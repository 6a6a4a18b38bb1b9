"""Recordings over a network that is slow, far and breaks off (faults 33), to the real API.

`CAIRN_AIR=1` makes it as bad as the design says, 8 kbit/s and 2 s there and back, for some minutes.
"""

import asyncio
import os
from uuid import uuid4

import pytest

from api.client import Client, Pacing, Phone, hand_in, send_waiting
from tests.api.conftest import Runner
from tests.network import CUT_OFF, Air, Answer, Request, lossy, network
from tests.recordings import fit

AIR = (
    Air(share=0.3, within_bytes=20_000, delay_seconds=1.0, bytes_a_second=1_000)
    if os.environ.get("CAIRN_AIR")
    else Air(share=0.3, within_bytes=20_000, delay_seconds=0.02, bytes_a_second=50_000)
)
SOON = Pacing(first_seconds=0.05, longest_seconds=0.5)


@pytest.mark.timeout(1_200)
async def test_a_run_gets_through_and_hardly_anything_is_sent_twice(served: str, anna: Runner) -> None:
    body, run = fit(91, kilometres=12), uuid4()
    async with lossy(served, 1, AIR) as line, Client(line.url, pacing=SOON) as client:
        client.begin(anna.tokens)
        client._http.headers["Connection"] = "close"  # each request meets its own fate
        client.last_seconds = 2.0  # as a launch call would have found
        began = asyncio.get_running_loop().time()
        await hand_in(client, run, body, title="Through the hills")
        took = asyncio.get_running_loop().time() - began
        requests = line.connections
        while (await client.upload_state(run))["status"] == "processing":
            await asyncio.sleep(0.1)
        assert (await client.activity(run))["title"] == "Through the hills"
    again = line.carried_bytes - len(body)
    assert line.cut_requests + line.cut_answers > 0
    assert again <= 1.2 * len(body), (again, len(body))
    print(f"{len(body)} bytes in {took:.0f} s: {requests} connections, {again} bytes of heads and repeats")  # noqa: T201


async def test_what_arrived_without_an_answer_is_not_sent_again() -> None:
    def script(request: Request) -> Answer | None:
        return CUT_OFF if request.line.startswith("PUT") else Answer(200, {"status": "ready"})

    async with network(script) as (url, asked), Client(url, pacing=SOON) as client:
        assert (await hand_in(client, uuid4(), b"a run"))["status"] == "ready"
    assert [one.line.split()[0] for one in asked] == ["PUT", "GET"]


async def test_pieces_get_smaller_until_they_pass() -> None:
    sizes: list[int] = []
    held = 0

    def script(request: Request) -> Answer | None:
        nonlocal held
        match request.line.split()[0]:
            case "GET" if request.line.endswith("/chunks"):
                count = sum(size <= 5_000 for size in sizes)
                return Answer(200, {"received": [[0, count - 1]] if held else [], "offset": held})
            case "GET":
                return Answer(404, {"code": "not-found"})
            case "PUT":
                sizes.append(len(request.body))
                if sizes[-1] > 5_000:
                    return CUT_OFF
                held += sizes[-1]
                return Answer(201)
            case _:
                return Answer(202, {"status": "processing"})

    async with network(script) as (url, _), Client(url, pacing=SOON) as client:
        await hand_in(client, uuid4(), bytes(20_000))
    assert sizes[:4] == [20_000, 16_384, 8_192, 4_096]
    assert sum(size for size in sizes if size <= 5_000) == 20_000


async def test_a_server_that_paces_is_not_taken_for_a_bad_network() -> None:
    phone, user = Phone(), uuid4()
    phone.keep_session({"user_id": str(user), "access_token": "access", "refresh_token": "refresh"})
    told: list[float] = []
    came: list[tuple[str, float]] = []

    def script(request: Request) -> Answer:
        if request.line.startswith("GET"):
            return Answer(200, {"status": "ready"})
        now = asyncio.get_running_loop().time()
        if len(came) == 6 and not told:
            told.append(now)
            return Answer(429, {"code": "rate-limited"}, {"Retry-After": "1"})
        came.append((request.line, now))
        return Answer(202, {"status": "processing"})

    runs = [phone.outbox.add_recording(user, b"a run of last week") for _ in range(12)]
    async with network(script) as (url, _), Client(url, phone=phone) as client:
        assert await send_waiting(client) == 12
    assert [line for line, _ in came] == [f"PUT /v1/activities/{run}" for run in runs]
    assert came[6][1] - told[0] >= 1
