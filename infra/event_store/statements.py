"""What `postgres.py` asks of the log: statements that its connections prepare."""

from collections.abc import Mapping
from typing import Final

_ROW_COLUMNS: Final = b"notification_id, originator_id, originator_version, topic, state, owner_id"
_REPLIES: Final = b"""
    SELECT key_hash, fingerprint, owner_id, sealed, position FROM kept_replies WHERE key_hash = ANY($1::bytea[])
"""
WRITING: Final[Mapping[bytes, bytes]] = {
    # Where every save is one row, a row that is left out is a whole save.
    b"append_one": b"""
        INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING notification_id
    """,
    b"append_single": b"""
        INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bytea[], $5::uuid[], $6::smallint[])
        ON CONFLICT DO NOTHING RETURNING originator_id, notification_id
    """,
    # Otherwise one snapshot for all of it leaves out whole saves of which a version or the request is there.
    b"append": b"""
        WITH event AS MATERIALIZED (
            SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bytea[], $5::uuid[], $6::smallint[])
            WITH ORDINALITY AS e (stream_id, version, topic, state, owner_id, partition_id, nr)
        ), reply AS MATERIALIZED (
            SELECT * FROM unnest($7::uuid[], $8::bytea[], $9::bytea[], $10::uuid[], $11::bytea[], $12::bigint[])
            AS r (stream_id, key_hash, fingerprint, owner_id, sealed, position)
        ), taken AS MATERIALIZED (
            SELECT DISTINCT stream_id FROM event
            JOIN stored_events s ON s.originator_id = stream_id AND s.originator_version = event.version
        ), kept AS MATERIALIZED (
            SELECT stream_id FROM reply JOIN kept_replies USING (key_hash)
        ), saved AS (
            INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
            SELECT stream_id, version, topic, state, owner_id, partition_id FROM event
            WHERE stream_id NOT IN (SELECT stream_id FROM taken) AND stream_id NOT IN (SELECT stream_id FROM kept)
            ORDER BY nr
            RETURNING originator_id AS stream_id, notification_id AS position
        ), last AS (
            SELECT stream_id, max(position) AS position FROM saved GROUP BY stream_id
        ), keeping AS (
            INSERT INTO kept_replies (key_hash, fingerprint, owner_id, sealed, position)
            SELECT key_hash, fingerprint, owner_id, sealed, coalesce(last.position, reply.position)
            FROM reply LEFT JOIN last USING (stream_id)
            WHERE stream_id NOT IN (SELECT stream_id FROM taken) AND stream_id NOT IN (SELECT stream_id FROM kept)
        )
        SELECT stream_id, position FROM last
        UNION ALL SELECT stream_id, -1 FROM taken
        UNION ALL SELECT stream_id, -2 FROM kept
    """,
    b"at_versions": b"SELECT "
    + _ROW_COLUMNS
    + b""" FROM stored_events
        JOIN unnest($1::uuid[], $2::bigint[]) AS w (stream_id, version)
            ON originator_id = w.stream_id AND originator_version = w.version
    """,
    b"snapshot": b"""
        INSERT INTO stream_snapshots (stream_id, version, topic, state, position, owner_id)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (stream_id, topic) DO UPDATE
        SET version = excluded.version, state = excluded.state, position = excluded.position
        WHERE stream_snapshots.version < excluded.version
    """,
    b"replies": _REPLIES,
    b"forget": b"DELETE FROM kept_replies WHERE key_hash = $1 AND sealed = $2",
}
READING: Final[Mapping[bytes, bytes]] = {
    b"load": b"""
        WITH wanted AS MATERIALIZED (
            SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[])
            WITH ORDINALITY AS w (stream_id, after, topic, nr)
        ), summed AS MATERIALIZED (
            SELECT w.nr, n.* FROM wanted w
            JOIN stream_snapshots n ON n.stream_id = w.stream_id AND n.topic = w.topic AND n.version > w.after
        )
        SELECT position, stream_id, version, topic, state, owner_id, nr FROM summed
        UNION ALL
        SELECT notification_id, originator_id, originator_version, e.topic, e.state, e.owner_id, w.nr
        FROM wanted w LEFT JOIN summed n ON n.nr = w.nr
        JOIN stored_events e ON originator_id = w.stream_id AND originator_version > greatest(w.after, n.version)
        ORDER BY 7, 3
    """,
    b"last": b"SELECT coalesce(max(notification_id), 0) FROM stored_events",
    b"replies": _REPLIES,
}
