"""`cairn queue` over real servers: what waits, what failed, and trying it again."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
import pytest

from domain.uploads import Manifest
from infra.bootstrap import Parts, open_parts
from infra.faults import Fault
from infra.reading_pool import ProcessReader
from infra.settings import Settings
from tests.instance_settings import settings_of
from tests.recordings import fit
from tests.uploads import accept
from tests.workers.cli.commands import Run, running
from tests.workers.ingest.taking_in import ingest
from tests.workers.ingest.test_ingest import CrashingReader
from workers.cli.queue import queue_command
from workers.ingest.ingest import MAX_ATTEMPTS

T = TypeVar("T")


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return settings_of(tmp_path, database_url, redis_url)


@pytest.fixture
def queue(settings: Settings) -> Run:
    """The command, on the test's servers."""
    return running(queue_command, settings.database_url, settings.data, settings.redis_url)


def within(settings: Settings, work: Callable[[Parts], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_parts(settings) as parts:
            return await work(parts)

    return asyncio.run(run())


def waiting_upload(settings: Settings, body: bytes) -> Manifest:
    return within(settings, lambda parts: accept(parts.inbox, body))


def given_up(settings: Settings) -> Manifest:
    """An upload whose reader died each time."""

    async def fail(parts: Parts) -> Manifest:
        manifest = await accept(parts.inbox, fit(1, kilometres=1))
        taking_in = ingest(parts, CrashingReader())
        for _ in range(MAX_ATTEMPTS):
            with pytest.raises(Exception, match="the reading process died"):
                await taking_in.process(manifest.activity_id)
        await taking_in.process(manifest.activity_id)
        return manifest

    return within(settings, fail)


def told(run: Run, *arguments: object, code: int = 0) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout)


def test_it_says_what_waits_and_what_failed(queue: Run, settings: Settings) -> None:
    assert "nothing waits" in queue("list").output
    waits, lost = waiting_upload(settings, b"waits"), given_up(settings)
    state = told(queue, "status")
    assert (state["waiting"], state["failed"]) == (1, {"processing-failed": 1})
    assert state["oldest_age_s"] >= 0
    listed = told(queue, "list")
    assert [one["activity_id"] for one in listed["waiting"]] == [str(waits.activity_id)]
    (failed,) = listed["failed"]
    assert (failed["activity_id"], failed["code"]) == (str(lost.activity_id), "processing-failed")
    assert (failed["attempts"], failed["reason"]) == (MAX_ATTEMPTS + 1, "ReaderFailed: the reading process died")
    lines = queue("list").output
    assert "waiting since" in lines
    assert "the reading process died" in lines
    assert told(queue, "list", "--code", "recording-empty") == {"waiting": [], "failed": []}


def test_what_failed_is_tried_again(queue: Run, settings: Settings) -> None:
    lost = given_up(settings)
    assert queue("retry", "--code", "processing-failed").exit_code == 0
    assert told(queue, "status")["waiting"] == 1

    async def take_in(parts: Parts) -> str:
        reader = ProcessReader()
        try:
            verdict = await ingest(parts, reader).process(lost.activity_id)
        finally:
            reader.close()
        assert verdict is not None
        return verdict.status

    assert within(settings, take_in) == "ready"
    assert told(queue, "status")["failed"] == {}
    again = queue("retry", lost.activity_id)
    assert (again.exit_code, "nothing to try again" in again.output) == (1, True)


def test_what_is_dropped_waits_no_more_and_can_be_taken_back(queue: Run, settings: Settings, database_url: str) -> None:
    waits = waiting_upload(settings, b"waits")
    assert queue("drop", waits.activity_id, "--reason", "a test file").exit_code == 0
    assert told(queue, "status")["waiting"] == 0
    verdict = within(settings, lambda parts: parts.inbox.verdict(waits.activity_id))
    assert verdict is not None
    assert verdict.fault is not None
    assert (verdict.fault.code, "a test file" in verdict.fault.detail) == ("upload-dropped", True)
    assert queue("retry", waits.activity_id).exit_code == 0
    assert told(queue, "status")["waiting"] == 1
    with psycopg.connect(database_url) as connection:
        done = connection.execute("SELECT action, outcome FROM operator_actions ORDER BY action_id").fetchall()
    assert done == [("queue drop", "done"), ("queue retry", "done")]


def test_what_cannot_be_tried_again_without_its_runners_key_is_said_and_stays_failed(
    queue: Run, settings: Settings, database_url: str
) -> None:
    lost = given_up(settings)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE user_keys SET wrapped = '\\x00'")
    refused = queue("retry", lost.activity_id)
    assert refused.exit_code == 1
    assert "put it back from a backup" in refused.output
    verdict = within(settings, lambda parts: parts.inbox.verdict(lost.activity_id))
    assert verdict is not None
    assert verdict.status == "failed"


def test_a_failed_one_that_is_dropped_is_not_listed_any_more(queue: Run, settings: Settings) -> None:
    lost = given_up(settings)
    dropped = queue("drop", lost.activity_id, "--reason", "told the runner")
    assert (dropped.exit_code, "the app goes on seeing processing-failed" in dropped.output) == (0, True)
    assert told(queue, "list") == {"waiting": [], "failed": []}
    assert queue("drop", lost.activity_id, "--reason", "again").exit_code == 1


def test_what_was_not_done_is_noted_as_not_done(queue: Run, settings: Settings, database_url: str) -> None:
    waits = waiting_upload(settings, b"waits")
    assert queue("drop", uuid4(), waits.activity_id, "--reason", "a test").exit_code == 1
    with psycopg.connect(database_url) as connection:
        done = connection.execute("SELECT outcome FROM operator_actions").fetchall()
    assert done == [("not done for 1 of 2",)]


@pytest.mark.parametrize("command", [["retry"], ["retry", "--code", "x", str(uuid4())], ["drop", str(uuid4())]])
def test_what_names_nothing_is_refused(queue: Run, command: list[str]) -> None:
    result = queue(*command, *(["--reason", "none"] if command[0] == "drop" else []))
    assert result.exit_code != 0
    assert "id" in f"{result.exception} {result.output}"


def test_a_code_with_which_nothing_failed_is_said_to_be_one(queue: Run) -> None:
    refused = queue("retry", "--code", "nosuch")
    assert isinstance(refused.exception, Fault)
    assert str(refused.exception).startswith("nothing failed with nosuch")
    assert queue("list", "--code", "nosuch").output == "nothing failed with nosuch\n"


def test_servers_that_are_away_are_said_to_be(settings: Settings) -> None:
    waiting_upload(settings, b"waits")
    queue = running(queue_command, settings.database_url, settings.data)
    state = told(queue, "status", code=1)
    assert (state["waiting"], state["hints"], state["failed"]) == (1, None, {})
    assert "Valkey does not answer" in queue("status").output
