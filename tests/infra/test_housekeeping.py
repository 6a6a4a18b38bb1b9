from threading import Thread

import psycopg
from psycopg import Connection

from infra.housekeeping import purge_replies

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
