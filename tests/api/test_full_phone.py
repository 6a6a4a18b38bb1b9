"""A phone that is full: what the runner did goes to the server all the same, and screens are shown."""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from api.client import Client, Phone, send_waiting, sync
from api.client.outbox import Outbox
from tests.network import Answer, Request, network
from tests.phones import RENEWED, TOKENS, USER, signed_in


def full(file: sqlite3.Connection) -> None:
    """Every write fails from now on."""
    file.execute("PRAGMA query_only = ON")


def freed(file: sqlite3.Connection) -> None:
    """Writes go well again."""
    file.execute("PRAGMA query_only = OFF")


async def test_a_full_phone_reads_on_and_says_that_it_keeps_nothing() -> None:
    phone = Phone()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/sessions/refresh":
            return httpx.Response(201, json=RENEWED)
        renewed = request.headers["authorization"] == "Bearer new"
        return httpx.Response(200 if renewed else 401, headers={"ETag": '"1"'}, json={"code": "token-refused"})

    async with Client("http://cairn", phone=phone, transport=httpx.MockTransport(answer)) as client:
        client.begin(TOKENS)
        full(phone._file)
        full(phone._cache)
        for _ in range(2):
            assert await client.me() == {"code": "token-refused"}
        assert client.session == RENEWED
        with pytest.raises(sqlite3.OperationalError):
            phone.outbox.add_recording(USER, b"a run")


def test_answers_that_a_full_phone_cannot_drop_keep_the_session() -> None:
    phone = signed_in()
    phone.answers.keep(USER, "/me", "e", b"{}")
    full(phone._cache)
    with pytest.raises(sqlite3.OperationalError):
        phone.forget(USER)
    assert phone.session() == TOKENS


async def test_a_full_phone_sends_all_that_waits_once_and_writes_it_down_when_there_is_room() -> None:
    phone = signed_in()

    def script(request: Request) -> Answer:
        if request.line == "PUT /v1/me/goals/refused":
            return Answer(422, {"code": "goal-invalid"})
        if request.line.startswith("GET"):
            return Answer(200, {"status": "ready"})
        return Answer(202 if request.line.startswith("PUT /v1/act") else 204, {})

    runs = [phone.outbox.add_recording(USER, b"run %d" % number) for number in range(3)]
    phone.outbox.add(USER, "PATCH", f"/activities/{runs[0]}", {"notes": "Wind."})
    phone.outbox.add(USER, "PUT", "/me/goals/refused", {})
    phone.outbox.add(USER, "PATCH", "/me", {"time_zone": "Europe/Berlin"})
    full(phone._file)
    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError):
                await send_waiting(client)
        puts = [f"PUT /v1/activities/{run}" for run in runs]
        assert [one.line for one in asked] == [*puts, "PUT /v1/me/goals/refused", "PATCH /v1/me"]
        del asked[:]
        freed(phone._file)
        assert await send_waiting(client) == 4
    states = [f"GET /v1/activities/{run}/upload" for run in runs]
    assert [one.line for one in asked] == [*states, f"PATCH /v1/activities/{runs[0]}"]
    refused = phone.outbox.entries(USER, "refused")
    assert [(one.entity, one.problem["code"]) for one in refused] == [("/me/goals/refused", "goal-invalid")]
    assert phone.outbox.entries(USER, "waiting") == phone.outbox.entries(USER, "handed-in") == []


async def test_a_verdict_that_a_full_phone_cannot_keep_holds_up_no_other_and_is_asked_for_again() -> None:
    phone, lost = signed_in(), uuid4()

    def script(request: Request) -> Answer:
        if request.line.startswith(f"GET /v1/activities/{lost}") and not uploaded:
            return Answer(404, {"code": "not-found"})
        if request.line.startswith("PUT"):
            uploaded.append(request.line)
        return Answer(200, {"status": "ready"})

    uploaded: list[str] = []
    for run in (uuid4(), lost, uuid4()):
        phone.outbox.add_recording(USER, b"a run", run)
    for entry in phone.outbox.entries(USER, "waiting"):
        phone.outbox.handed_in(entry.place)
    full(phone._file)
    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        with pytest.raises(sqlite3.OperationalError):
            await send_waiting(client)
        assert (len(asked), uploaded) == (3, [])
        freed(phone._file)
        assert await send_waiting(client) == 3
    assert uploaded == [f"PUT /v1/activities/{lost}"]


async def test_a_full_phone_that_is_started_anew_sends_again_what_it_could_not_write_down() -> None:
    phone = signed_in()
    phone.outbox.add(USER, "PUT", "/me/goals/1", {})
    full(phone._file)
    async with network(lambda _: Answer(204, b"")) as (url, asked):
        for _ in range(2):
            async with Client(url, phone=phone) as client:
                with pytest.raises(sqlite3.OperationalError):
                    await send_waiting(client)
            phone.outbox = Outbox(phone._file)
    assert len(asked) == 2


@contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """No file has more, not even the index that processes share: the nearest to a full disk that needs no disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room_bytes", [0, 1_000], ids=["no index at all", "an index that cannot grow"])
async def test_an_app_that_is_opened_on_a_full_phone_sends_all_that_waits_once(tmp_path: Path, room_bytes: int) -> None:
    with closing(signed_in(tmp_path)) as phone:
        runs = [phone.outbox.add_recording(USER, b"a run") for _ in range(3)]
        phone.answers.keep(USER, "/me", "e", b"{}")
    async with network(lambda _: Answer(200, {"status": "ready"})) as (url, asked):
        with full_disk(room_bytes):
            phone = Phone(tmp_path)
            async with Client(url, phone=phone) as client:
                with pytest.raises(sqlite3.OperationalError):
                    await send_waiting(client)
                with pytest.raises(sqlite3.OperationalError):
                    phone.outbox.add_recording(USER, b"another run")
        async with Client(url, phone=phone) as client:
            assert await send_waiting(client) == 3
        phone.close()
    assert sorted(one.line for one in asked if one.line.startswith("PUT")) == sorted(
        f"PUT /v1/activities/{run}" for run in runs
    )
    with closing(Phone(tmp_path)) as again:
        assert again.outbox.entries(USER, "waiting") == again.outbox.entries(USER, "handed-in") == []
        assert again.answers.find(USER, "/me") == ("e", b"{}")


def test_answers_that_a_full_phone_cannot_begin_anew_are_kept_as_long_as_the_app_runs(tmp_path: Path) -> None:
    signed_in(tmp_path).close()
    (tmp_path / "answers.sqlite").write_bytes(b"\xa5" * 8192)
    with full_disk(room_bytes=1_000), closing(Phone(tmp_path)) as phone:
        phone.answers.keep(USER, "/me", "e", b"{}")
        assert (phone.session(), phone.answers.find(USER, "/me")) == (TOKENS, ("e", b"{}"))
    with closing(Phone(tmp_path)) as again:
        assert again.answers.find(USER, "/me") is None


NOTHING_NEW = {"next_poll_at": "2036-01-01T00:10:00Z", "name": "Anna"}
PAGE = {"items": [{"kind": "goal", "id": "a", "deleted": False}], "next_cursor": "1", "has_more": False}
CHANGED = {**NOTHING_NEW, "changes": PAGE["items"], "cursor": "2", "has_more": False}
GONE = Answer(410, {"code": "resync-needed"})


@pytest.mark.parametrize(
    ("cursor", "script"),
    [
        (None, [Answer(200, NOTHING_NEW), Answer(200, PAGE)]),
        ("0", [Answer(200, CHANGED)]),
        ("0", [GONE, Answer(200, NOTHING_NEW)]),
    ],
    ids=["first", "later", "anew"],
)
async def test_a_full_phone_shows_the_first_screen_and_keeps_its_copy_as_it_was(
    cursor: str | None, script: list[Answer]
) -> None:
    phone = signed_in()
    if cursor is not None:
        phone.replica.apply(USER, [{"kind": "goal", "id": "old", "deleted": False}], cursor)
    full(phone._file)
    async with network(script) as (url, asked), Client(url, phone=phone) as client:
        assert (await sync(client)).screen["name"] == "Anna"
    assert len(asked) == len(script)
    assert phone.replica.cursor(USER) == cursor
    assert list(phone.replica.things(USER, "goal")) == ([] if cursor is None else ["old"])
