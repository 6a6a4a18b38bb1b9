from threading import Thread

import psycopg
from psycopg import Connection

from infra.housekeeping import purge_replies, purge_tokens

FILL = """
    INSERT INTO kept_replies (key_hash, fingerprint, owner_id, sealed, position, created_at)
    SELECT sha256(n::text::bytea), '', gen_random_uuid(), '', 0, now() - make_interval(hours => n)
    FROM generate_series(1, 1000) AS n
"""


def test_replies_go_after_thirty_days_and_not_before(database: Connection) -> None:
    database.execute(FILL)
    assert purge_replies(database, batch=100) == 1_000 - 30 * 24 + 1
    oldest = database.execute("SELECT max(now() - created_at) < '30 days', count(*) FROM kept_replies").fetchone()
    assert oldest == (True, 30 * 24 - 1)
    assert purge_replies(database) == 0


def test_several_at_once_share_the_work(database: Connection, database_url: str) -> None:
    database.execute(FILL)
    counts: list[int] = []

    def purge() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            counts.append(purge_replies(connection, batch=10))

    threads = [Thread(target=purge) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 281


SESSIONS = """
    WITH made AS (
        INSERT INTO sessions (session_id, user_id)
        SELECT gen_random_uuid(), gen_random_uuid() FROM generate_series(1, 3) RETURNING session_id
    ), numbered AS (SELECT session_id, row_number() OVER () AS number FROM made)
    INSERT INTO refresh_tokens (token_hash, session_id, expires_at, used_at)
    SELECT sha256((number || ' ' || days)::bytea), session_id, now() + make_interval(days => 90 - days),
        CASE WHEN number < 3 AND days > 0 THEN now() - make_interval(days => days) END
    FROM numbered,
        unnest(CASE number WHEN 1 THEN '{100, 91}' WHEN 2 THEN '{100, 91, 89, 0}' ELSE '{185}' END::int[]) AS days
"""


def test_spent_tokens_go_and_sessions_of_which_none_is_left(database: Connection) -> None:
    """Of one that was ended, one that is in use, and one whose phone was never seen again."""
    database.execute(SESSIONS)
    assert purge_tokens(database, batch=2) == 2 + 2 + 1
    left = "SELECT count(DISTINCT session_id), count(*), min(used_at) > now() - interval '90 days' FROM refresh_tokens"
    assert database.execute(left).fetchone() == (1, 2, True)
    assert database.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    assert purge_tokens(database) == 0
