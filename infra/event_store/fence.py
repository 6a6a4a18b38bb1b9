"""Up to where the log is decided: no event at or below that position can still appear.

Positions come from a sequence, and transactions commit in another order than they drew from it: whoever reads past the
last position seen skips what commits later below it. An INSERT holds a RowExclusiveLock on the table from before it
draws until after its commit is visible. So (1) read the sequence's last value, (2) note the transactions that hold this
lock, (3) once none of them still does, everything up to that value is either visible or rolled back. Writers pay
nothing for it, and long transactions that do not write here hold nothing up. See docs/decisions/0005.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from psycopg import Connection
from psycopg.rows import tuple_row

from domain.errors import StoreUnavailable

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 0.05  # for transactions under way; then what was decided before is given
_NEEDED_SECONDS: Final = 10.0  # for them, where what was decided before is not enough
_PAUSE_SECONDS: Final = 0.0005
_LONG_SECONDS: Final = 10.0  # no writer of ours is under way for so long: it is told
_PENDING: Final = 64  # fences that wait at once


class Fence:
    """Of one connection to the primary. `StoreUnavailable` on a standby, whose `pg_locks` does not show the writers.

    The connection must be dropped together with its fence. After a crash of the server the sequence may go back a
    little, over values that were drawn and never committed, so that an old fence would be too high.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._cursor = connection.cursor(row_factory=tuple_row)
        self._decided = 0
        self._pending: deque[tuple[int, frozenset[str], float]] = deque()
        self._told = False

    def decided(self, upto: int = 0) -> int:
        """The highest decided position now; waits a moment for transactions under way, so that it may be a low one, in
        the first calls even 0. `upto`: until this is decided, as far as it was drawn, it waits for longer.

        `StoreUnavailable` when a transaction is open for longer than that.
        """
        began = time.monotonic()
        drawn = self._look()
        while self._decided < drawn:
            enough = self._decided >= min(upto, drawn)
            if time.monotonic() - began > (_PATIENCE_SECONDS if enough else _NEEDED_SECONDS):
                if enough:
                    break
                raise StoreUnavailable(
                    f"a transaction that writes events is open for over {_NEEDED_SECONDS:.0f} s: see cairn events stats"
                )
            time.sleep(_PAUSE_SECONDS)
            self._look()
        return self._decided

    def last_event(self, *, of_all: bool = False) -> int:
        """The position of the last decided event now, 0 for none: lower than `decided` where draws came to nothing.

        `of_all`: of all that is drawn by now, for those who take it for the end of the log. `StoreUnavailable`.
        """
        decided = self.decided(self._look() if of_all else 0)
        row = self._cursor.execute(_LAST_EVENT, (decided,), prepare=True).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def _look(self) -> int:
        """One look; the last position drawn. Two statements, never one: each must have a snapshot of its own."""
        row = self._cursor.execute(_DRAWN, prepare=True).fetchone()
        drawn, standby = row or (None, False)
        if standby:
            raise StoreUnavailable("this Postgres is a standby, which does not show who writes: give the primary")
        drawn = int(drawn or 0)
        if drawn == self._decided:
            return drawn
        writing = dict[str, int | None](self._cursor.execute(_WRITING, prepare=True).fetchall())
        # the oldest stay: were they to make room for new ones, none might ever get old enough
        if not self._pending or (self._pending[-1][0] < drawn and len(self._pending) < _PENDING):
            self._pending.append((drawn, frozenset(writing), time.monotonic()))
        while self._pending and not self._pending[0][1] & writing.keys():
            self._decided = max(self._decided, self._pending.popleft()[0])
            self._told = False
        if self._pending and not self._told:
            self._tell(*self._pending[0][1:], writing)
        return drawn

    def _tell(self, awaited: frozenset[str], since: float, writing: Mapping[str, int | None]) -> None:
        waited = time.monotonic() - since
        if waited > _LONG_SECONDS:
            pids = [str(writing[one] or "a prepared one") for one in sorted(awaited & writing.keys())]
            _log.warning(
                "no newer event is seen for %.0f s: a transaction that may write some is open, of pid %s in Postgres",
                waited,
                ", ".join(pids),
            )
            self._told = True


# Not `SELECT last_value`: that takes no lock on the sequence's page, where nextval() puts a value 32 ahead for an
# instant while it logs. So high a fence misses who draws the values in between afterwards: one event in 600,000.
_DRAWN: Final = "SELECT pg_sequence_last_value('stored_events_notification_id_seq'), pg_is_in_recovery()"
_LAST_EVENT: Final = "SELECT max(notification_id) FROM stored_events WHERE notification_id <= %s"
_WRITING: Final = """
    SELECT virtualtransaction, pid FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND relation = 'stored_events'::regclass
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
