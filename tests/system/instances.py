"""The whole product as processes."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from infra.instance import Instance, find

CHECKOUT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Process ids and command lines below a process."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            yield int(child), command
            yield from descendants(int(child))


def running(pid: int) -> bool:
    """Whether a process is there and more than an entry that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_end(pids: list[int]) -> None:
    """Return when all have ended; fail after a while."""
    deadline = time.monotonic() + 20
    while alive := [pid for pid in pids if running(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)


@contextlib.contextmanager
def up(data: Path) -> Iterator[tuple[subprocess.Popen[bytes], Instance]]:
    """`cairn up` from ready until stopped."""
    with (data.parent / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli.main", "up", "--port", str(free_port()), "--data", str(data)],
            cwd=CHECKOUT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 60
            while (instance := find(data)) is None:
                assert process.poll() is None, (data.parent / "up.log").read_text()
                assert time.monotonic() < deadline, (data.parent / "up.log").read_text()
                time.sleep(0.1)
            yield process, instance
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
