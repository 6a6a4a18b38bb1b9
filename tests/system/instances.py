"""The whole product as processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from api.client import Client
from infra.instance import Instance, find
from workers.cli.bench.whole import ROOMY

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


def kill(supervisor: int, part: str) -> bool:
    """End a process below the supervisor without warning, by what is in its command line; whether there was one."""
    for pid, command in descendants(supervisor):
        if part in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return True
    return False


def go_first(pid: int) -> None:
    """A process has its turn before all others, where that is allowed.

    So do all its threads, also those to come: one that waits for its turn with the interpreter's lock stops them all.
    """
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))


@contextlib.contextmanager
def up(data: Path, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], Instance]]:
    """`cairn up` from ready until stopped, with this beside the environment."""
    with (data.parent / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli.main", "up", "--port", str(free_port()), "--data", str(data)],
            cwd=CHECKOUT,
            env={**os.environ, **ROOMY, **environ},
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


async def activities(client: Client) -> AsyncIterator[str]:
    """All ids of the signed-in runner, page by page."""
    cursor = ""
    while True:
        page = await client.get(f"/users/{client.user_id}/activities?limit=25{cursor}")
        for item in page["items"]:
            yield item["activity_id"]
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"
