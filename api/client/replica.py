"""What the server has told of the runner's own things, kept on the phone: screens are drawn from it, also offline."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS things (
        user_id TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (user_id, kind, id)
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS cursors (user_id TEXT PRIMARY KEY, cursor TEXT NOT NULL) STRICT",
)


class Replica:
    """Things by kind and id, and the cursor up to which the changes of them are in here: both, or neither."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file
        for table in _TABLES:
            file.execute(table)

    def cursor(self, user_id: UUID) -> str | None:
        """Where to ask for changes from; None before there was a first answer, or after `forget`."""
        row = self._file.execute("SELECT cursor FROM cursors WHERE user_id = ?", (str(user_id),)).fetchone()
        return None if row is None else str(row[0])

    def apply(self, user_id: UUID, items: Iterable[Mapping[str, Any]], cursor: str) -> None:
        """Changes and tombstones. Applied twice, they change nothing."""
        user = str(user_id)
        with self._file:
            self._file.execute("BEGIN")
            for item in items:
                key = (user, item["kind"], item["id"])
                if item["deleted"]:
                    self._file.execute("DELETE FROM things WHERE user_id = ? AND kind = ? AND id = ?", key)
                else:
                    body = json.dumps(item)
                    self._file.execute("INSERT OR REPLACE INTO things VALUES (?, ?, ?, ?)", (*key, body))
            self._file.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (user, cursor))

    def things(self, user_id: UUID, kind: str) -> dict[str, Any]:
        """All of a kind, by id."""
        rows = self._file.execute("SELECT id, body FROM things WHERE user_id = ? AND kind = ?", (str(user_id), kind))
        return {str(key): json.loads(body) for key, body in rows}

    def forget(self, user_id: UUID) -> None:
        """Drop all of a runner: the next synchronisation begins anew."""
        with self._file:
            self._file.execute("BEGIN")
            for table in ("things", "cursors"):
                self._file.execute(f"DELETE FROM {table} WHERE user_id = ?", (str(user_id),))  # noqa: S608 - as above
