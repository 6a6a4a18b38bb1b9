"""What becomes of commands that wait for a recording which turns out to be another activity than the phone thought."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.client import Client, Phone, send_waiting
from tests.api.conftest import Runner
from tests.network import Answer, Request, network
from tests.recordings import TCX, fit, gpx

USER, FIRST = uuid4(), uuid4()
DUPLICATE = {"status": "duplicate", "duplicate_of": str(FIRST), "matched": "track"}


def signed_in(folder: Path | None = None) -> Phone:
    phone = Phone(folder)
    phone.keep_session({"user_id": str(USER), "access_token": "access", "refresh_token": "refresh"})
    return phone


async def judged(phone: Phone, states: dict[UUID, dict[str, Any]]) -> list[str]:
    """The commands that are sent once the recordings have their verdicts."""

    def script(request: Request) -> Answer:
        if request.line.endswith("/upload"):
            state = states.get(UUID(request.line.split("/")[3]))
            return Answer(404, {"code": "not-found"}) if state is None else Answer(200, state)
        return Answer(202, {}) if request.line.startswith("PUT") else Answer(204, b"")

    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        await send_waiting(client)
    assert phone.outbox.next(USER) is None
    assert phone.outbox.entries(USER, "refused") == []
    return [one.line.replace("/v1", "") for one in asked if not one.line.startswith(("GET", "PUT"))]


async def test_an_edit_of_a_duplicate_is_one_of_the_run_that_was_there_first(tmp_path: Path) -> None:
    phone = signed_in(tmp_path)
    run = phone.outbox.add_recording(USER, b"a run")
    phone.outbox.add(USER, "PATCH", f"/activities/{run}", {"title": "Abends"})
    assert await judged(phone, {run: DUPLICATE}) == [f"PATCH /activities/{FIRST}"]
    assert Phone(tmp_path).outbox.became(USER, run) == [FIRST]
    assert phone.outbox.became(uuid4(), run) == [run]


@pytest.mark.parametrize("matched", ["bytes", "track"])
async def test_a_duplicate_of_a_file_of_several_sessions_is_all_of_them(matched: str) -> None:
    phone, legs = signed_in(), [uuid4(), uuid4()]
    run = phone.outbox.add_recording(USER, b"a triathlon")
    phone.outbox.add(USER, "PATCH", f"/activities/{run}", {"visibility": "private"})
    states: dict[UUID, dict[str, Any]] = {
        run: {**DUPLICATE, "matched": matched},
        FIRST: {"status": "ready", "activities": [str(leg) for leg in legs]},
    }
    became = legs if matched == "bytes" else [FIRST]  # of a track, the activity itself is named
    assert await judged(phone, states) == [f"PATCH /activities/{one}" for one in became]
    assert phone.outbox.became(USER, run) == sorted(became)


async def test_what_waits_for_a_file_of_several_sessions_is_done_to_each_in_its_order() -> None:
    phone, legs = signed_in(), [uuid4(), uuid4()]
    run = phone.outbox.add_recording(USER, b"a triathlon")
    phone.outbox.add(USER, "PATCH", f"/activities/{run}", {"title": "Abends"})
    phone.outbox.add(USER, "DELETE", f"/activities/{run}")
    done = await judged(phone, {run: {"status": "ready", "activities": [str(leg) for leg in legs]}})
    for leg in legs:
        assert [line.split()[0] for line in done if str(leg) in line] == ["PATCH", "DELETE"]
    assert len(done) == 4


async def test_who_deletes_a_duplicate_keeps_the_run_that_was_there_first() -> None:
    phone = signed_in()
    run = phone.outbox.add_recording(USER, b"a run")
    phone.outbox.add(USER, "PATCH", f"/activities/{run}", {"title": "Abends"})
    phone.outbox.add(USER, "DELETE", f"/activities/{run}")
    other = phone.outbox.add_recording(USER, b"another")
    phone.outbox.add(USER, "DELETE", f"/activities/{other}")
    assert await judged(phone, {run: DUPLICATE, other: {"status": "ready"}}) == [f"DELETE /activities/{other}"]


def test_a_recording_that_went_under_a_new_id_is_followed_to_what_it_became() -> None:
    outbox = signed_in().outbox
    run = outbox.add_recording(USER, b"a run")
    outbox.anew(USER, run)
    [anew] = outbox.became(USER, run)
    entry = outbox.next(USER)
    assert entry
    assert entry.path == f"/activities/{anew}"
    outbox.settle(entry, [FIRST], is_duplicate=True)
    assert outbox.became(USER, run) == outbox.became(USER, anew) == [FIRST]


async def test_a_verdict_that_the_app_does_not_know_yet_settles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.client.syncing._VERDICT_PAUSES", (0.0,))
    phone = signed_in()
    run = phone.outbox.add_recording(USER, b"a run")
    script = [Answer(202, {}), *[Answer(200, {"status": "in review"})] * 2]
    async with network(script) as (url, _), Client(url, phone=phone) as client:
        assert await send_waiting(client) == 0
    assert [one.path for one in phone.outbox.entries(USER, "handed-in")] == [f"/activities/{run}"]


async def test_an_edit_waits_for_a_run_that_failed_until_that_is_tried_again() -> None:
    phone = signed_in()
    run = phone.outbox.add_recording(USER, b"a run")
    phone.outbox.add(USER, "PATCH", f"/activities/{run}", {"title": "Abends"})
    ended = {"status": "failed", "problem": {"code": "session-ended"}}
    async with network([Answer(202, {}), Answer(200, ended)]) as (url, _), Client(url, phone=phone) as client:
        assert await send_waiting(client) == 1
    [failed] = phone.outbox.entries(USER, "refused")
    phone.outbox.retry(failed.place)
    assert await judged(phone, {run: {"status": "ready"}}) == [f"PATCH /activities/{run}"]


async def test_two_phones_with_the_same_runs_lose_no_title(served: str, anna: Runner) -> None:
    second = TCX.replace(b"2026-05-02T06", b"2026-05-02T09").split(b"<Activities>")[1].split(b"</Activities>")[0]
    triathlon = TCX.replace(b"</Activities>", second + b"</Activities>")
    async with Client(served) as watch, Client(served) as phone:
        for client, bodies in ((watch, [fit(95), gpx(96), triathlon]), (phone, [gpx(95), gpx(96), triathlon])):
            client.begin(anna.tokens)
            await hand_in_and_edit(client, bodies, "watch" if client is watch else "phone")
        assert phone.phone.outbox.entries(phone.user_id, "refused") == []
        titles = [one["title"] for one in await phone.activities(phone.user_id)]
    assert sorted(titles) == ["phone 0", "phone 1", "phone 2", "phone 2"]


async def hand_in_and_edit(client: Client, bodies: Iterable[bytes], name: str) -> None:
    outbox, user = client.phone.outbox, client.user_id
    for number, body in enumerate(bodies):
        run = outbox.add_recording(user, body)
        outbox.add(user, "PATCH", f"/activities/{run}", {"title": f"{name} {number}"})
    async with asyncio.timeout(60):  # a busy machine takes its time for the verdict
        while outbox.next(user) or outbox.entries(user, "handed-in"):
            await send_waiting(client)


async def test_a_closed_recording_of_which_nothing_is_left_holds_nothing_up() -> None:
    phone = signed_in()
    closed = phone.outbox.add_recording(USER, b"a run")
    phone.outbox.add_recording(USER, b"another")

    def script(request: Request) -> Answer:
        if str(closed) in request.line:
            is_put = request.line.startswith("PUT")
            return Answer(409, {"code": "recording-closed"}) if is_put else Answer(404, {"code": "not-found"})
        return Answer(200, {"status": "ready"}) if request.line.endswith("/upload") else Answer(202, {})

    async with network(script) as (url, _), Client(url, phone=phone) as client:
        assert await send_waiting(client) == 2
    assert phone.outbox.became(USER, closed) != [closed]
