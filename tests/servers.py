"""Embedded servers for tests, run without a supervisor."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.valkey import EmbeddedValkey
from infra.processes import child_environ

Server = EmbeddedPostgres | EmbeddedValkey


def start(server: Server) -> subprocess.Popen[bytes]:
    """Make its folder if there is none, start it, and wait until it answers."""
    server.make()
    process = subprocess.Popen(server.argv, env=dict(child_environ()), stdout=subprocess.DEVNULL)
    await_ready(server, process)
    return process


def await_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    """Wait until it answers: after a start, or after a crash that it recovers from by itself."""
    until = time.monotonic() + 30
    while not server.is_ready():
        assert process.poll() is None, f"{server.argv} ended with {process.returncode}"
        assert time.monotonic() < until, f"{server.argv} does not answer"
        time.sleep(0.02)


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


def kill_backend(url: str, dice: random.Random) -> bool:
    """Kill a connection's process, if there is one: the server then ends all of them, and recovers by itself."""
    with contextlib.suppress(psycopg.Error, ProcessLookupError):
        with psycopg.connect(url, autocommit=True) as connection:
            pids = [pid for (pid,) in connection.execute(_BACKENDS)]
        if pids:
            os.kill(dice.choice(pids), signal.SIGKILL)
            return True
    return False


def kill_and_start(server: Server, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Kill the server outright, and start it again: its orphans hold the data folder until they notice."""
    process.kill()
    process.wait()
    until = time.monotonic() + 60
    while True:
        try:
            return start(server)
        except AssertionError:
            assert time.monotonic() < until
            time.sleep(0.2)


_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
