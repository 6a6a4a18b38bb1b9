"""Processes that begin at the same time, as the benches of several need them."""

import subprocess
import sys
from collections.abc import Sequence

from infra.faults import Fault


def rate_of(module: str, arguments: Sequence[str], processes: int = 1) -> float:
    """The sum of their rates. Each tells that it is `ready`, waits for a line, and tells its rate."""
    command = [sys.executable, "-m", module, *arguments]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for _ in range(processes)
    ]
    try:
        if any(_line(process) != "ready" for process in started):
            raise Fault(f"{module} did not start: see its message above.")
        for process in started:
            print(file=process.stdin, flush=True)
        return sum(float(_line(process)) for process in started)
    finally:
        for process in started:
            process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout is not None else ""
