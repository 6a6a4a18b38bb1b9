"""How many sessions of Postgres may be left behind by who hangs up on it."""

import logging
from collections.abc import Set
from time import monotonic
from typing import Final

from psycopg import OperationalError

_log = logging.getLogger(__name__)

_AT_MOST: Final = 4  # of the hundred that a server has by default; each pool of each process may
_LOOK_AGAIN_SECONDS: Final = 1.0  # for whether they are gone: each look may be a new connection

_SESSION: Final = b"concat_ws('.', pid, extract(epoch FROM backend_start))"  # numbers of processes come again
OWN_SESSION: Final = b"SELECT " + _SESSION + b" FROM pg_stat_activity WHERE pid = pg_backend_pid()"
THOSE_THERE: Final = (  # of those in $1, with spaces between them
    b"SELECT " + _SESSION + b" FROM pg_stat_activity WHERE " + _SESSION + b" = ANY(string_to_array($1, ' '))"
)


class HungUp:
    """Sessions of the server that were hung up on before they answered, until they are known to be gone.

    Postgres does not notice while a commit waits for its standby: then `lock_timeout` and `statement_timeout` do
    nothing either, and who ended such a wait would let everybody see, and ack, what no standby has. So each keeps one
    of the server's connections for as long as it takes, and there must not be many of them.
    """

    def __init__(self) -> None:
        self._sessions: set[bytes] = set()
        self._full_until = 0.0

    def add(self, session: bytes) -> None:
        """Remember one."""
        self._sessions.add(session)

    def asked_for(self) -> frozenset[bytes]:
        """Those that may be there still. `OperationalError` where too many were, a moment ago."""
        if monotonic() < self._full_until:
            raise OperationalError("too many that were hung up on are under way in Postgres")
        return frozenset(self._sessions)

    def found(self, asked: Set[bytes], there: Set[bytes]) -> None:
        """Of those that were asked for these are there. `OperationalError` where they are too many for one more."""
        self._sessions -= asked - there
        if len(there) >= _AT_MOST:
            self._full_until = monotonic() + _LOOK_AGAIN_SECONDS
            _log.warning(
                "%d sessions do not end in Postgres, as where a standby is gone: no new ones until then", len(there)
            )
            raise OperationalError("too many that were hung up on are under way in Postgres")
