"""Statements by which the entries of the feed follow what they are made of; `{s}` is the schema of a version."""

from typing import Final, LiteralString

TAKE_BACK: Final = """
    WITH gone AS (
        DELETE FROM {s}.entries e
        USING unnest(%s::uuid[], %s::timestamptz[], %s::uuid[]) AS p (author_id, started_at, activity_id), {s}.follows f
        WHERE f.author_id = p.author_id AND e.viewer_id = f.follower_id
          AND e.started_at = p.started_at AND e.activity_id = p.activity_id
        RETURNING e.viewer_id
    ) SELECT viewer_id, count(*) FROM gone GROUP BY viewer_id
"""
TAKE_BACK_MANY: Final = """
    WITH gone AS (
        DELETE FROM {s}.entries e USING unnest(%s::uuid[]) AS p (activity_id), {s}.follows f
        WHERE f.author_id = %s AND e.viewer_id = f.follower_id AND e.author_id = f.author_id
          AND e.activity_id = p.activity_id
        RETURNING e.viewer_id
    ) SELECT viewer_id, count(*) FROM gone GROUP BY viewer_id
"""
CLEAR: Final = """
    WITH gone AS (
        DELETE FROM {s}.entries e USING unnest(%s::uuid[], %s::uuid[]) AS f (follower_id, author_id)
        WHERE e.viewer_id = f.follower_id AND e.author_id = f.author_id RETURNING e.viewer_id
    ) SELECT viewer_id, count(*) FROM gone GROUP BY viewer_id
"""
CLEAR_MERGED: Final = """
    WITH gone AS (
        DELETE FROM {s}.entries e USING {s}.follows f
        WHERE f.author_id = ANY(%s) AND e.viewer_id = f.follower_id AND e.author_id = f.author_id
        RETURNING e.viewer_id
    ) SELECT viewer_id, count(*) FROM gone GROUP BY viewer_id
"""
REFILL: Final = """
    WITH lost AS MATERIALIZED (
        SELECT l.viewer_id, l.number, coalesce(o.started_at, 'infinity') AS started_at,
            coalesce(o.activity_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS activity_id
        FROM unnest(%s::uuid[], %s::integer[]) AS l (viewer_id, number)
        JOIN {s}.viewers v ON v.viewer_id = l.viewer_id AND v.entries >= %s
        LEFT JOIN LATERAL (
            SELECT started_at, activity_id FROM {s}.entries WHERE viewer_id = l.viewer_id
            ORDER BY started_at, activity_id LIMIT 1) o ON true
    ), new AS (
        INSERT INTO {s}.entries (viewer_id, started_at, activity_id, author_id)
        SELECT l.viewer_id, c.started_at, c.activity_id, c.author_id
        FROM lost l CROSS JOIN LATERAL (
            SELECT p.started_at, p.activity_id, f.author_id
            FROM {s}.follows f
            JOIN {s}.authors a ON a.author_id = f.author_id AND NOT a.merged
            CROSS JOIN LATERAL (
                SELECT started_at, activity_id FROM {s}.posts
                WHERE author_id = f.author_id AND NOT private
                  AND (started_at, activity_id) < (l.started_at, l.activity_id)
                ORDER BY started_at DESC, activity_id DESC LIMIT l.number) p
            WHERE f.follower_id = l.viewer_id
            ORDER BY p.started_at DESC, p.activity_id DESC LIMIT l.number) c
        ON CONFLICT DO NOTHING RETURNING viewer_id
    ) SELECT viewer_id, count(*) FROM new GROUP BY viewer_id
"""
BACKFILL: Final = """
    WITH new AS (
        INSERT INTO {s}.entries (viewer_id, started_at, activity_id, author_id)
        SELECT f.follower_id, p.started_at, p.activity_id, f.author_id
        FROM unnest(%s::uuid[], %s::uuid[]) AS f (follower_id, author_id)
        JOIN {s}.authors a ON a.author_id = f.author_id AND NOT a.merged
        CROSS JOIN LATERAL (
            SELECT started_at, activity_id FROM {s}.posts WHERE author_id = f.author_id AND NOT private
            ORDER BY started_at DESC, activity_id DESC LIMIT %s) p
        ON CONFLICT DO NOTHING RETURNING viewer_id
    ) SELECT viewer_id, count(*) FROM new GROUP BY viewer_id
"""
WRITE_OUT: Final = """
    WITH new AS (
        INSERT INTO {s}.entries (viewer_id, started_at, activity_id, author_id)
        SELECT f.follower_id, p.started_at, p.activity_id, p.author_id
        FROM {s}.posts p
        JOIN {s}.authors a ON a.author_id = p.author_id AND NOT a.merged
        JOIN {s}.follows f ON f.author_id = p.author_id
        WHERE p.activity_id = ANY(%s)
        ORDER BY f.follower_id, p.started_at, p.activity_id
        ON CONFLICT DO NOTHING RETURNING viewer_id
    ) SELECT viewer_id, count(*) FROM new GROUP BY viewer_id
"""
ADD_UP: Final = """
    INSERT INTO {s}.viewers AS v (viewer_id, entries) SELECT * FROM unnest(%s::uuid[], %s::integer[])
    ON CONFLICT (viewer_id) DO UPDATE SET entries = v.entries + EXCLUDED.entries RETURNING viewer_id, entries
"""
TRIM: Final = """
    WITH kept AS (
        UPDATE {s}.viewers v SET entries = o.kept
        FROM (SELECT viewer_id, %s::integer AS kept, entries FROM {s}.viewers WHERE viewer_id = ANY(%s)) o
        WHERE v.viewer_id = o.viewer_id RETURNING v.viewer_id, o.entries - o.kept AS surplus
    )
    DELETE FROM {s}.entries e USING kept, LATERAL (
        SELECT started_at, activity_id FROM {s}.entries WHERE viewer_id = kept.viewer_id
        ORDER BY started_at, activity_id LIMIT kept.surplus) oldest
    WHERE e.viewer_id = kept.viewer_id AND e.started_at = oldest.started_at AND e.activity_id = oldest.activity_id
"""
DROP_EMPTY: Final = "DELETE FROM {s}.viewers WHERE viewer_id = ANY(%s) AND entries = 0"
FORGET_VIEWERS: Final = "DELETE FROM {s}.viewers WHERE viewer_id = ANY(%s)"
CANDIDATES: Final[LiteralString] = """
    CROSS JOIN LATERAL (
        SELECT p.started_at, p.activity_id, p.author_id
        FROM {s}.follows f
        JOIN {s}.authors a ON a.author_id = f.author_id AND NOT a.merged
        JOIN {s}.posts p ON p.author_id = f.author_id AND NOT p.private
        WHERE f.follower_id = v.viewer_id
        ORDER BY p.started_at DESC, p.activity_id DESC LIMIT %s) c
"""
# Most are as they should be: these are not written. EXCEPT, because NOT EXISTS is quadratic by a wrong guess.
MEND: Final[LiteralString] = (
    """
    WITH had AS MATERIALIZED (
        SELECT viewer_id, started_at, activity_id, author_id FROM {s}.entries WHERE viewer_id = ANY(%s)
    ), wanted AS MATERIALIZED (
        SELECT v.viewer_id, c.started_at, c.activity_id, c.author_id FROM unnest(%s::uuid[]) AS v (viewer_id)
    """  # noqa: S608 - texts of ours
    + CANDIDATES
    + """
    ), gone AS (
        DELETE FROM {s}.entries e USING (
            SELECT viewer_id, started_at, activity_id FROM had
            EXCEPT SELECT viewer_id, started_at, activity_id FROM wanted
        ) g WHERE e.viewer_id = g.viewer_id AND e.started_at = g.started_at AND e.activity_id = g.activity_id
    )
    INSERT INTO {s}.entries (viewer_id, started_at, activity_id, author_id)
    SELECT viewer_id, started_at, activity_id, author_id FROM wanted
    EXCEPT SELECT viewer_id, started_at, activity_id, author_id FROM had
    ON CONFLICT (viewer_id, started_at, activity_id) DO UPDATE SET author_id = EXCLUDED.author_id
    """
)
DERIVE_ALL: Final[LiteralString] = (
    """
    INSERT INTO {s}.entries (viewer_id, started_at, activity_id, author_id)
    SELECT v.viewer_id, c.started_at, c.activity_id, c.author_id
    FROM (SELECT DISTINCT follower_id AS viewer_id FROM {s}.follows) v
    """  # noqa: S608 - texts of ours
    + CANDIDATES
)
COUNT: Final = """
    INSERT INTO {s}.viewers (viewer_id, entries)
    SELECT viewer_id, count(*) FROM {s}.entries WHERE viewer_id = ANY(%s) GROUP BY viewer_id
"""
COUNT_ALL: Final = """
    INSERT INTO {s}.viewers (viewer_id, entries) SELECT viewer_id, count(*) FROM {s}.entries GROUP BY viewer_id
"""
MERGED: Final = "SELECT author_id FROM {s}.authors WHERE merged AND author_id = ANY(%s)"
FOLLOWERS: Final = "SELECT follower_id FROM {s}.follows WHERE author_id = ANY(%s)"
