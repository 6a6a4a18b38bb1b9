"""`cairn fleet` against the real API."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import click.testing
import httpx
import pytest

from infra.faults import Fault
from infra.processes import child_environ
from tests.network import Answer, network
from workers.cli.fleet.command import fleet_command
from workers.cli.fleet.counting import Counting, Tally


async def fleet(*arguments: str) -> click.testing.Result:
    return await asyncio.to_thread(click.testing.CliRunner().invoke, fleet_command, arguments)


async def test_a_fleet_tells_what_it_asked_and_every_run_is_one_activity(served: str) -> None:
    told = await fleet("--url", served, "--runners", "5", "--for", "2", "--mix", "good=3,looping=1,eager=1", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["problems"] == []
    kinds = found["kinds"]
    assert set(kinds) <= {"good", "looping", "eager"}
    assert found["all"]["requests"] == sum(one["requests"] for one in kinds.values()) >= 5
    shown = await fleet("--url", served, "--runners", "1", "--for", "1", "--mix", "good=1")
    assert "each run is one activity" in shown.output


async def test_a_second_fleet_of_the_same_seed_has_runs_of_its_own(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.cli.fleet.command._VERDICT_TRIES", 20)
    for _ in range(2):
        told = await fleet("--url", served, "--runners", "12", "--for", "3", "--seed", "7", "--mix", "good=1")
        assert (told.exit_code, "\n0 runs were handed in" in f"\n{told.stderr}") == (0, False), told.output


async def test_ctrl_c_tells_what_was_counted(served: str) -> None:
    command = "from workers.cli.fleet.command import fleet_command; fleet_command()"
    arguments = (command, "--url", served, "--runners", "4", "--for", "600", "--mix", "storming=1", "--json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", *arguments),
        env=dict(child_environ()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=served) as http:
        while "fleet-storming" not in (await http.get("/metrics")).text:  # no other test has those
            await asyncio.sleep(0.2)
        process.send_signal(signal.SIGINT)
        told, _ = await process.communicate()
    found = json.loads(told)
    assert (process.returncode, found["stopped"], set(found["kinds"])) == (130, True, {"storming"})


async def test_what_is_no_api_is_told_before_anything_is_asked() -> None:
    nobody = await fleet("--url", "http://127.0.0.1:1")
    assert "there is no answer from http://127.0.0.1:1" in str(nobody.exception)
    async with network(lambda _: Answer(404, {})) as (url, asked):
        other = await fleet("--url", url)
    assert (f"{url} is no API of cairn" in str(other.exception), len(asked)) == (True, 1)
    assert (await fleet("--url", "127.0.0.1:8000")).exit_code == 2


async def test_what_comes_again_after_a_failure_is_a_retry_and_may_be_too_early() -> None:
    tally, script = Tally(), [Answer(503, {}, {"Retry-After": "5"}), Answer(429, {}), Answer()]
    async with network(script) as (url, _), httpx.AsyncClient(transport=Counting(tally)) as http:
        for _ in script:
            await http.get(url)
    assert (tally.requests, tally.retries, tally.early, dict(tally.answers)) == (3, 2, 1, {503: 1, 429: 1, 200: 1})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--mix", "good=1,bad=2"), "no kind with a share"),
        (("--mix", "good=0"), "all shares are 0"),
        ((), "no instance runs"),
    ],
)
async def test_a_fleet_that_cannot_be_is_refused(arguments: tuple[str, ...], why: str, tmp_path: Path) -> None:
    result = await fleet("--data", str(tmp_path), *arguments)
    assert isinstance(result.exception, Fault)
    assert why in str(result.exception)
