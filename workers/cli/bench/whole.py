"""A whole instance as `cairn up` starts it, with servers and a folder of its own, and what its processes take."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from infra.admission_settings import RATES
from infra.faults import Fault
from infra.instance import Instance, find
from infra.processes import child_command, child_environ

_START_SECONDS: Final = 120.0
# limits that are at work, where a few runners do what many do elsewhere
ROOMY: Final = {
    "CAIRN_RATE_LIMITS": ",".join(f"{name}=1000000/60" for name in RATES),
    "CAIRN_CONCURRENCY": "10000-10000",
}
API: Final = "API"
INGEST: Final = "ingest, with its reader"
PROJECTOR: Final = "projector and reactor"
SERVERS: Final = "Postgres and Valkey"
PARTS: Final[Mapping[str, Sequence[str]]] = {  # by what is in the command lines
    API: ("api.main",),
    INGEST: (" ingest",),
    PROJECTOR: (" projector",),
    SERVERS: ("bin/postgres", "valkey-server"),
}
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Whole(Struct, frozen=True):
    """The instance, once it is ready."""

    supervisor: int
    instance: Instance
    data: Path

    @property
    def objects(self) -> Path:
        """The object store's folder."""
        return self.data / "objects"

    def pids(self, part: str) -> list[int]:
        """The processes of a part, without their children."""
        return [child for child in _children(self.supervisor) if _is(child, part)]

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time since the start of each part, with that of children that have ended."""
        return self._sums(cpu_seconds)

    def memory_bytes(self) -> dict[str, float]:
        """What is resident now."""
        return self._sums(_resident_bytes)

    def _sums(self, of: Callable[[int], float]) -> dict[str, float]:
        sums = dict.fromkeys(PARTS, 0.0)
        for child in _children(self.supervisor):
            part = next((part for part in PARTS if _is(child, part)), None)
            if part is not None:
                sums[part] += sum(of(pid) for pid in _with_descendants(child))
        return sums


@contextmanager
def whole_instance(folder: Path) -> Iterator[Whole]:
    """Started in this new folder, and stopped in the end. `Fault` when it does not start."""
    if not Path("/proc/self/stat").exists():
        raise Fault("this bench reads what processes take from /proc, which this system has not: run it on Linux.")
    folder.mkdir()
    data, told = folder / "data", folder / "up.log"
    up = [sys.executable, "-P", "-m", "workers.cli.main", "up", "--port", str(free_port()), "--data", str(data)]
    with told.open("wb") as log:
        process = subprocess.Popen(
            child_command(up, on_death=signal.SIGTERM),
            env={**child_environ(), **ROOMY},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us, who then stop it
        )
    try:
        yield Whole(process.pid, _started(process, data, told), data)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _started(process: "subprocess.Popen[bytes]", data: Path, told: Path) -> Instance:
    until = time.monotonic() + _START_SECONDS
    while (instance := find(data)) is None:
        if process.poll() is not None or time.monotonic() > until:
            raise Fault(f"the bench's own instance does not start:\n{told.read_text()[-2000:]}")
        time.sleep(0.1)
    return instance


def cpu_seconds(pid: int) -> float:
    """proc_pid_stat(5): utime, stime, and the same of children that were waited for. 0 of one that has ended."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _resident_bytes(pid: int) -> float:
    return int((_read(pid, "statm") or "0 0").split()[1]) * _PAGE_BYTES


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    return []


def _with_descendants(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _with_descendants(child)


def _is(pid: int, part: str) -> bool:
    command = _command(pid)
    return any(name in command for name in PARTS[part])


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace("\0", " ")


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
