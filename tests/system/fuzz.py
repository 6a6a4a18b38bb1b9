"""Schemathesis over the OpenAPI document, against a running instance with real parts: signed in, with activities, also
stateful.

By hand: `.venv/bin/python -m tests.system.fuzz --cases 3000` (`--seed` repeats a run). Prints the findings of each run,
then seeds and cases. What is no finding is said, with its reason, in `tests/system/fuzz_hooks.py`.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

import httpx
from msgspec import Struct

from tests.recordings import STARTED, fit
from tests.system.instances import CHECKOUT, up

PASSWORD = "correct horse"
_PHASES = "examples,coverage,fuzzing,stateful"
_MOST_A_RUN = 40  # examples of an operation: more find less than another seed does
_CONFIG = """
[dictionaries]
activities = {{ values = {activities} }}
runners = {{ values = {runners} }}
positions = {{ values = {positions} }}
cursors = {{ values = {cursors} }}

[parameters."path.activity_id"]
dictionary = "activities"
probability = 0.7

[parameters."path.runner_id"]
dictionary = "runners"
probability = 0.7

[parameters."header.Cairn-Min-Position"]
dictionary = "positions"
probability = 0.9

[parameters."query.cursor"]
dictionary = "cursors"
probability = 0.5
"""


class Report(Struct, kw_only=True):
    """What came of a run. `output` tells the findings."""

    cases: int
    findings: int
    output: str


async def fuzz(url: str, folder: Path, *, examples: int, seed: int, phases: str = _PHASES) -> Report:
    """One run: so many examples of each operation."""
    anna, ben = [await _person(url) for _ in range(2)]
    kept = [await _activity(url, person, day) for person in (anna, ben) for day in range(2)]
    others = [await _activity(url, anna, day) for day in range(2, 5)]
    known = {
        "activities": kept + others,
        "runners": [anna["user_id"], ben["user_id"]],
        "positions": [anna["position"]],
        "cursors": [await _cursor(url, anna)],
    }
    (folder / "fuzz.toml").write_text(_CONFIG.format(**{name: json.dumps(values) for name, values in known.items()}))
    report = folder / "report.json"
    argv = ["--config-file", str(folder / "fuzz.toml"), "run", f"{url}/openapi.json", "--phases", phases]
    argv += [
        "--max-examples",
        str(examples),
        "--seed",
        str(seed),
        "--report",
        "json",
        "--report-json-path",
        str(report),
    ]
    argv += ["--continue-on-failure", "--suppress-health-check", "all", "--no-shrink"]
    environ = {
        "SCHEMATHESIS_HOOKS": "tests.system.fuzz_hooks",
        "CAIRN_FUZZ_URL": url,
        "CAIRN_FUZZ_EMAIL": anna["email"],
        "CAIRN_FUZZ_PASSWORD": PASSWORD,
        "CAIRN_FUZZ_KEPT": ",".join(kept),
        "PYTHONPATH": str(CHECKOUT),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        *argv,
        cwd=folder,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    return _report(report, output)


def _report(path: Path, output: str) -> Report:
    found = json.loads(path.read_text())
    counted = found["test_cases"]
    return Report(
        cases=counted["generated"],
        findings=counted["unique_failures"] + counted["errored"] + len(found["errors"]),
        output=output,
    )


async def _person(url: str) -> dict[str, str]:
    email = f"fuzz-{uuid4().hex}@example.com"
    body = {"email": email, "password": PASSWORD, "display_name": "Fuzz"}
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(f"{url}/v1/users", json=body)
    return {**answer.raise_for_status().json(), "email": email, "position": answer.headers["Cairn-Position"]}


async def _activity(url: str, person: dict[str, str], day: int) -> str:
    activity_id, started_at = str(uuid4()), STARTED.replace(day=1 + day)
    headers = {"Authorization": f"Bearer {person['access_token']}", "Prefer": "wait=30"}
    async with httpx.AsyncClient(timeout=60) as http:
        body = fit(seed=day, kilometres=0.5, started_at=started_at)
        answer = await http.put(f"{url}/v1/activities/{activity_id}", content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return activity_id


async def _cursor(url: str, person: dict[str, str]) -> str:
    async with httpx.AsyncClient(timeout=60) as http:
        page = await http.get(
            f"{url}/v1/users/{person['user_id']}/activities?limit=1",
            headers={"Authorization": f"Bearer {person['access_token']}"},
        )
    return str(page.raise_for_status().json()["next_cursor"])


def run(folder: Path, cases: int, seed: int) -> bool:
    """Runs with one seed after the other, until there were so many cases; whether nothing was found."""
    done, findings, seeds = 0, 0, list[int]()
    with up(folder / "data") as (_, instance):
        while done < cases:
            report = asyncio.run(fuzz(instance.api_url, folder, examples=_MOST_A_RUN, seed=seed))
            done, findings, seeds, seed = done + report.cases, findings + report.findings, [*seeds, seed], seed + 1
            print(report.output)  # noqa: T201
    print(f"seeds {seeds}: {done} cases, {findings} findings")  # noqa: T201
    return findings == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(not run(Path(temporary), given.cases, given.seed))
