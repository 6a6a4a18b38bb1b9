"""What an app keeps on the phone, in two SQLite files: one that must not be lost, and one that may."""

import json
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from api.client.answers import DAMAGED, Answers
from api.client.outbox import Outbox
from api.client.replica import Replica

_KEPT: Final = "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"
_NO_INDEX: Final = frozenset({sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE})  # it cannot be made, or grow
_LOCKED_SECONDS: Final = 5.0  # as long as Python's sqlite3 waits for a lock
_LOCKED_PAUSE: Final = 0.01


class Phone:
    """A device with an app on it. Without a folder all of it goes with the process. Processes of one app may share
    one, if only one at a time sends what waits.

    What a method has written is durable when it returns: the app may be killed at any moment. On a phone that is full,
    what must not be lost raises `sqlite3.OperationalError`. Where it is full already when the app is opened, there may
    be no room for what processes share: the first has the folder to itself until it closes it; for others it raises.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # the session is in there
        self._file = _opened(folder and folder / "app.sqlite", synchronous="FULL")
        self._file.execute(_KEPT)
        self.outbox = Outbox(self._file)
        self.replica = Replica(self._file)
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")  # one process at a time: it may remove what another has just begun
            self._cache, self.answers = _answers(folder and folder / "answers.sqlite")
        self.device_id = self._own_id()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._cache.close()

    def session(self) -> dict[str, Any]:
        """The tokens of who is signed in; empty when nobody is."""
        found: dict[str, Any] = json.loads(self._kept("session") or "{}")
        return found

    def keep_session(self, tokens: dict[str, Any]) -> None:
        """New tokens, at once: the ones before are used up."""
        self._keep("session", json.dumps(tokens))

    def forget(self, user_id: UUID) -> None:
        """What is a runner's and can be asked for again, when they sign out. What they have not sent yet stays.

        The session goes last: an app that is killed in between is still signed in, and may sign out again.
        """
        self.answers.forget(user_id)
        self.replica.forget(user_id)
        self._keep("session", "{}")

    def _own_id(self) -> UUID:
        """The device's, made once, also by two processes that start at once: the second one takes the first's."""
        if (kept := self._kept("device")) is None:
            self._file.execute("INSERT OR IGNORE INTO kept VALUES ('device', ?)", (str(uuid4()),))
            kept = self._kept("device")
        return UUID(kept)

    def _kept(self, name: str) -> str | None:
        row = self._file.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _keep(self, name: str, value: str) -> None:
        self._file.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))


def _answers(path: Path | None) -> tuple[sqlite3.Connection, Answers]:
    """What the app has seen, with its file. Where that is damaged or another version's it is begun anew, for all of it
    is asked for again; where there is no room even for that, it goes with the process.
    """
    if path is not None:
        for _ in range(2):
            with suppress(*DAMAGED):
                return _sound_answers(path)
            _remove(path)
    cache = _opened(None, synchronous="OFF")
    return cache, Answers(cache)


def _sound_answers(path: Path) -> tuple[sqlite3.Connection, Answers]:
    """As they were kept. Without `synchronous`, a phone that dies may leave the file half written: that raises, as does
    one that is sound but for the names of its tables and columns.
    """
    cache = _opened(path, synchronous="OFF")
    try:
        if (told := cache.execute("PRAGMA quick_check").fetchone()) != ("ok",):
            raise sqlite3.DatabaseError(*told)
        return cache, Answers(cache)
    except DAMAGED:
        cache.close()
        raise


def _remove(path: Path) -> None:
    for part in ("", "-wal", "-shm"):
        path.with_name(path.name + part).unlink(missing_ok=True)


def _opened(path: Path | None, *, synchronous: str) -> sqlite3.Connection:
    """A file that processes share; on a disk without room for their common index, for this one alone."""
    try:
        return _connected(path, synchronous=synchronous, locking="NORMAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _NO_INDEX:
            raise
    # another connection: the one that has failed keeps to the index
    return _connected(path, synchronous=synchronous, locking="EXCLUSIVE")


def _connected(path: Path | None, *, synchronous: str, locking: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path or ":memory:", isolation_level=None)
    try:
        connection.execute(f"PRAGMA locking_mode = {locking}")
        _use_wal(connection)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
    except DAMAGED:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite waits for no other process here that makes the same file, though it does with all other statements."""
    ends_at = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends_at:
                raise
            time.sleep(_LOCKED_PAUSE)
        else:
            return
