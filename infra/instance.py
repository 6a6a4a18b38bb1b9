"""The instance that runs in a data folder: one at a time, and findable by every command."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec import Struct

from infra.faults import Fault

_LOCK: Final = "lock"
_FILE: Final = "instance.json"


class Instance(Struct, frozen=True, kw_only=True):
    """Where a running instance is."""

    pid: int
    api_url: str
    database_url: str
    redis_url: str
    object_store_url: str


@contextmanager
def hold(data: Path) -> Iterator[None]:
    """Be the one instance of this folder; `Fault` names the one that is. Its death ends the hold, however it dies."""
    path = data / _LOCK
    with path.open("a+") as file:
        if not _lock(file):
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise Fault(
                f"an instance runs in {data} already (process {pid}): stop it, or choose another folder with --data."
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            (data / _FILE).unlink(missing_ok=True)


def _lock(file: IO[str]) -> bool:
    for _ in range(5):  # `find` takes the lock for an instant too
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def announce(data: Path, instance: Instance) -> None:
    """Make the instance findable: all at once, so that no command reads half of it."""
    unfinished = data / f"{_FILE}.{os.getpid()}"
    unfinished.write_bytes(msgspec.json.encode(instance))
    unfinished.replace(data / _FILE)


def find(data: Path) -> Instance | None:
    """The instance that runs in this folder, if one does: a file that a dead one left does not count."""
    with contextlib.suppress(OSError, msgspec.DecodeError), (data / _LOCK).open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return msgspec.json.decode((data / _FILE).read_bytes(), type=Instance)
    return None
