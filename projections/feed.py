"""The feed: the runs of those whom a runner follows, written out to followers, the latest start first.

It takes pages itself, since one run becomes a row for each follower. Whom a run is written out to depends on
events and on the constants here only. A runner's own runs, and those of authors with very many followers, are
not written out but merged in when read. Private runs are in nobody's feed.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import ClassVar, Final, LiteralString

from psycopg import AsyncConnection, Connection

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.event import Event, Recorded
from domain.events.follow import FollowEnded, FollowStarted
from domain.measures import ActivityId, UserId, Visibility
from projections.projection import Place, statement

KEPT: Final = 2_000  # entries a runner's feed keeps: years of following a few, weeks of following a thousand
BACKFILLED: Final = 200  # of an author's runs that a new follower finds at once
WRITTEN_OUT: Final = 10_000  # followers up to which an author's runs are written out; for good, once passed


class Feed:
    """Entries by viewer, beside the posts and follow edges that they are made of."""

    name: ClassVar[str] = "feed"
    version: ClassVar[int] = 1

    def tables(self) -> Iterable[LiteralString]:
        """Posts by author, follow edges by author and by follower, authors' reach, and entries by viewer."""
        yield """
            CREATE TABLE IF NOT EXISTS {s}.posts (
                activity_id uuid PRIMARY KEY, author_id uuid NOT NULL, started_at timestamptz NOT NULL,
                private boolean NOT NULL)
        """
        yield "CREATE INDEX IF NOT EXISTS posts_of_author ON {s}.posts (author_id, started_at, activity_id)"
        yield """
            CREATE TABLE IF NOT EXISTS {s}.follows (
                author_id uuid, follower_id uuid, PRIMARY KEY (author_id, follower_id))
        """
        yield "CREATE INDEX IF NOT EXISTS follows_of_follower ON {s}.follows (follower_id)"
        yield """
            CREATE TABLE IF NOT EXISTS {s}.authors (
                author_id uuid PRIMARY KEY, followers integer NOT NULL, merged boolean NOT NULL)
        """
        yield """
            CREATE TABLE IF NOT EXISTS {s}.entries (
                viewer_id uuid, started_at timestamptz, activity_id uuid, author_id uuid NOT NULL,
                PRIMARY KEY (viewer_id, started_at, activity_id))
        """

    def apply(self, page: Sequence[Recorded], rows: Connection) -> None:
        """Runs in sets, the rest one by one, in the order of the log."""
        events = (recorded.event for recorded in page)
        for kind, alike in groupby(events, type):
            if kind is ActivityRecorded:
                _post(rows, [event for event in alike if isinstance(event, ActivityRecorded)])
            else:
                for event in alike:
                    _apply(rows, event)


def _post(rows: Connection, recorded: Sequence[ActivityRecorded]) -> None:
    columns = (
        [event.activity_id for event in recorded],
        [event.user_id for event in recorded],
        [event.started_at for event in recorded],
        [event.visibility is Visibility.PRIVATE for event in recorded],
    )
    rows.execute(_POST, columns)
    _write_out(rows, [event.activity_id for event in recorded])


def _write_out(rows: Connection, activity_ids: Sequence[ActivityId]) -> None:
    viewers = {viewer for (viewer,) in rows.execute(_WRITE_OUT, (list(activity_ids),))}
    if viewers:
        rows.execute(_TRIM, (list(viewers), KEPT))


def _apply(rows: Connection, event: Event) -> None:
    match event:
        case ActivityEdited(activity_id=activity_id, visibility=visibility):
            private = visibility is Visibility.PRIVATE
            if rows.execute(_SET_PRIVATE, (private, activity_id, private)).rowcount == 0:
                return
            if private:
                rows.execute(_TAKE_BACK, (activity_id,))
            else:
                _write_out(rows, [activity_id])
        case ActivityDeleted(activity_id=activity_id):
            rows.execute(_TAKE_BACK, (activity_id,))
            rows.execute(_DELETE_POST, (activity_id,))
        case FollowStarted(follower_id=follower, followee_id=author):
            rows.execute(_FOLLOW, (author, follower))
            rows.execute(_COUNT_FOLLOWER, (author, WRITTEN_OUT))
            rows.execute(_BACKFILL, (follower, author, BACKFILLED))
            rows.execute(_TRIM, ([follower], KEPT))
        case FollowEnded(follower_id=follower, followee_id=author):
            rows.execute(_UNFOLLOW, (author, follower))
            rows.execute(_UNCOUNT_FOLLOWER, (author,))
            rows.execute(_CLEAR, (follower, author))


async def feed_page(
    connection: AsyncConnection, viewer_id: UserId, before: Place, limit: int
) -> list[tuple[ActivityId, Place]]:
    """The next activities of a runner's feed after a place in it, each with its own place."""
    parameters = {
        "viewer": viewer_id,
        "started_at": before[0],
        "activity_id": before[1],
        "limit": limit,
    }
    found = await connection.execute(_PAGE, parameters)
    return [(ActivityId(activity_id), (started_at, activity_id)) async for activity_id, started_at in found]


_POST = statement(
    Feed,
    """
    INSERT INTO {s}.posts (activity_id, author_id, started_at, private)
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::boolean[])
    """,
)
_WRITE_OUT = statement(
    Feed,
    """
    INSERT INTO {s}.entries (viewer_id, started_at, activity_id, author_id)
    SELECT f.follower_id, p.started_at, p.activity_id, p.author_id
    FROM {s}.posts p
    JOIN {s}.authors a ON a.author_id = p.author_id AND NOT a.merged
    JOIN {s}.follows f ON f.author_id = p.author_id
    WHERE p.activity_id = ANY(%s) AND NOT p.private
    ON CONFLICT DO NOTHING RETURNING viewer_id
    """,
)
_TRIM = statement(
    Feed,
    """
    DELETE FROM {s}.entries e
    USING unnest(%s::uuid[]) v (viewer_id), LATERAL (
        SELECT started_at, activity_id FROM {s}.entries
        WHERE viewer_id = v.viewer_id ORDER BY started_at DESC, activity_id DESC OFFSET %s LIMIT 1) edge
    WHERE e.viewer_id = v.viewer_id AND (e.started_at, e.activity_id) <= (edge.started_at, edge.activity_id)
    """,
)
_SET_PRIVATE = statement(Feed, "UPDATE {s}.posts SET private = %s WHERE activity_id = %s AND private <> %s")
_TAKE_BACK = statement(
    Feed,
    """
    DELETE FROM {s}.entries e USING {s}.posts p, {s}.follows f
    WHERE p.activity_id = %s AND f.author_id = p.author_id
      AND e.viewer_id = f.follower_id AND e.started_at = p.started_at AND e.activity_id = p.activity_id
    """,
)
_DELETE_POST = statement(Feed, "DELETE FROM {s}.posts WHERE activity_id = %s")
_FOLLOW = statement(Feed, "INSERT INTO {s}.follows (author_id, follower_id) VALUES (%s, %s)")
_UNFOLLOW = statement(Feed, "DELETE FROM {s}.follows WHERE author_id = %s AND follower_id = %s")
_COUNT_FOLLOWER = statement(
    Feed,
    """
    INSERT INTO {s}.authors AS a (author_id, followers, merged) VALUES (%s, 1, false)
    ON CONFLICT (author_id) DO UPDATE SET followers = a.followers + 1, merged = a.merged OR a.followers >= %s
    """,
)
_UNCOUNT_FOLLOWER = statement(Feed, "UPDATE {s}.authors SET followers = followers - 1 WHERE author_id = %s")
_BACKFILL = statement(
    Feed,
    """
    INSERT INTO {s}.entries (viewer_id, started_at, activity_id, author_id)
    SELECT %s, started_at, activity_id, author_id FROM {s}.posts
    WHERE author_id = %s AND NOT private ORDER BY started_at DESC, activity_id DESC LIMIT %s
    ON CONFLICT DO NOTHING
    """,
)
_CLEAR = statement(Feed, "DELETE FROM {s}.entries WHERE viewer_id = %s AND author_id = %s")
_PAGE = statement(
    Feed,
    """
    SELECT activity_id, started_at FROM (
        (SELECT activity_id, started_at FROM {s}.entries
         WHERE viewer_id = %(viewer)s AND (started_at, activity_id) < (%(started_at)s, %(activity_id)s)
         ORDER BY started_at DESC, activity_id DESC LIMIT %(limit)s)
        UNION
        (SELECT activity_id, started_at FROM {s}.posts
         WHERE author_id = %(viewer)s AND NOT private
           AND (started_at, activity_id) < (%(started_at)s, %(activity_id)s)
         ORDER BY started_at DESC, activity_id DESC LIMIT %(limit)s)
        UNION
        (SELECT p.activity_id, p.started_at
         FROM {s}.follows f JOIN {s}.authors a ON a.author_id = f.author_id AND a.merged
         CROSS JOIN LATERAL (
            SELECT activity_id, started_at FROM {s}.posts
            WHERE author_id = f.author_id AND NOT private
              AND (started_at, activity_id) < (%(started_at)s, %(activity_id)s)
            ORDER BY started_at DESC, activity_id DESC LIMIT %(limit)s) p
         WHERE f.follower_id = %(viewer)s)
    ) merged ORDER BY started_at DESC, activity_id DESC LIMIT %(limit)s
    """,
)
