"""Recordings that broke off: closed by the server after a day, or gone on with by the client."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.client import Client, LiveRecording, Refused, Unreachable, send_waiting, upload_in_chunks
from infra.bootstrap import now
from tests.api.conftest import Runner, World
from tests.api.test_chunks import cut, finish, put, refusal
from tests.network import CUT_OFF, Answer, Request, network
from tests.recordings import fit, gpx
from workers.ingest.abandoned import QUIET, Abandoned


async def test_a_run_whose_phone_died_is_closed_with_what_came(anna: Runner, world: World) -> None:
    run, lost, body = uuid4(), uuid4(), fit(81, kilometres=5)
    slices = cut(body, 81, 10)
    for seq in (0, 1, 2, 3, 4, 5, 6, 8, 9):
        await put(anna, run, seq, slices[seq])
    await put(anna, lost, 1, slices[1])
    parts = world.parts
    assert await Abandoned(parts.chunks, parts.inbox, clock=lambda: now() + QUIET / 2).sweep() == 0
    assert (await finish(anna, run, 10, body)).status_code == 409
    assert await Abandoned(parts.chunks, parts.inbox, clock=lambda: now() + QUIET).sweep() >= 2
    state, of_lost = [await until_judged(anna, one) for one in (run, lost)]
    assert (state["status"], of_lost["status"]) == ("ready", "failed")
    assert len(of_lost["problem"]["detail"]) > 20
    activity = await anna.get(f"/activities/{run}")
    assert 1_000 < activity["distance_m"] < 5_000
    assert (activity["visibility"], len(activity["warnings"])) == ("private", 1)
    # the phone comes back: what it has goes under a new id, once the partial one is deleted
    assert (await put(anna, run, 3, slices[3])).status_code == 204
    for answer in (
        await put(anna, run, 7, slices[7]),
        await finish(anna, run, 10, body),
        await anna("PUT", f"/activities/{run}", content=body),
    ):
        assert refusal(answer) == (409, "recording-closed")
    await anna("DELETE", f"/activities/{run}")
    anew = uuid4()
    await anna.run(body, anew)
    assert (await anna.get(f"/activities/{anew}"))["distance_m"] > 4_900


async def until_judged(runner: Runner, run: UUID) -> dict[str, Any]:
    for _ in range(200):
        state = await runner("GET", f"/activities/{run}/upload")
        if state.json().get("status") != "processing":
            await runner("GET", "/feed", headers={"Cairn-Min-Position": state.headers.get("Cairn-Position", "")})
            return dict(state.json())
        await asyncio.sleep(0.05)
    raise AssertionError


async def test_only_finishing_was_left_to_do(anna: Runner, world: World) -> None:
    run, body = uuid4(), fit(82)
    await put(anna, run, 0, body)
    await Abandoned(world.parts.chunks, world.parts.inbox, clock=lambda: now() + QUIET).sweep()
    assert (await finish(anna, run, 1, body)).status_code == 201


async def test_what_the_runner_wanted_of_a_run_that_was_closed_meanwhile_is_kept(
    served: str, anna: Runner, world: World
) -> None:
    run, body = uuid4(), fit(85)
    await put(anna, run, 0, body)
    await Abandoned(world.parts.chunks, world.parts.inbox, clock=lambda: now() + QUIET).sweep()
    async with Client(served) as client:
        client.begin(anna.tokens)
        await upload_in_chunks(client, run, body, title="To the end", visibility="public")
    now_here = (await anna("DELETE", f"/me/goals/{uuid4()}")).headers["Cairn-Position"]
    activity = await anna.get(f"/activities/{run}", after=now_here)
    assert (activity["title"], activity["visibility"]) == ("To the end", "public")


@pytest.mark.parametrize("chunk", [0, 1], ids=["a part", "nothing to read"])
async def test_the_whole_of_a_run_that_was_closed_with_a_part_takes_its_place(
    served: str, anna: Runner, world: World, chunk: int
) -> None:
    run, body = uuid4(), fit(86 + chunk, kilometres=5)
    await put(anna, run, chunk, cut(body, 86, 3)[chunk])
    await Abandoned(world.parts.chunks, world.parts.inbox, clock=lambda: now() + QUIET).sweep()
    async with Client(served) as client:
        client.begin(anna.tokens)
        outbox = client.phone.outbox
        outbox.add_recording(client.user_id, body, run, title="To the end")
        outbox.add(client.user_id, "PATCH", f"/activities/{run}", {"notes": "Wind."})
        async with asyncio.timeout(60):  # a busy machine takes its time for the verdict
            while outbox.next(client.user_id) or outbox.entries(client.user_id, "handed-in"):
                await send_waiting(client)
        assert outbox.entries(client.user_id, "refused") == []
        found = [one for one in await client.activities(client.user_id) if one["title"] == "To the end"]
        whole = await client.activity(found[0]["activity_id"])
    assert (len(found), whole["notes"], whole["distance_m"] > 4_900) == (1, "Wind.", True)
    assert (await anna("GET", f"/activities/{run}")).status_code == 404


async def test_what_was_cut_off_is_resumed_by_the_client(served: str, anna: Runner) -> None:
    run, body = uuid4(), gpx(83)

    async def pieces(until: int) -> AsyncIterator[bytes]:
        for begin in range(0, until, 7_000):
            yield body[begin : min(begin + 7_000, until)]
        if until < len(body):
            raise OSError("the app was ended")

    async with Client(served) as client:
        client._tokens = anna.tokens
        with pytest.raises(OSError, match="ended"):
            await upload_in_chunks(client, run, pieces(100_000), chunk_bytes=30_000)
        assert (await client.get(f"/activities/{run}/chunks"))["offset"] == 90_000
        state = await upload_in_chunks(client, run, pieces(len(body)), chunk_bytes=50_000)
        again = await upload_in_chunks(client, run, body)
    assert state["activity_id"] == again["activity_id"] == str(run)
    assert (await until_judged(anna, run))["status"] == "ready"


async def test_a_live_recording_goes_on_after_a_dead_spot(served: str, anna: Runner) -> None:
    run, body = uuid4(), fit(84)
    away = Client(served.replace("127.0.0.1", "127.0.0.2"), patience_seconds=0)
    async with Client(served) as client, away:
        client._tokens = away._tokens = anna.tokens
        live = LiveRecording(client, run, chunk_bytes=4_000)
        await live.append(body[:6_000])
        live._client = away
        with pytest.raises(Unreachable):
            await live.flush()
        with pytest.raises(Unreachable):
            await live.append(body[6_000:9_000])
        # what flush sent did arrive, only its answer was lost
        assert (await put(anna, run, 1, body[4_000:6_000])).status_code == 201
        live._client = client
        await live.append(body[9_000:])
        restarted = LiveRecording(client, run)
        assert await restarted.resume() >= 6_000
        await restarted.append(body)
        await restarted.finish(title="Through the tunnel")
    assert (await until_judged(anna, run))["status"] == "ready"
    assert (await anna.get(f"/activities/{run}"))["title"] == "Through the tunnel"


async def test_what_was_still_on_its_way_when_the_app_was_ended_is_caught_up_with() -> None:
    sizes: list[int] = []

    def script(request: Request) -> Answer | None:
        match request.line.split(" ")[0], len(sizes):
            case "PUT", 0:
                sizes.append(len(request.body))
                return Answer(409, {"code": "chunk-differs"})
            case "PUT", _:
                sizes.append(len(request.body))
                return Answer(201) if len(sizes) > 2 else CUT_OFF
            case "GET", _:
                return Answer(200, {"received": [[0, 3]], "offset": 60})
            case _:
                return Answer(202, {"status": "processing"})

    async with network(script) as (url, asked), Client(url) as client:
        live = LiveRecording(client, uuid4(), chunk_bytes=1_000)
        await live.append(bytes(100))
        assert await live.finish() == {"status": "processing"}
    assert sizes == [100, 40, 40]
    assert [one.line.rpartition("/")[2] for one in asked if one.line.startswith("PUT")] == ["0", "4", "4"]


async def test_a_chunk_that_truly_differs_is_told() -> None:
    script = [Answer(409, {"code": "chunk-differs"}), Answer(200, {"received": [], "offset": 0})]
    async with network(script) as (url, _), Client(url) as client:
        live = LiveRecording(client, uuid4())
        await live.append(b"bytes")
        with pytest.raises(Refused):
            await live.flush()
