"""`cairn import` and the account that it brings recordings into."""

import json
from pathlib import Path

import pytest

from infra.faults import Fault
from tests.network import Answer, Request, network
from tests.workers.cli.import_server import ACCOUNT, READY, RUN_1, SESSION, activity, run, server

pytestmark = pytest.mark.usefixtures("data")


async def test_an_account_that_cannot_be_opened_says_why(run_file: Path) -> None:
    def script(request: Request) -> Answer:
        if request.line == "POST /v1/sessions":
            return Answer(401, {"code": "sign-in-refused"})
        return Answer(
            422, {"code": "invalid-body", "detail": "A value does not fit.", "errors": ["password: too short"]}
        )

    async with network(script) as (url, _):
        done = await run(run_file, *ACCOUNT, "--server", url)
    assert isinstance(done.exception, Fault)
    assert "no account can be opened for anna@example.com" in str(done.exception)
    assert "the password is not that of anna@example.com" in str(done.exception)  # nobody can tell which it is
    assert "password: too short" in str(done.exception)


async def test_an_address_that_is_none_is_named(run_file: Path) -> None:
    problem = {"code": "invalid-body", "detail": "A value does not fit.", "errors": ["Invalid value - at `$.email`"]}
    async with network(lambda _: Answer(422, problem)) as (url, _):
        done = await run(run_file, *ACCOUNT, "--server", url)
    assert isinstance(done.exception, Fault)
    assert "signing in as anna@example.com failed" in str(done.exception)
    assert "$.email" in str(done.exception)


async def test_a_server_is_named_with_its_scheme(run_file: Path) -> None:
    done = await run(run_file, *ACCOUNT, "--server", "localhost:8000")
    assert done.exit_code == 2
    assert "http://127.0.0.1:8000" in done.stderr


@pytest.mark.parametrize(
    ("account", "has", "given", "machine", "is_set"),
    [
        ("new", None, None, "Europe/Berlin", "Europe/Berlin"),
        ("new", None, "Asia/Tokyo", "Europe/Berlin", "Asia/Tokyo"),
        ("new", None, None, "Etc/UTC", None),
        ("empty", None, None, "Europe/Berlin", "Europe/Berlin"),  # whoever opened it was cut off right after
        ("empty", None, None, "Etc/UTC", None),
        ("empty", "Asia/Tokyo", None, "Europe/Berlin", None),
        ("used", None, None, "Europe/Berlin", None),
        ("silent", None, None, "Europe/Berlin", None),
        ("used", None, "Asia/Tokyo", "Europe/Berlin", "Asia/Tokyo"),
        ("used", "Asia/Tokyo", "Asia/Tokyo", "Europe/Berlin", None),
        ("used", "Asia/Tokyo", None, "Europe/Berlin", None),
    ],
)
async def test_an_account_has_a_time_zone_before_anything_is_sent_or_the_lack_is_told(
    run_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    account: str,
    has: str | None,
    given: str | None,
    machine: str,
    is_set: str | None,
) -> None:
    monkeypatch.setenv("TZ", machine)
    runs = {"empty": Answer(200, {"items": []}), "used": Answer(200, {"items": [activity(RUN_1, "running")]})}
    told_runs = runs.get(account, Answer(403, {"code": "forbidden"}))
    script = server(lambda _: Answer(202, READY), me=Answer(200, {"time_zone": has}), activities=told_runs)

    def answer(request: Request) -> Answer:
        if request.line == "POST /v1/sessions" and account == "new":
            return Answer(401, {"code": "sign-in-refused"})
        if request.line == "POST /v1/users":
            return SESSION
        return Answer(204, b"") if request.line.startswith("PATCH") else script(request)

    more = ("--time-zone", given) if given else ()
    async with network(answer) as (url, asked):
        done = await run(run_file, *ACCOUNT, "--server", url, *more)
    writes = [request for request in asked if request.line.startswith(("PATCH", "PUT"))]
    told = [json.loads(request.body)["time_zone"] for request in writes[:-1]]
    assert (done.exit_code, told) == (0, [is_set] if is_set else [])
    assert ("NO TIME ZONE" in done.stderr) is ("NO TIME ZONE" in done.stdout) is (has is is_set is None)


async def test_a_time_zone_that_the_account_has_not_stops_it(run_file: Path) -> None:
    script = server(lambda _: Answer(202, READY), me=Answer(200, {"time_zone": "Asia/Tokyo"}))
    async with network(script) as (url, asked):
        done = await run(run_file, *ACCOUNT, "--server", url, "--time-zone", "Europe/Berlin")
    assert "the time zone of anna@example.com is Asia/Tokyo" in str(done.exception)
    assert not [request for request in asked if request.line.startswith("PUT")]


async def test_a_time_zone_that_is_none_is_refused(run_file: Path) -> None:
    done = await run(run_file, *ACCOUNT, "--time-zone", "Berlin")
    assert (done.exit_code, "Europe/Berlin" in done.stderr) == (2, True)
