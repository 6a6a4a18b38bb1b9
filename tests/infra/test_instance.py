import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.faults import Fault
from infra.instance import Instance, announce, find, hold, hold_servers
from infra.processes import child_environ

INSTANCE = Instance(pid=7, api_url="http://a", database_url="b", redis_url="c", object_store_url="d")
HOLDS = """
import sys, time
from pathlib import Path
from infra.instance import Instance, announce, hold
data = Path(sys.argv[1])
with hold(data):
    announce(data, Instance(pid=7, api_url="http://a", database_url="b", redis_url="c", object_store_url="d"))
    print("held", flush=True)
    time.sleep(60)
"""


def test_an_instance_is_found_while_it_runs_and_not_after(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    with hold(tmp_path):
        assert find(tmp_path) is None, "not ready yet"
        announce(tmp_path, INSTANCE)
        assert find(tmp_path) == INSTANCE
    assert find(tmp_path) is None


def test_an_address_may_have_a_password_so_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    with hold(tmp_path):
        announce(tmp_path, INSTANCE)
        assert stat.S_IMODE((tmp_path / "instance.json").stat().st_mode) == 0o600


def test_a_second_instance_is_refused_naming_the_first(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(Fault, match=rf"already \(process {os.getpid()}\)"), hold(tmp_path):
        pytest.fail("held twice")


def test_what_a_killed_instance_left_does_not_count(tmp_path: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], env=dict(child_environ()), stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "held\n"
    assert find(tmp_path) == INSTANCE
    killed.kill()
    killed.wait()
    killed.stdout.close()
    assert (tmp_path / "instance.json").exists()
    assert find(tmp_path) is None
    with hold(tmp_path):
        assert find(tmp_path) is None, "the next one is not ready yet"


def test_servers_that_are_still_stopping_are_waited_for(tmp_path: Path) -> None:
    with hold_servers(tmp_path) as lock:
        stopping = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(0.5)"], pass_fds=[lock])
    with hold_servers(tmp_path):
        assert stopping.wait() == 0


def test_nobody_else_can_take_the_locks(tmp_path: Path) -> None:
    with hold(tmp_path), hold_servers(tmp_path):
        assert {(tmp_path / name).stat().st_mode & 0o077 for name in ("lock", "servers.lock")} == {0}
