"""What the runner did and the server does not know yet. It is written down here first, and sent by `syncing.py`."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS outbox (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        user_id TEXT NOT NULL,
        entity TEXT NOT NULL,
        method TEXT NOT NULL,
        path TEXT NOT NULL,
        query TEXT NOT NULL,
        key TEXT NOT NULL,
        body BLOB NOT NULL,
        is_recording INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'waiting',
        problem TEXT NOT NULL DEFAULT '{}'
    ) STRICT
"""
_MOVED: Final = """
    CREATE TABLE IF NOT EXISTS moved (
        user_id TEXT NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL, PRIMARY KEY (user_id, old, new)
    ) STRICT
"""
# of each entity only the first that is not settled: what comes later hangs on it
_NEXT: Final = """
    SELECT * FROM outbox o WHERE user_id = ? AND is_recording >= ? AND state = 'waiting'
    AND place NOT IN (SELECT value FROM json_each(?)) AND NOT EXISTS (
        SELECT 1 FROM outbox e WHERE e.entity = o.entity AND e.user_id = o.user_id AND e.place < o.place
        AND (e.state <> 'refused' OR e.is_recording > o.is_recording)
    ) ORDER BY place LIMIT 1
"""
_DROP: Final = "DELETE FROM outbox WHERE place = ?"
_UP_TO_DELETE: Final = """
    DELETE FROM outbox WHERE user_id = ?1 AND entity = ?2 AND place <= (
        SELECT max(place) FROM outbox WHERE user_id = ?1 AND entity = ?2 AND path = entity AND method = 'DELETE'
    )
"""
_COPY: Final = """
    INSERT INTO outbox (user_id, entity, method, path, query, key, body, is_recording, state, problem)
    SELECT user_id, replace(entity, :old, :new), method, replace(path, :old, :new), query, lower(hex(randomblob(16))),
        body, is_recording, state, problem
    FROM outbox WHERE user_id = :user AND path LIKE '%' || :old || '%' ORDER BY place
"""


@dataclass(frozen=True)
class Entry:
    """One request to be made. `state` is waiting, handed-in (a recording without a verdict yet) or refused (`problem`
    says why): what is refused stays, for the runner to see and the app to drop.
    """

    place: int
    user_id: str
    entity: str
    method: str
    path: str
    query: Mapping[str, str]
    key: str
    body: bytes
    is_recording: bool
    state: str
    problem: Mapping[str, Any]


class Outbox:
    """Requests in the order in which they were made, each with the key or id that it will have for ever.

    On a phone that is full, what changes an entry raises `sqlite3.OperationalError`. What became of it is remembered
    as long as the app runs: it is not sent again meanwhile, and written down by `catch_up`.
    """

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file
        self._owed: dict[int, tuple[str, tuple[str | int, ...]]] = {}  # by place, what is not written down yet
        for table in (_TABLE, _MOVED):
            file.execute(table)
        file.execute("CREATE INDEX IF NOT EXISTS outbox_entities ON outbox (user_id, entity, place)")

    def add(self, user_id: UUID, method: str, path: str, body: object = None, *, entity: str | None = None) -> int:
        """Write a command down; its place. Commands of the same `entity` (by default: of the same path) are sent in
        this order; once it returns, the command will be done, whatever happens to the app.
        """
        encoded = b"" if body is None else json.dumps(body).encode()
        return self._insert(user_id, entity or path, method, path, {}, encoded, is_recording=False)

    def add_recording(self, user_id: UUID, body: bytes, activity_id: UUID | None = None, **about: str) -> UUID:
        """Write a recorded file down, with its title, sport or visibility; the activity's id, made here once."""
        activity_id = activity_id or uuid4()
        path = f"/activities/{activity_id}"
        self._insert(user_id, path, "PUT", path, about, body, is_recording=True)
        return activity_id

    def next(
        self, user_id: UUID, *, recordings_only: bool = False, besides: Collection[int] = frozenset()
    ) -> Entry | None:
        """What can be sent now: the oldest whose entity waits for nothing before it, but for some places."""
        found = self._select(_NEXT, str(user_id), int(recordings_only), json.dumps([*besides, *self._owed]))
        return found[0] if found else None

    def entries(self, user_id: UUID, state: str) -> list[Entry]:
        """All in a state, the oldest first; without their bodies, which may be large."""
        return self._select(
            "SELECT place, user_id, entity, method, path, query, key, x'', is_recording, state, problem"
            " FROM outbox WHERE user_id = ? AND state = ? ORDER BY place",
            str(user_id),
            state,
        )

    def handed_in(self, place: int) -> None:
        """The server has this recording's bytes for good; what it makes of them is not known yet."""
        self._note(place, "UPDATE outbox SET state = 'handed-in' WHERE place = ?", place)

    def refuse(self, place: int, problem: Mapping[str, Any]) -> None:
        """The server said no, and would say so again."""
        told = json.dumps(problem)
        self._note(place, "UPDATE outbox SET state = 'refused', problem = ? WHERE place = ?", told, place)

    def retry(self, place: int) -> None:
        """Send it again, as it is: where its problem is one that may pass, or the server has lost its bytes."""
        self._note(place, "UPDATE outbox SET state = 'waiting', problem = '{}' WHERE place = ?", place)

    def anew(self, user_id: UUID, activity_id: UUID) -> None:
        """Give a recording another id, and all that waits for it or names it."""
        with self._file:
            self._file.execute("BEGIN")
            self._move(str(user_id), str(activity_id), [str(uuid4())])

    def settle(self, recording: Entry, activities: Collection[UUID], *, is_duplicate: bool = False) -> None:
        """A recording is these activities, mostly the one of its own id: commands that wait for it go to each of them.

        The first run is not what a runner deletes with its duplicate: a waiting DELETE is done, with all before it.
        """
        old, user = recording.entity.rpartition("/")[2], recording.user_id
        with self._file:
            self._file.execute("BEGIN")
            self._file.execute(_DROP, (recording.place,))
            if is_duplicate:
                self._file.execute(_UP_TO_DELETE, (user, recording.entity))
            self._move(user, old, [str(activity) for activity in activities])

    def became(self, user_id: UUID, activity_id: UUID) -> list[UUID]:
        """The activities that a recording of this phone is by now: its own id, until another is known."""
        rows = self._file.execute(
            "SELECT new FROM moved WHERE user_id = ? AND old = ? ORDER BY new", (str(user_id), str(activity_id))
        )
        return [UUID(new) for (new,) in rows] or [activity_id]

    def drop(self, place: int) -> None:
        """It is done, or nobody wants it any more."""
        self._note(place, _DROP, place)

    def catch_up(self) -> None:
        """Write down what a full phone had no room for; it raises as long as there is none."""
        for place, (statement, values) in [*self._owed.items()]:
            self._file.execute(statement, values)
            del self._owed[place]

    def _note(self, place: int, statement: str, *values: str | int) -> None:
        self._owed[place] = statement, values
        self.catch_up()

    def _move(self, user: str, old: str, news: Sequence[str]) -> None:
        """Within a transaction."""
        if old in news:
            return
        for new in news[1:]:
            self._file.execute(_COPY, {"user": user, "old": old, "new": new})
        moved = {"user": user, "old": old, "new": news[0]}
        self._file.execute(
            "UPDATE outbox SET entity = replace(entity, :old, :new), path = replace(path, :old, :new)"
            " WHERE user_id = :user",
            moved,
        )
        for new in news:
            self._file.execute(
                "INSERT OR IGNORE INTO moved SELECT :user, :old, :new"
                " UNION SELECT user_id, old, :new FROM moved WHERE user_id = :user AND new = :old",
                {**moved, "new": new},
            )
        self._file.execute("DELETE FROM moved WHERE user_id = :user AND new = :old", moved)

    def _insert(
        self,
        user_id: UUID,
        entity: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes,
        *,
        is_recording: bool,
    ) -> int:
        cursor = self._file.execute(
            "INSERT INTO outbox (user_id, entity, method, path, query, key, body, is_recording)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (str(user_id), entity, method, path, json.dumps(query), str(uuid4()), body, is_recording),
        )
        place = cursor.lastrowid
        assert place is not None  # noqa: S101 - of an INSERT that went well
        return place

    def _select(self, statement: str, *values: str | int) -> list[Entry]:
        return [
            Entry(
                place,
                user,
                entity,
                method,
                path,
                json.loads(query),
                key,
                body,
                bool(recording),
                state,
                json.loads(told),
            )
            for place, user, entity, method, path, query, key, body, recording, state, told in self._file.execute(
                statement, values
            )
        ]
