"""Root where user namespaces are not allowed, as in most containers: the server is handed to another account."""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.processes import can_drop_root, child_command, child_environ

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the server over"),
    pytest.mark.skipif(not can_drop_root(), reason="needs a user namespace in which to forbid user namespaces"),
]

STATE = Path("/var/lib/cairn")

# A user namespace of its own, with all accounts in it, where root is root, and may make no further namespace.
FORBIDS = """
import ctypes, os, sys
from pathlib import Path
ready, told = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    ctypes.CDLL(None).unshare(0x10000000)
    os.write(ready[1], b".")
    os.read(told[0], 1)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.execv(sys.argv[1], sys.argv[1:])
os.read(ready[0], 1)
for kind in ("uid", "gid"):
    Path(f"/proc/{child}/{kind}_map").write_text("0 0 65536")
os.write(told[1], b".")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
STARTS = """
import sys
from pathlib import Path
import psycopg
from infra.embedded.postgres import EmbeddedPostgres
from infra.faults import Fault
from tests.servers import running
try:
    with running(EmbeddedPostgres, Path(sys.argv[1])) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS stone (id serial)")
        connection.execute("INSERT INTO stone DEFAULT VALUES")
        count = connection.execute("SELECT count(*) FROM stone").fetchone()[0]
        print(f"{count} as {server.argv[server.argv.index('infra.child') + 3]}")
except Fault as fault:
    print(fault)
"""


def start_where_namespaces_are_forbidden(data: Path) -> str:
    inner = [sys.executable, "-c", STARTS, str(data)]
    argv = child_command([sys.executable, "-c", FORBIDS, *inner], on_death=signal.SIGKILL)
    done = subprocess.run(argv, env=dict(child_environ()), capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    with Path(tempfile.gettempdir(), "cairn-homes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one folder for the whole machine, which is removed again
        was_there = STATE.exists()
        yield tmp_path
        for place in tmp_path.glob("*/postgres.place"):
            shutil.rmtree(STATE / place.read_text())
        if not was_there:
            shutil.rmtree(STATE, ignore_errors=True)


def test_the_server_is_handed_over_and_found_again_when_its_folder_moves(data: Path) -> None:
    (data / "first").mkdir()
    assert start_where_namespaces_are_forbidden(data / "first") == "1 as nobody"
    (data / "first").rename(data / "second")
    assert start_where_namespaces_are_forbidden(data / "second") == "2 as nobody"
    place = STATE / (data / "second" / "postgres.place").read_text()
    owner = pwd.getpwnam("nobody").pw_uid
    assert (place / "data" / "postgres").stat().st_uid == owner
    assert (place / "run").stat().st_mode & 0o777 == 0o700


def test_a_copied_folder_does_not_get_the_database_of_its_original(data: Path) -> None:
    (data / "first").mkdir()
    assert start_where_namespaces_are_forbidden(data / "first") == "1 as nobody"
    shutil.copytree(data / "first", data / "copy")
    told = start_where_namespaces_are_forbidden(data / "copy")
    place = STATE / (data / "first" / "postgres.place").read_text()
    assert f"{data}/copy is a copy of {data}/first" in told
    assert f"remove {place}/owner" in told
    assert start_where_namespaces_are_forbidden(data / "first") == "2 as nobody"
    shutil.rmtree(data / "copy")  # its place is the other's


def test_a_folder_whose_database_is_gone_is_refused(data: Path) -> None:
    (data / "first").mkdir()
    assert start_where_namespaces_are_forbidden(data / "first") == "1 as nobody"
    shutil.rmtree(STATE / (data / "first" / "postgres.place").read_text())
    assert "is gone: there is no /var/lib/cairn/" in start_where_namespaces_are_forbidden(data / "first")


def test_a_folder_made_in_a_namespace_is_refused_where_there_are_none(data: Path) -> None:
    (data / "made" / "postgres").mkdir(parents=True)
    assert "was made with user namespaces" in start_where_namespaces_are_forbidden(data / "made")
