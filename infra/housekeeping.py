"""What is kept for a time only, and goes afterwards."""

from typing import Final

from psycopg import Connection

REPLY_DAYS: Final = 30  # told to clients: docs/mobile
TOKEN_DAYS: Final = 90  # as long as a refresh token lives: a used one that comes again until then ends its session
_BATCH: Final = 1_000


def purge_replies(connection: Connection, batch: int = _BATCH) -> int:
    """Drop replies older than `REPLY_DAYS`, in short transactions; how many. Several processes may do it at once."""
    count = 0
    while dropped := connection.execute(_PURGE, (REPLY_DAYS, batch)).rowcount:
        count += dropped
    return count


def purge_tokens(connection: Connection, batch: int = _BATCH) -> int:
    """Drop refresh tokens that were used or expired `TOKEN_DAYS` ago, with sessions of which none is left; how many."""
    count = 0
    while True:
        with connection.transaction():
            spent = connection.execute(_SPENT, (TOKEN_DAYS, batch)).fetchall()
            connection.execute(_SESSIONS, (list({session_id for (session_id,) in spent}),))
        if not spent:
            return count
        count += len(spent)


_PURGE: Final = """
    DELETE FROM kept_replies WHERE key_hash IN (
        SELECT key_hash FROM kept_replies WHERE created_at < now() - make_interval(days => %s)
        ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED
    )
"""
_SPENT: Final = """
    DELETE FROM refresh_tokens WHERE token_hash IN (
        SELECT token_hash FROM refresh_tokens WHERE coalesce(used_at, expires_at) < now() - make_interval(days => %s)
        ORDER BY coalesce(used_at, expires_at) LIMIT %s FOR UPDATE SKIP LOCKED
    ) RETURNING session_id
"""
_SESSIONS: Final = """
    DELETE FROM sessions WHERE session_id = ANY(%s)
    AND NOT EXISTS (SELECT FROM refresh_tokens t WHERE t.session_id = sessions.session_id)
"""
