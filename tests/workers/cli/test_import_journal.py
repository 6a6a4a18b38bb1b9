"""The journal of `cairn import` where it cannot be written: only the speed of the next import hangs on it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.processes import child_environ
from tests.network import Answer, network, tokens
from tests.workers.cli.import_server import ACCOUNT, READY, run, server

pytestmark = pytest.mark.usefixtures("data")

# no file of this process grows over so many bytes: as on a disk that is full, a write fails in the middle of a line
IMPORT = """
import resource
from workers.cli.importing.command import import_command
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
import_command()
"""


async def test_a_journal_that_cannot_be_written_says_what_to_do(run_file: Path) -> None:
    async with network(lambda _: tokens(1)) as (url, _):
        done = await run(run_file, *ACCOUNT, "--server", url, "--journal", run_file / "journal")
    assert "choose another with --journal" in str(done.exception)


async def test_a_journal_that_finds_no_room_ends_no_import_and_is_told(tmp_path: Path) -> None:
    folder, journal = tmp_path / "runs", tmp_path / "journal"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.fit").write_bytes(b"bytes %d" % number)
    async with network(server(lambda _: Answer(202, READY))) as (url, _):
        arguments = [str(folder), *ACCOUNT, "--server", url, "--json", "--jobs", "2", "--journal", str(journal)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", IMPORT, *arguments),
            env=dict(child_environ()),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            stdout, stderr = await process.communicate()
        assert (process.returncode, b"Traceback" in stderr) == (0, False)
        told = json.loads(stdout)
        assert told["counts"] == {"imported": 5}
        (remark,) = told["remarks"]
        assert remark.startswith(f"The journal {journal} could not be written to its end (File too large)")
        whole = journal.read_bytes().count(b"\n")
        again = await run(folder, *ACCOUNT, "--server", url, "--json", "--journal", journal)
    assert json.loads(again.stdout)["counts"] == {"already there": whole, "imported": 5 - whole}
