"""Embedded servers for tests, run without a supervisor."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.valkey import EmbeddedValkey
from infra.processes import child_environ

Server = EmbeddedPostgres | EmbeddedValkey


def start(server: Server) -> subprocess.Popen[bytes]:
    """Make its folder if there is none, start it, and wait until it answers."""
    server.make()
    process = subprocess.Popen(server.argv, env=dict(child_environ()), stdout=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not server.is_ready():
        assert process.poll() is None, f"{server.argv} ended with {process.returncode}"
        assert time.monotonic() < until, f"{server.argv} does not answer"
        time.sleep(0.02)
    return process


def stop(server: Server, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(server.stop_signal)
    process.wait(30)


@contextmanager
def running(kind: type[EmbeddedPostgres] | type[EmbeddedValkey], data: Path) -> Iterator[Server]:
    server = kind(data)
    process = start(server)
    try:
        yield server
    finally:
        stop(server, process)
