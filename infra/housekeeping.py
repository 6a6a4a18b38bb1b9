"""What is kept for a time only, and goes afterwards."""

from typing import Final

from psycopg import Connection

REPLY_DAYS: Final = 30  # told to clients: docs/mobile
_BATCH: Final = 1_000


def purge_replies(connection: Connection, batch: int = _BATCH) -> int:
    """Drop replies older than `REPLY_DAYS`, in short transactions; how many. Several processes may do it at once."""
    count = 0
    while dropped := connection.execute(_PURGE, (REPLY_DAYS, batch)).rowcount:
        count += dropped
    return count


_PURGE: Final = """
    DELETE FROM kept_replies WHERE key_hash IN (
        SELECT key_hash FROM kept_replies WHERE created_at < now() - make_interval(days => %s)
        ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED
    )
"""
