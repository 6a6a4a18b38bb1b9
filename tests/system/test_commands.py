"""`cairn import` and `cairn demo`, as somebody runs them."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.instance import Instance
from tests.recordings import STARTED, TCX, fit, gpx
from tests.system.instances import CHECKOUT, free_port, up

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def cairn(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command, from another folder than the checkout."""
    command = [sys.executable, str(CHECKOUT / "cairn"), *map(str, arguments)]
    return subprocess.run(
        command, cwd="/", capture_output=True, text=True, check=False, env={**os.environ, **environ}, timeout=540
    )


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Path, Instance]]:
    with TemporaryDirectory(prefix="cairn-") as folder, up(Path(folder) / "data") as (_, instance):
        yield Path(folder) / "data", instance


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What an export may look like."""
    folder = tmp_path / "export"
    (folder / "2026").mkdir(parents=True)
    (folder / "run.fit").write_bytes(fit(1))
    (folder / "2026" / "walk.gpx").write_bytes(gpx(2, started_at=STARTED + timedelta(days=1)))
    (folder / "2026" / "short.tcx.gz").write_bytes(gzip.compress(TCX))
    (folder / "again.fit").write_bytes(fit(1))
    (folder / "empty.gpx").write_bytes(b"")
    (folder / "broken.fit").write_bytes(fit(3)[:40])
    (folder / "letter.gpx").write_text("Dear runner")
    (folder / "notes.txt").write_text("not a recording")
    return folder


def test_every_file_gets_a_verdict_and_a_second_import_adds_nothing(
    running: tuple[Path, Instance], files: Path
) -> None:
    data, _ = running
    account = ("--email", "cara@example.com", "--password", "a long password", "--data", data)
    first = cairn("import", files, *account, "--json")
    assert first.returncode == 0, first.stderr
    verdicts = {Path(row["file"]).name: row for row in json.loads(first.stdout)["files"]}
    assert {name: row["verdict"] for name, row in verdicts.items()} == {
        "again.fit": "imported",
        "run.fit": "duplicate",  # the same bytes are the same activity
        "walk.gpx": "imported",
        "short.tcx.gz": "imported",
        "empty.gpx": "failed",
        "broken.fit": "failed",
        "letter.gpx": "failed",
        "notes.txt": "skipped",
    }
    again = cairn("import", files, *account)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == "4 already there, 3 failed, 1 skipped"


def test_a_wrong_password_is_said_to_be_one(running: tuple[Path, Instance], files: Path) -> None:
    data, _ = running
    cairn("import", files / "run.fit", "--email", "dan@example.com", "--password", "a long password", "--data", data)
    wrong = cairn("import", files, "--email", "dan@example.com", "--password", "another one", "--data", data)
    assert wrong.returncode == 1
    assert wrong.stderr.strip() == "cairn: the password of dan@example.com is another one."


def test_a_server_that_is_not_there_is_named(files: Path) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    alone = cairn("import", files, "--email", "eve@example.com", "--server", server, CAIRN_PASSWORD="a long password")
    assert alone.returncode == 1
    assert server in alone.stderr
    assert "Traceback" not in alone.stderr


def test_a_path_that_is_not_there_is_named() -> None:
    nothing = cairn("import", "/no/such/folder", "--email", "a@b.de", "--password", "x")
    assert nothing.returncode == 2
    assert "/no/such/folder" in nothing.stderr


def test_the_demo_tells_its_story_and_a_second_one_adds_nothing(data: Path) -> None:
    told = []
    for _ in range(2):
        demo = cairn("demo", "--exit", "--port", free_port(), "--data", data)
        assert demo.returncode == 0, demo.stdout + demo.stderr
        story = demo.stdout[demo.stdout.index("Anna Lind ─") :]
        told.append([line for line in story.splitlines() if " | " not in line and "http" not in line])
    assert told[0] == told[1]
    for name in ("Anna Lind", "Ben Okafor", "Mia Sato", "Leo Costa"):
        assert any(line.startswith(name) for line in told[0])
    text = "\n".join(told[0])
    for word in ("feed", "weeks", "goals", "km", "distance a week", "anna@example.com"):
        assert word in text


def test_every_bench_runs_and_tells_its_figures() -> None:
    """Not how fast: that is for people to look at."""
    done = cairn("bench", "--quick", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["quick"] is True
    results = {result["name"]: result for result in told["results"]}
    assert results.keys() >= {
        "append_256_clients",
        "append_1_client",
        "scan_decode",
        "rebuild",
        "live_lag_p99",
        "track_encode",
    }
    for result in results.values():
        assert result["value"] > 0 or result["name"] == "read_cached_queries"  # of which there shall be none
        if result["reference"] is not None:
            assert result["ratio"] > 0
            assert result["reference_value"] > 0
