"""Answers that the app has seen, with their ETags: asked again, what has not changed costs a 304 and no body."""

import sqlite3
from contextlib import suppress
from typing import Final
from uuid import UUID
from zlib import crc32

LIMIT_BYTES: Final = 16 * 1024 * 1024
# what a damaged file raises; the second when the message has damaged names in it
DAMAGED: Final = (sqlite3.DatabaseError, UnicodeDecodeError)
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS answers (
        user_id TEXT NOT NULL, path TEXT NOT NULL, etag TEXT NOT NULL, body BLOB NOT NULL, used INTEGER NOT NULL,
        checksum INTEGER NOT NULL, PRIMARY KEY (user_id, path)
    ) STRICT
"""


class Answers:
    """By user and path, within a limit of bytes: those that were used longest ago go first. A phone that is full, or
    whose file was damaged meanwhile, keeps none. A file that has not what belongs in it raises one of `DAMAGED`.
    """

    def __init__(self, cache: sqlite3.Connection, limit_bytes: int = LIMIT_BYTES) -> None:
        self._cache = cache
        self._limit = limit_bytes
        cache.execute(_TABLE)
        cache.execute("CREATE INDEX IF NOT EXISTS answers_used ON answers (used)")
        cache.execute("SELECT user_id, path, etag, body, used, checksum FROM answers LIMIT 0")
        self._bytes, self._uses = self._counted()

    def find(self, user_id: UUID, path: str) -> tuple[str, bytes] | None:
        """ETag and body, as they were kept: of a row that is damaged the server would say for ever that it is right."""
        self._uses += 1
        row = None
        with suppress(*DAMAGED):
            row = self._cache.execute(
                "UPDATE answers SET used = ? WHERE user_id = ? AND path = ? RETURNING etag, body, checksum",
                (self._uses, str(user_id), path),
            ).fetchone()
        return None if row is None or row[2] != _checksum(*row[:2]) else (row[0], row[1])

    def keep(self, user_id: UUID, path: str, etag: str, body: bytes) -> None:
        """In the place of what was there."""
        if len(body) <= self._limit // 8:
            with suppress(*DAMAGED):
                self._keep(str(user_id), path, etag, body)

    def _keep(self, user: str, path: str, etag: str, body: bytes) -> None:
        self._uses += 1
        self._drop("user_id = ? AND path = ?", user, path)
        row = (user, path, etag, body, self._uses, _checksum(etag, body))
        self._cache.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
        self._bytes += len(body)
        if self._bytes > self._limit:
            self._bytes, _ = self._counted()  # another process of the app may have dropped some
        while self._bytes > self._limit and self._drop("used = (SELECT min(used) FROM answers)"):
            pass

    def _counted(self) -> tuple[float, int]:
        """Bytes of all bodies, and the number of the last use."""
        size, uses = self._cache.execute("SELECT total(length(body)), ifnull(max(used), 0) FROM answers").fetchone()
        return float(size), int(uses)

    def forget(self, user_id: UUID) -> None:
        """All that this user has seen. A damaged file is begun anew at the next start, so it keeps nobody signed in."""
        try:
            self._drop("user_id = ?", str(user_id))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # a full phone, say: what they have seen is still there
                raise
        except DAMAGED:
            return

    def _drop(self, which: str, *values: str) -> bool:
        """Whether there was one."""
        dropped = self._cache.execute(
            f"DELETE FROM answers WHERE {which} RETURNING length(body)",  # noqa: S608 - conditions of this file
            values,
        ).fetchall()
        self._bytes -= sum(length for (length,) in dropped)
        return bool(dropped)


def _checksum(etag: object, body: object) -> int | None:
    """None for what was not kept by this."""
    return crc32(body, crc32(etag.encode())) if isinstance(etag, str) and isinstance(body, bytes) else None
