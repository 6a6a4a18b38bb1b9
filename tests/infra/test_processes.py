import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.processes import child_command, child_environ

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")

STARTS_A_CHILD = """
import signal, subprocess, sys, time
from infra.processes import child_command, child_environ
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
child = subprocess.Popen(child_command(sleep, on_death=signal.SIGTERM), env=child_environ())
print(child.pid, flush=True)
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_ends_with_a_parent_that_was_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_A_CHILD], env=dict(child_environ()), stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.5)  # it says who its parent is after its start
    assert is_alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 10
    while is_alive(child):
        assert time.monotonic() < until, "the child has outlived its parent"
        time.sleep(0.02)


def test_a_child_whose_parent_died_before_it_began_does_not_begin() -> None:
    argv = child_command([sys.executable, "-c", "print('began')"], on_death=signal.SIGTERM)
    argv[argv.index(str(os.getpid()))] = "1"  # as it finds itself when the parent is gone: with another one
    assert subprocess.run(argv, env=child_environ(), capture_output=True, check=True).stdout == b""


def test_a_program_that_cannot_be_run_is_named() -> None:
    argv = child_command(["/nowhere/server"], on_death=signal.SIGTERM)
    done = subprocess.run(argv, env=child_environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 126
    assert done.stderr.startswith("/nowhere/server cannot be started:")
