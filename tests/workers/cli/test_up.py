"""`cairn up` as people run it: what it says, what it refuses, and that nothing is left of it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from infra.instance import find
from infra.processes import child_environ
from infra.secrets import load_secrets
from tests.system.instances import descendants

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for leftover processes in /proc"),
]


class Up:
    """One `cairn up`, with what it printed."""

    def __init__(self, data: Path, *arguments: object, **environ: str) -> None:
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers.cli.main", "up", "--data", data, *map(str, arguments)],
                env={**child_environ(), **environ},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        until = time.monotonic() + 60
        while find(self.data) is None:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def end(self) -> str:
        """What it printed, once it has ended by itself."""
        self.process.wait(60)
        return self.log.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        self.process.send_signal(number)
        return self.end()


def processes_of(data: Path) -> list[str]:
    """Command lines, and lines of the environment, that name the folder. Each process of an instance does."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if os.fsencode(data) in command + (process / "environ").read_bytes():
                found.append(command.replace(b"\0", b" ").decode())
    return found


def wait_until_gone(data: Path) -> None:
    until = time.monotonic() + 30
    while left := processes_of(data):
        assert time.monotonic() < until, left
        time.sleep(0.05)


@pytest.fixture
def port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of so short a name that the sockets are in it."""
    folder = tmp_path_factory.mktemp("up") / "data"
    yield folder
    for process in Path("/proc").glob("[0-9]*"):  # whatever a failed test has left
        with suppress(OSError):
            if os.fsencode(folder) in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def test_it_says_where_everything_is_and_stops_in_order(data: Path, port: int) -> None:
    up = Up(data, "--port", port)
    up.wait_until_ready()
    assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    told = up.stop(signal.SIGINT)
    assert up.process.returncode == 0
    for line in (f"API        http://127.0.0.1:{port}/v1", f"host={data}/run", f"unix://{data}/run/valkey.sock"):
        assert line in told
    stops = (
        "cairn | stopping",
        "api | INFO:     Shutting down",
        "valkey | ",
        "postgres | LOG:  received fast",
        "stopped",
    )
    places = [told.index(line, told.index("cairn | stopping")) for line in stops]
    assert places == sorted(places)
    assert processes_of(data) == []
    assert find(data) is None


def test_a_second_one_is_refused_and_the_first_goes_on(data: Path, port: int) -> None:
    up = Up(data, "--port", port)
    up.wait_until_ready()
    second = Up(data, "--port", port)
    assert f"an instance runs in {data} already (process {up.process.pid})" in second.end()
    elsewhere = Up(data.parent / "elsewhere", "--port", port)
    assert f"port {port} on 127.0.0.1 cannot be used" in elsewhere.end()
    assert (second.process.returncode, elsewhere.process.returncode) == (1, 1)
    assert not (data.parent / "elsewhere" / "postgres").exists()
    assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    up.stop()


def test_nothing_is_left_when_it_is_killed_and_the_next_start_has_the_data_and_the_keys(data: Path, port: int) -> None:
    up = Up(data, "--port", port)
    up.wait_until_ready()
    keys, instance = load_secrets(data), find(data)
    assert instance is not None
    with psycopg.connect(instance.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE stone AS SELECT 1 AS id")
    assert len(processes_of(data)) > 5
    up.process.kill()
    up.process.wait()
    again = Up(data, "--port", port)  # at once: it waits for what is still stopping
    again.wait_until_ready()
    with psycopg.connect(instance.database_url) as connection:
        assert connection.execute("SELECT id FROM stone").fetchone() == (1,)
    assert load_secrets(data) == keys
    again.process.kill()
    again.process.wait()
    wait_until_gone(data)


def test_it_starts_after_a_power_cut_whosever_the_number_of_its_postgres_is_now(data: Path, port: int) -> None:
    up = Up(data, "--port", port)
    up.wait_until_ready()
    for pid in [*(pid for pid, _ in descendants(up.process.pid)), up.process.pid]:  # last: its death stops the others
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    up.process.wait()
    wait_until_gone(data)
    for file in (data / "postgres" / "postmaster.pid", data / "run" / ".s.PGSQL.5432.lock"):
        _, *rest = file.read_text().splitlines(keepends=True)
        file.write_text("".join([f"{os.getpid()}\n", *rest]))
    again = Up(data, "--port", port)
    again.wait_until_ready()
    again.stop()
    assert again.process.returncode == 0


def test_a_stop_while_it_starts_leaves_nothing(data: Path, port: int) -> None:
    up = Up(data, "--port", port)
    while not (data / "postgres").exists():
        assert up.process.poll() is None
        time.sleep(0.01)
    up.stop()
    assert up.process.returncode == 0
    assert processes_of(data) == []


def test_the_closing_of_its_terminal_stops_it(data: Path, port: int) -> None:
    up = Up(data, "--port", port)
    up.wait_until_ready()
    up.stop(signal.SIGHUP)
    assert up.process.returncode == 0
    assert processes_of(data) == []


def test_other_commands_find_it_by_its_folder(data: Path, port: int) -> None:
    up = Up(data, "--port", port)
    up.wait_until_ready()
    migrate = [sys.executable, "-P", "-m", "workers.cli.main", "migrate", "--data", str(data)]
    done = subprocess.run(migrate, env=child_environ(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the tables are of version ")
    up.stop()


def test_what_the_users_shell_says_of_another_postgres_is_not_about_this_one(data: Path, port: int) -> None:
    others = {"PGSERVICE": "work", "PGREQUIREAUTH": "scram-sha-256", "PGOPTIONS": "-c search_path=work"}
    up = Up(data, "--port", port, **others)
    up.wait_until_ready()
    migrate = [sys.executable, "-P", "-m", "workers.cli.main", "migrate", "--data", str(data)]
    done = subprocess.run(migrate, env={**child_environ(), **others}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    up.stop()


def test_missing_secrets_are_never_replaced(data: Path, port: int) -> None:
    up = Up(data, "--port", port)
    up.wait_until_ready()
    up.stop()
    (data / "secrets").rename(data / "secrets.lost")
    refused = Up(data, "--port", port)
    assert f"{data}/secrets is missing, and the data there was made with it" in refused.end()
    assert refused.process.returncode == 1
    (data / "secrets.lost").rename(data / "secrets")
    (data / "secrets" / "master.key").write_text("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=\n")
    wrong = Up(data, "--port", port)
    told = wrong.end()
    assert "master key" in told
    assert "Traceback" not in told
    assert wrong.process.returncode == 1
    assert processes_of(data) == []
