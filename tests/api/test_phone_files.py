"""The two files of a phone: one of them may be lost, and neither holds more than it should."""

from pathlib import Path
from uuid import uuid4

import pytest

from api.client import Phone
from api.client.answers import Answers

USER = uuid4()
TOKENS = {"user_id": str(USER), "access_token": "access", "refresh_token": "refresh"}


def signed_in(folder: Path) -> Phone:
    phone = Phone(folder)
    phone.keep_session(TOKENS)
    return phone


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
