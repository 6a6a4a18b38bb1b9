"""What an app keeps on the phone: it may be killed at any moment, and nothing is lost, doubled or out of order."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import defaultdict
from pathlib import Path
from uuid import uuid4

import pytest

from api.client import Client, Pacing, Phone, Refused, Unreachable, send_waiting, sync
from tests.network import CUT_OFF, Answer, Request, network
from tests.phones import TOKENS, USER
from tests.recordings import gpx

SOON = Pacing(first_seconds=0.05, longest_seconds=0.2)

APP = """
import asyncio, pathlib, sys
from uuid import UUID
from api.client import Client, Pacing, Phone, send_waiting

async def main(folder, url, user):
    phone = Phone(pathlib.Path(folder))
    phone.keep_session({"user_id": user, "access_token": "access", "refresh_token": "refresh"})
    async with Client(url, phone=phone, pacing=Pacing(first_seconds=0.05, longest_seconds=0.1)) as client:
        for number in map(int, sys.stdin.readline().split()):
            phone.outbox.add(UUID(user), "POST", f"/things/{number % 3}/marks", {"number": number})
            print(number, flush=True)
            if number % 4 == 3:
                await send_waiting(client)
        await send_waiting(client)

asyncio.run(main(*sys.argv[1:]))
"""


def signed_in(folder: Path | None = None) -> Phone:
    phone = Phone(folder)
    phone.keep_session(TOKENS)
    return phone


async def test_an_app_that_is_killed_anywhere_does_each_thing_once_and_in_order(tmp_path: Path) -> None:
    dice, done, replies = random.Random(7), defaultdict[str, list[int]](list), dict[str, Answer]()
    app: asyncio.subprocess.Process | None = None
    kills = 3

    def script(request: Request) -> Answer | None:
        nonlocal kills
        fate = dice.random() if kills else 1.0
        if fate < 0.15:
            kill()
            return CUT_OFF
        key = request.headers["idempotency-key"]
        if key not in replies:
            done[request.line].append(json.loads(request.body)["number"])
            replies[key] = Answer(204, b"")
        if fate < 0.3:
            kill()
            return CUT_OFF
        return CUT_OFF if fate < 0.5 else replies[key]

    def kill() -> None:
        nonlocal kills
        kills -= 1
        assert app is not None
        os.kill(app.pid, signal.SIGKILL)

    promised: list[int] = []
    async with network(script) as (url, _):
        while len(promised) < 40 or app is None or app.returncode != 0:
            app = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", APP, str(tmp_path), url, str(USER)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            left = " ".join(map(str, range(len(promised), 40)))
            told, _ = await app.communicate(f"{left}\n".encode())
            promised += map(int, told.split())
    assert kills == 0
    written = [number for numbers in done.values() for number in numbers]
    assert sorted(written) == promised == list(range(40))
    assert all(numbers == sorted(numbers) for numbers in done.values())


async def test_an_edit_waits_until_its_run_is_an_activity_and_others_do_not_wait() -> None:
    phone, asked_for = signed_in(), 0

    def script(request: Request) -> Answer:
        nonlocal asked_for
        if request.line.endswith("/upload"):
            asked_for += 1
            return Answer(200, {"status": "processing" if asked_for < 2 else "ready"})
        return Answer(202, {}) if request.line.startswith("PUT /v1/act") else Answer(204, b"")

    run = phone.outbox.add_recording(USER, b"a run", title="Abends")
    phone.outbox.add(USER, "PATCH", f"/activities/{run}", {"notes": "Wind."})
    phone.outbox.add(USER, "PUT", "/me/goals/1", {"metric": "count"})
    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        assert await send_waiting(client) == 3
    lines = [one.line.replace(str(run), "RUN").replace("/v1", "") for one in asked]
    upload, goal, state = "PUT /activities/RUN?title=Abends", "PUT /me/goals/1", "GET /activities/RUN/upload"
    edit = "PATCH /activities/RUN"
    assert lines == [upload, goal, state, state, edit]


async def test_what_is_refused_stays_with_its_reason_and_holds_nothing_up() -> None:
    phone = signed_in()
    refused = Answer(422, {"code": "invalid-body", "detail": "No."})
    failed = Answer(200, {"status": "failed", "problem": {"code": "recording-unreadable"}})
    run = phone.outbox.add_recording(USER, b"noise")
    phone.outbox.add(USER, "PATCH", "/me", {"units": "ells"})
    phone.outbox.add(USER, "PATCH", "/me", {"units": "metric"})
    phone.outbox.add(uuid4(), "PATCH", "/me", {"units": "metric"})
    script = [Answer(202, {}), refused, Answer(204, b""), failed]
    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        assert await send_waiting(client) == 3
    kept = phone.outbox.entries(USER, "refused")
    assert [one.problem["code"] for one in kept] == ["recording-unreadable", "invalid-body"]
    assert kept[0].entity == f"/activities/{run}"
    phone.outbox.drop(kept[1].place)
    phone.outbox.retry(kept[0].place)
    again = phone.outbox.next(USER)
    assert (again and again.body, phone.outbox.entries(USER, "refused")) == (b"noise", [])
    assert len(asked) == 4  # another runner's command waits for that runner


async def test_an_app_that_is_too_old_still_hands_its_runs_in() -> None:
    phone, too_old = signed_in(), Answer(403, {"code": "client-too-old"})
    for _ in range(3):
        phone.outbox.add(USER, "PATCH", "/me", {"units": "metric"})
    runs = [phone.outbox.add_recording(USER, b"a run") for _ in range(2)]
    script = [too_old, Answer(202, {}), Answer(202, {})]
    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        with pytest.raises(Refused):
            await send_waiting(client)
    assert [one.line for one in asked[1:]] == [f"PUT /v1/activities/{run}" for run in runs]
    assert len(phone.outbox.entries(USER, "waiting")) == 3


PAGE = Answer(403, b"<html>blocked", content_type="text/html")


async def test_what_something_on_the_way_refuses_waits_and_all_else_is_sent() -> None:
    phone = signed_in()

    def script(request: Request) -> Answer:
        if b"' OR 1" in request.body or request.line == f"GET /v1/activities/{unseen}/upload":
            return PAGE
        return Answer(200, {"status": "ready"}) if request.line.endswith("/upload") else Answer(202, {})

    phone.outbox.add(USER, "PATCH", "/me", {"display_name": "' OR 1"})
    stopped = phone.outbox.add_recording(USER, b"' OR 1")
    unseen = phone.outbox.add_recording(USER, b"a run")
    other = phone.outbox.add_recording(USER, b"another")
    phone.outbox.add(USER, "PATCH", f"/activities/{other}", {"notes": "Wind."})
    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        with pytest.raises(Refused, match="403"):
            await send_waiting(client)
    assert [one.entity for one in phone.outbox.entries(USER, "waiting")] == ["/me", f"/activities/{stopped}"]
    assert [one.entity for one in phone.outbox.entries(USER, "handed-in")] == [f"/activities/{unseen}"]
    assert len({one.line for one in asked}) == len(asked) == 7  # nothing twice


async def test_a_run_that_the_server_has_lost_is_sent_again_and_holds_nothing_up() -> None:
    phone, held = signed_in(), set[str]()

    def script(request: Request) -> Answer:
        run = request.line.split("/")[3]
        if request.line.startswith("PUT"):
            held.add(run)
            return Answer(202, {})
        return Answer(200, {"status": "ready"}) if run in held else Answer(404, {"code": "not-found"})

    lost = phone.outbox.add_recording(USER, b"a run")
    entry = phone.outbox.next(USER)
    assert entry
    phone.outbox.handed_in(entry.place)
    other = phone.outbox.add_recording(USER, b"another")
    async with network(script) as (url, _), Client(url, phone=phone) as client:
        assert await send_waiting(client) == 2
    assert held == {str(lost), str(other)}
    assert phone.outbox.entries(USER, "waiting") == phone.outbox.entries(USER, "handed-in") == []


async def test_what_no_network_took_is_sent_the_next_time(tmp_path: Path) -> None:
    phone = signed_in(tmp_path)
    phone.outbox.add(USER, "POST", "/things", {"a": 1})
    async with network([CUT_OFF]) as (url, asked), Client(url, phone=phone, patience_seconds=0) as client:
        with pytest.raises(Unreachable) as silence:
            await send_waiting(client)
    assert silence.value.broke
    phone.close()
    async with network([Answer(201)]) as (url, again), Client(url, phone=Phone(tmp_path)) as client:
        assert client.is_signed_in
        assert await send_waiting(client) == 1
    first, second = asked[0].headers, again[0].headers
    assert first["idempotency-key"] == second["idempotency-key"]
    assert first["cairn-client"] == second["cairn-client"]  # the same device


async def test_what_has_not_changed_is_kept_by_its_etag_for_each_runner(tmp_path: Path) -> None:
    def script(request: Request) -> Answer:
        if request.headers.get("if-none-match") == '"1"':
            return Answer(304, b"", {"ETag": '"1"'})
        return Answer(200, {"items": [1]}, {"ETag": '"1"'})

    async with network(script) as (url, asked):
        for _ in range(2):
            async with Client(url, phone=signed_in(tmp_path)) as client:
                assert await client.get("/feed") == await client.get("/feed") == {"items": [1]}
        phone = signed_in(tmp_path)
        phone.keep_session({**TOKENS, "user_id": str(uuid4())})
        async with Client(url, phone=phone) as client:
            await client.get("/feed")
    assert [one.headers.get("if-none-match") for one in asked] == [None, '"1"', '"1"', '"1"', None]


ENDED = Answer(401, {"code": "token-refused"})


@pytest.mark.parametrize(
    "script", [[Answer(204, b"")], [ENDED, ENDED], [Answer(503, {}, {"Retry-After": "9"})]], ids=["", "ended", "away"]
)
async def test_signing_out_forgets_what_can_be_asked_for_again(script: list[Answer]) -> None:
    phone = signed_in()
    phone.replica.apply(USER, [{"kind": "goal", "id": "1", "deleted": False}], "c")
    phone.answers.keep(USER, "/feed", '"1"', b"{}")
    phone.outbox.add(USER, "PATCH", "/me", {})
    async with network(script) as (url, _), Client(url, phone=phone) as client:
        await client.sign_out()
        assert not client.is_signed_in
    assert (phone.session(), phone.replica.cursor(USER), phone.answers.find(USER, "/feed")) == ({}, None, None)
    assert phone.outbox.next(USER) is not None


OTHER = {"user_id": str(uuid4()), "access_token": "other", "refresh_token": "other"}


@pytest.mark.parametrize(
    "silence", [Answer(503, {}, {"Retry-After": "0"}), Answer(200, {"status": "ready"})], ids=["pause", "answer"]
)
async def test_what_waits_for_one_runner_is_never_sent_for_another(silence: Answer) -> None:
    phone = signed_in()

    def script(_: Request) -> Answer:
        client.begin(OTHER)  # while the recording is on its way
        return silence

    phone.outbox.add_recording(USER, b"a run")
    async with network(script) as (url, asked), Client(url, phone=phone, pacing=SOON) as client:
        with pytest.raises(Unreachable):
            await send_waiting(client)
    assert len(asked) == 1
    assert len(phone.outbox.entries(USER, "waiting")) == 1


@pytest.mark.parametrize("status", ["unreachable", "processing"])
async def test_a_runner_who_signs_in_during_a_pause_gets_nothing_of_the_one_before(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, sleep = signed_in(), asyncio.sleep

    async def change_runner(seconds: float) -> None:
        await sleep(0)
        if seconds:
            client.begin(OTHER)

    def script(_: Request) -> Answer:
        return Answer(503, {}) if status == "unreachable" else Answer(200, {"status": status})

    phone.outbox.add_recording(USER, b"a run")
    async with network(script) as (url, asked), Client(url, phone=phone, pacing=SOON) as client:
        monkeypatch.setattr("api.client.client.asyncio.sleep", change_runner)
        with pytest.raises(Unreachable):
            await send_waiting(client)
    assert {one.headers["authorization"] for one in asked} == {"Bearer access"}


async def test_tokens_that_come_after_the_runner_has_changed_are_let_go() -> None:
    phone = signed_in()

    def script(request: Request) -> Answer:
        if request.line != "POST /v1/sessions/refresh":
            return ENDED
        client.begin(OTHER)
        return Answer(200, {**TOKENS, "access_token": "new"})

    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        with pytest.raises(Unreachable):
            await client.get("/feed")
        assert client.session == phone.session() == OTHER
    assert len(asked) == 2


def page(*items: tuple[str, bool], cursor: str, has_more: bool = False) -> Answer:
    changes = [{"kind": "goal", "id": name, "deleted": deleted} for name, deleted in items]
    return Answer(200, {"items": changes, "next_cursor": cursor, "has_more": has_more})


def screen(*items: tuple[str, bool], cursor: str, has_more: bool = False) -> Answer:
    changes = [{"kind": "goal", "id": name, "deleted": deleted} for name, deleted in items]
    body = {"changes": changes, "cursor": cursor, "has_more": has_more, "next_poll_at": "2036-01-01T00:10:00Z"}
    return Answer(200, body, {"Date": "Tue, 01 Jan 2036 00:00:00 GMT"})


@pytest.mark.parametrize("gone", [Answer(410, {"code": "resync-needed"}), Answer(400, {"code": "malformed-cursor"})])
async def test_a_launch_asks_for_everything_once_and_then_for_what_is_new(gone: Answer) -> None:
    script = [
        screen(cursor="now"),
        page(("a", False), ("b", False), cursor="1", has_more=True),
        page(("c", False), cursor="2"),
        screen(("b", True), ("d", False), cursor="3", has_more=True),
        page(("a", True), cursor="4"),
        gone,
        screen(cursor="now"),
        page(("e", False), cursor="9"),
    ]
    phone = signed_in()
    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        seen = []
        for _ in range(3):
            assert 590 < (await sync(client)).poll_in <= 601  # by the server's clock
            seen.append("".join(phone.replica.things(USER, "goal")))
    assert seen == ["abc", "cd", "e"]
    assert [one.line.rpartition("/")[2] for one in asked] == [
        *("bootstrap", "changes", "changes?since=1", "bootstrap?since=2", "changes?since=3"),
        *("bootstrap?since=4", "bootstrap", "changes"),
    ]


@pytest.mark.parametrize("answer", [Answer(410, b"<html>", content_type="text/html"), Answer(400, {"code": "other"})])
async def test_the_copy_is_dropped_on_the_servers_word_only(answer: Answer) -> None:
    phone = signed_in()
    phone.replica.apply(USER, [], "1")
    async with network([answer]) as (url, _), Client(url, phone=phone) as client:
        with pytest.raises(Refused):
            await sync(client)
    assert phone.replica.cursor(USER) == "1"


async def test_a_copy_on_the_phone_follows_the_real_api(served: str) -> None:
    async with Client(served) as client:
        await client.register(f"{uuid4()}@example.com", "a long password", "Anna")
        await sync(client)
        replica, outbox, user = client.phone.replica, client.phone.outbox, client.user_id
        run, goal = outbox.add_recording(user, gpx(61), title="Abends"), str(uuid4())
        wanted = {"metric": "count", "target": 4.0, "period": "week", "starts_on": "2026-01-01"}
        outbox.add(user, "PUT", f"/me/goals/{goal}", wanted)
        outbox.add(user, "PATCH", f"/activities/{run}", {"title": "Nachts"})
        async with asyncio.timeout(60):  # a busy machine takes its time for the verdict
            while outbox.next(user) or outbox.entries(user, "handed-in"):
                await send_waiting(client)
        synced = await sync(client)
        assert list(replica.things(user, "goal")) == [goal]
        assert replica.things(user, "activity")[str(run)]["activity"]["title"] == "Nachts"
        assert synced.poll_in > 0
        outbox.add(user, "DELETE", f"/me/goals/{goal}")
        assert await send_waiting(client) == 1
        await sync(client)
        assert replica.things(user, "goal") == {}
        assert outbox.entries(user, "refused") == []
