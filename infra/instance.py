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
_SERVERS_LOCK: Final = "servers.lock"
_FILE: Final = "instance.json"
_LOOK_SECONDS: Final = 0.25  # `find` takes the lock for an instant too
_LEFTOVER_SECONDS: Final = 60.0  # a Postgres that is told to stop first writes its checkpoint


class Instance(Struct, frozen=True, kw_only=True):
    """Where a running instance is."""

    pid: int
    api_url: str
    database_url: str
    redis_url: str
    object_store_url: str
    embedded_postgres: bool = False  # it was started by the instance itself


@contextmanager
def hold(data: Path) -> Iterator[None]:
    """Be the one instance of this folder; `Fault` names the one that is. Its death ends the hold, however it dies."""
    with _open(data / _LOCK) as file:
        if not _lock(file, _LOOK_SECONDS):
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise Fault(
                f"an instance runs in {data} already (process {pid}): stop it, or choose another folder with --data."
            )
        (data / _FILE).unlink(missing_ok=True)  # of one that was killed
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            (data / _FILE).unlink(missing_ok=True)


@contextmanager
def hold_servers(data: Path) -> Iterator[int]:
    """A lock to hand to the servers as an open file: it is held until the last of them has ended.

    An instance that was killed leaves servers that are still stopping. Waits for those; `Fault` when they stay.
    """
    with _open(data / _SERVERS_LOCK) as file:
        if not _lock(file, _LEFTOVER_SECONDS):
            raise Fault(
                f"servers of an instance that was killed still run in {data}: `fuser {data / _SERVERS_LOCK}` "
                f"names their processes; end them, and start again."
            )
        yield file.fileno()


def _open(path: Path) -> IO[str]:
    try:
        return open(path, "a+", encoding="utf-8", opener=_own)
    except OSError as error:
        raise Fault(f"{path} cannot be written ({error.strerror}): choose another folder with --data.") from None


def _own(path: str, flags: int) -> int:
    """Who may read a file may lock it, also where its folder is open to all, as a handed-over Postgres has it."""
    return os.open(path, flags, 0o600)


def _lock(file: IO[str], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        else:
            return True


def announce(data: Path, instance: Instance) -> None:
    """Make the instance findable: all at once, so that no command reads half of it."""
    unfinished = data / f"{_FILE}.{os.getpid()}"
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # an address may have a password
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(instance))
    unfinished.replace(data / _FILE)


def find(data: Path) -> Instance | None:
    """The instance that runs in this folder, if one does: a file that a dead one left does not count."""
    with contextlib.suppress(OSError, msgspec.DecodeError), (data / _LOCK).open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return msgspec.json.decode((data / _FILE).read_bytes(), type=Instance)
    return None


def announced_at(data: Path) -> float | None:
    """Since when the running instance is ready, seconds since 1970; None when none runs."""
    return (data / _FILE).stat().st_mtime if find(data) is not None else None
