import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.processes import child_environ
from workers.supervisor import Service, ServiceFailed, Supervisor

COUNTS_ITS_STARTS = """
import os, signal, sys, time
with open(sys.argv[1], "a") as starts:
    starts.write(f"{os.getpid()} {time.monotonic()}\\n")
"""
SERVES = COUNTS_ITS_STARTS + "print('serving', flush=True)\ntime.sleep(60)"
TELLS_WHEN_IT_STOPS = """
import signal, sys, time
def stop(number, frame):
    print(f"stopped by {signal.Signals(number).name}", flush=True)
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
print("serving", flush=True)
time.sleep(60)
"""
LEAVES_A_GRANDCHILD = """
import subprocess, sys
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
print(subprocess.Popen(sleep, start_new_session=True).pid, flush=True)
sys.exit(1)
"""
DOES_NOT_STOP = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
print(grandchild.pid, flush=True)
time.sleep(60)
"""


class Printed:
    """What services said, as (name, line)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, text: str) -> None:
        self.lines.append((name, text))

    def of(self, name: str) -> list[str]:
        return [line for found, line in self.lines if found == name]

    async def wait_for(self, name: str, text: str) -> None:
        async with asyncio.timeout(10):
            while not any(text in line for line in self.of(name)):
                await asyncio.sleep(0.01)


@pytest.fixture
def printed() -> Printed:
    return Printed()


@pytest.fixture
async def supervisor(printed: Printed) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(printed)
    yield supervisor
    await supervisor.stop()


def script(name: str, code: str, *arguments: object, **given: object) -> Service:
    argv = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    return Service(**{"name": name, "argv": argv, "environ": child_environ(), "ready": lambda: True, **given})  # type: ignore[arg-type]


def starts(file: Path) -> list[tuple[int, float]]:
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(pid), float(began)) for pid, began in (line.split() for line in lines)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_service_is_ready_when_its_probe_says_so(
    supervisor: Supervisor, printed: Printed, tmp_path: Path
) -> None:
    file = tmp_path / "starts"
    await supervisor.start(script("api", SERVES, file, ready=file.exists))
    assert len(starts(file)) == 1
    assert "ready" in printed.of("api")


async def test_a_service_without_a_probe_is_ready_when_it_runs_steadily(supervisor: Supervisor, tmp_path: Path) -> None:
    began = time.monotonic()
    await supervisor.start(script("worker", SERVES, tmp_path / "starts", ready=None))
    assert time.monotonic() - began >= 2.0


async def test_what_crashes_is_started_again(supervisor: Supervisor, printed: Printed, tmp_path: Path) -> None:
    file = tmp_path / "starts"
    await supervisor.start(script("api", SERVES, file, ready=file.exists))
    await printed.wait_for("api", "serving")
    os.kill(starts(file)[0][0], signal.SIGKILL)
    await printed.wait_for("api", "ended by signal SIGKILL; starting it again in 0.2 s")
    async with asyncio.timeout(10):
        while len(starts(file)) < 2:
            await asyncio.sleep(0.01)


async def test_it_is_started_again_also_when_a_grandchild_holds_its_output(
    supervisor: Supervisor, printed: Printed
) -> None:
    with pytest.raises(ServiceFailed):
        await supervisor.start(script("api", LEAVES_A_GRANDCHILD, ready=None))
    grandchildren = [int(line) for line in printed.of("api") if line.isdigit()]
    assert len(grandchildren) >= 2
    for grandchild in grandchildren:
        os.kill(grandchild, signal.SIGKILL)


async def test_what_crashes_again_and_again_waits_twice_as_long_each_time(
    supervisor: Supervisor, printed: Printed, tmp_path: Path
) -> None:
    file = tmp_path / "starts"
    await supervisor.start(script("api", COUNTS_ITS_STARTS + "time.sleep(0.2)\nsys.exit(3)", file, ready=file.exists))
    await printed.wait_for("api", "with exit code 3; starting it again in 0.8 s")
    began = [began for _, began in starts(file)]
    assert len(began) == 3
    assert began[1] - began[0] >= 0.2
    assert began[2] - began[1] >= 0.4


async def test_a_program_that_is_not_there_ends_the_start(supervisor: Supervisor) -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere/server"):
        await supervisor.start(Service("api", ["/nowhere/server"], {}))


async def test_what_never_starts_ends_the_start_with_its_last_lines(supervisor: Supervisor) -> None:
    broken = script("api", "import sys; print('no such table'); sys.exit(1)", ready=None)
    with pytest.raises(ServiceFailed, match=r"api does not start\. Its last lines:\n(.*\n)*  no such table"):
        await supervisor.start(broken)


async def test_a_service_that_is_never_ready_ends_the_start(supervisor: Supervisor, tmp_path: Path) -> None:
    hung = script("api", SERVES, tmp_path / "starts", ready=lambda: False)
    with pytest.raises(ServiceFailed, match="api does not start"):
        await supervisor.start(hung, timeout_seconds=0.5)


def answers_late() -> bool:
    time.sleep(0.5)
    return True


async def test_what_answers_for_a_service_that_has_ended_does_not_make_it_ready(supervisor: Supervisor) -> None:
    taken = script("api", "import sys; sys.exit('its port is taken')", ready=answers_late)
    with pytest.raises(ServiceFailed, match="its port is taken"):
        await supervisor.start(taken)


async def test_services_stop_in_reverse_order_each_by_its_own_signal(supervisor: Supervisor, printed: Printed) -> None:
    await supervisor.start(script("store", TELLS_WHEN_IT_STOPS, stop_signal=signal.SIGINT))
    await supervisor.start(script("api", TELLS_WHEN_IT_STOPS))
    await printed.wait_for("store", "serving")
    await printed.wait_for("api", "serving")
    await supervisor.stop()
    stops = [line for line in printed.lines if line[1].startswith("stopped")]
    assert stops == [("api", "stopped by SIGTERM"), ("store", "stopped by SIGINT")]


async def test_what_does_not_stop_is_ended_with_all_it_started(supervisor: Supervisor, printed: Printed) -> None:
    await supervisor.start(script("api", DOES_NOT_STOP, grace_seconds=0.2))
    async with asyncio.timeout(10):
        while not any(line.isdigit() for line in printed.of("api")):
            await asyncio.sleep(0.01)
    grandchild = int(next(line for line in printed.of("api") if line.isdigit()))
    await supervisor.stop()
    assert "does not end by itself: ending it" in printed.of("api")
    async with asyncio.timeout(10):
        while is_alive(grandchild):
            await asyncio.sleep(0.01)


async def test_a_stop_while_a_service_waits_for_its_restart_is_quick(supervisor: Supervisor, printed: Printed) -> None:
    await supervisor.start(script("api", "import time; time.sleep(0.2)"))
    await printed.wait_for("api", "starting it again")
    async with asyncio.timeout(5):
        await supervisor.stop()


async def test_lines_of_any_length_and_of_any_bytes_are_passed_on(supervisor: Supervisor, printed: Printed) -> None:
    code = "import os, time; os.write(1, b'#' * 200_000 + b'\\n\\xff end\\nunfinished'); time.sleep(0.2)"
    await supervisor.start(script("api", code))
    await printed.wait_for("api", "unfinished")
    assert sum(line.count("#") for line in printed.of("api")) == 200_000
    assert "� end" in printed.of("api")
