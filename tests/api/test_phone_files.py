"""The two files of a phone, which may be full, damaged, shared, or left by an app that was killed."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from api.client import Client, Phone, Refused
from api.client.answers import Answers
from api.client.phone import _remove
from tests.phones import RENEWED, TOKENS, USER, signed_in


def test_answers_stay_within_their_limit_and_the_unused_ones_go() -> None:
    phone = Phone()
    answers = Answers(phone._cache, limit_bytes=8_000)
    for number in range(8):
        answers.keep(USER, str(number), "e", bytes(1_000))
    assert answers.find(USER, "0") is not None
    answers.keep(USER, "8", "e", bytes(1_000))
    answers.keep(USER, "large", "e", bytes(2_000))
    assert {path for path in map(str, range(9)) if answers.find(USER, path)} == set("02345678")
    answers.forget(USER)
    assert answers._bytes == 0


@pytest.mark.parametrize("first_byte", [0, 3 * 4096], ids=["all of it", "its later pages"])
def test_damaged_answers_are_begun_anew_and_nothing_else_is_lost(tmp_path: Path, first_byte: int) -> None:
    phone = signed_in(tmp_path)
    for number in range(40):
        phone.answers.keep(USER, f"/{number}", "e", bytes(1_000))
    run = phone.outbox.add_recording(USER, b"a run")
    phone.close()
    file = tmp_path / "answers.sqlite"
    whole = file.read_bytes()
    file.write_bytes(whole[:first_byte] + b"\xa5" * (len(whole) - first_byte))
    again = Phone(tmp_path)
    again.answers.keep(USER, "/feed", "e", b"new")
    kept = again.outbox.next(USER)
    assert again.answers.find(USER, "/feed") == ("e", b"new")
    assert again.answers.find(USER, "/0") is None
    assert (again.session(), kept and kept.entity) == (TOKENS, f"/activities/{run}")
    again.close()


@pytest.mark.parametrize(("name", "broken"), [(b"body", b"bodx"), (b"STRICT", b"STRIC\xd4")], ids=["column", "no text"])
def test_answers_whose_names_are_damaged_are_begun_anew(tmp_path: Path, name: bytes, broken: bytes) -> None:
    phone = signed_in(tmp_path)
    phone.answers.keep(USER, "/me", "e", b"{}")
    phone.close()
    file = tmp_path / "answers.sqlite"
    whole = file.read_bytes()
    assert name in whole[:4096]
    file.write_bytes(whole[:4096].replace(name, broken) + whole[4096:])
    again = Phone(tmp_path)
    assert again.answers.find(USER, "/me") is None
    again.answers.keep(USER, "/me", "f", b"{}")
    assert again.answers.find(USER, "/me") == ("f", b"{}")
    again.forget(USER)
    assert again.session() == {}
    again.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE answers SET body = CAST(replace(CAST(body AS TEXT), 'items', 'itemz') AS BLOB)",
        "UPDATE answers SET body = x'7b22ff22'",
        "UPDATE answers SET etag = etag || char(10)",
        "UPDATE answers SET etag = char(128) || etag",
        "UPDATE answers SET checksum = 1",
    ],
)
async def test_a_kept_answer_that_is_damaged_is_asked_for_again(damage: str) -> None:
    phone, known = signed_in(), []

    def answer(request: httpx.Request) -> httpx.Response:
        known.append(request.headers.get("if-none-match"))
        return httpx.Response(304) if known[-1] else httpx.Response(200, headers={"ETag": '"1"'}, json={"items": []})

    async with Client("http://cairn", phone=phone, transport=httpx.MockTransport(answer)) as client:
        await client.feed()
        phone._cache.execute(damage)
        for _ in range(2):
            assert await client.feed() == []
    assert known == [None, None, '"1"']


async def test_a_session_ends_on_the_phone_also_where_the_answers_lost_a_column() -> None:
    phone = signed_in()
    phone._cache.execute("ALTER TABLE answers RENAME COLUMN user_id TO user_ie")
    phone.forget(USER)
    assert phone.session() == {}


def test_answers_that_another_process_has_dropped_are_not_counted(tmp_path: Path) -> None:
    phone, other = signed_in(tmp_path), signed_in(tmp_path)
    answers = Answers(phone._cache, limit_bytes=8_000)
    for number in range(8):
        answers.keep(USER, str(number), "e", bytes(1_000))
    other.answers.forget(USER)
    for number in range(8):
        answers.keep(USER, str(number), "f", bytes(1_000))
    assert all(answers.find(USER, str(number)) for number in range(8))


def test_answers_that_another_process_drops_at_the_same_time_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = Answers(Phone()._cache, limit_bytes=8_000)
    monkeypatch.setattr(answers, "_counted", lambda: (20_000.0, 1))  # and by now they are gone
    answers._bytes = 20_000
    answers.keep(USER, "/feed", "e", bytes(1_000))
    assert answers.find(USER, "/feed") is None


def test_two_processes_that_start_at_once_are_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[UUID] = []

    def made_meanwhile() -> UUID:
        monkeypatch.undo()
        others.append(Phone(tmp_path).device_id)
        return uuid4()

    monkeypatch.setattr("api.client.phone.uuid4", made_meanwhile)
    assert [Phone(tmp_path).device_id] == others == [Phone(tmp_path).device_id]


@pytest.mark.parametrize("name", ["app.sqlite", "answers.sqlite"])
def test_a_process_that_is_just_making_a_file_is_waited_for(tmp_path: Path, name: str) -> None:
    other = sqlite3.connect(tmp_path / name, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.2, other.close)
    ends.start()
    with closing(Phone(tmp_path)) as phone:
        assert phone.session() == {}
    ends.join()


def test_two_processes_that_start_at_once_share_the_answers_that_one_of_them_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "answers.sqlite")) as before:
        before.execute("CREATE TABLE answers (user_id TEXT, path TEXT, etag TEXT, body BLOB, used INTEGER)")

    def keep() -> None:
        with closing(Phone(tmp_path)) as phone:
            phone.answers.keep(USER, "/me", "e", b"{}")

    other = threading.Thread(target=keep)

    def removed_late(path: Path) -> None:
        monkeypatch.undo()
        other.start()
        other.join(0.2)  # time enough to make the file that is removed now, if it did not wait
        _remove(path)

    monkeypatch.setattr("api.client.phone._remove", removed_late)
    with closing(Phone(tmp_path)) as phone:
        other.join()
        assert phone.answers.find(USER, "/me") == ("e", b"{}")


async def test_two_processes_of_one_app_share_a_session(tmp_path: Path) -> None:
    signed_in(tmp_path)
    valid, refreshes = "new", 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal refreshes
        if request.url.path == "/v1/sessions/refresh":
            refreshes += 1
            return httpx.Response(201, json=RENEWED)
        renewed = request.headers["authorization"] == f"Bearer {valid}"
        return httpx.Response(200 if renewed else 401, json={"code": "token-refused"})

    network = httpx.MockTransport(answer)
    app, widget = (Client("http://cairn", phone=Phone(tmp_path), transport=network) for _ in range(2))
    async with app, widget:
        await app.me()
        await widget.me()  # its refresh token is used up, and would end the session
        assert (refreshes, widget.session) == (1, RENEWED)
        valid = "none"
        with pytest.raises(Refused):
            await widget.me()
        assert refreshes == 2


async def test_tokens_of_another_process_that_have_expired_since_are_renewed_as_well(tmp_path: Path) -> None:
    signed_in(tmp_path)
    newest = {**RENEWED, "access_token": "newest", "refresh_token": "newest too"}
    renewals = {"refresh": RENEWED, "newer": newest}
    valid = "new"

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/sessions/refresh":
            return httpx.Response(201, json=renewals.pop(json.loads(request.content)["refresh_token"]))
        renewed = request.headers["authorization"] == f"Bearer {valid}"
        return httpx.Response(200 if renewed else 401, json={"code": "token-refused"})

    network = httpx.MockTransport(answer)
    app, widget = (Client("http://cairn", phone=Phone(tmp_path), transport=network) for _ in range(2))
    async with app, widget:
        await widget.me()
        valid = "newest"  # the night went by
        await asyncio.gather(app.me(), app.me())
        assert app.session == newest


async def test_a_session_ends_on_the_phone_also_where_the_answers_are_damaged(tmp_path: Path) -> None:
    phone = signed_in(tmp_path)
    for number in range(100):
        phone.answers.keep(USER, f"/{number}", "e", bytes(1_000))
    phone._cache.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    phone._cache.execute("PRAGMA cache_size = 0")
    file = tmp_path / "answers.sqlite"
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xa5" * (file.stat().st_size - 4096))
    phone._cache.execute("PRAGMA shrink_memory")
    ended = httpx.MockTransport(lambda _: httpx.Response(401, json={"code": "token-refused"}))
    async with Client("http://cairn", phone=phone, transport=ended) as client:
        await client.sign_out()
        assert phone.session() == {}
    phone.close()
    assert Phone(tmp_path).answers._bytes == 0


def test_an_app_that_is_killed_while_it_forgets_is_still_signed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = signed_in(tmp_path)
    phone.answers.keep(USER, "/feed", "e", b"seen")
    monkeypatch.setattr(phone.replica, "forget", killed)
    with pytest.raises(KeyboardInterrupt):
        phone.forget(USER)
    again = Phone(tmp_path)
    assert (again.session(), again.answers.find(USER, "/feed")) == (TOKENS, None)


def killed(_: object) -> None:
    raise KeyboardInterrupt


KILLED = """
import pathlib, sys
from uuid import UUID
from api.client import Phone

outbox = Phone(pathlib.Path(sys.argv[1])).outbox
user, activities = UUID(sys.argv[2]), [UUID(int=number) for number in range(200)]
run = outbox.add_recording(user, b"a run")
for number in range(20):
    outbox.add(user, "PATCH", f"/activities/{run}", {"notes": str(number)})
print(run, flush=True)
outbox.settle(outbox.next(user), activities)
"""


@pytest.mark.parametrize("after_seconds", [0.0, 0.02])
def test_a_verdict_is_taken_whole_or_not_at_all(tmp_path: Path, after_seconds: float) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), str(USER)], stdout=subprocess.PIPE) as app:
        assert app.stdout is not None
        run = UUID(app.stdout.readline().decode().strip())
        time.sleep(after_seconds)
        app.kill()
    outbox = Phone(tmp_path).outbox
    entries, became = outbox.entries(USER, "waiting"), outbox.became(USER, run)
    assert (len(entries), len(became)) in {(21, 1), (4_000, 200)}
