"""The feed: the runs of those whom a runner follows, written out to followers, the latest start first.

Posts, follow edges and authors fold row by row. The entries are made of them: of each viewer the latest runs of the
authors that they follow, which private ones are not among. A runner's own runs, and those of authors with very many
followers, are not written out but merged in when read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, ClassVar, Final, LiteralString
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace
from psycopg import Connection

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.event import Recorded
from domain.events.follow import FollowEnded, FollowStarted
from domain.measures import ActivityId, UserId, Visibility
from projections import feed_statements as sql
from projections.projection import Change, Fold, Key, Place, Projection, Query, Table, View
from projections.statements import statement

KEPT: Final = 2_000  # entries a runner's feed keeps: years of following a few, weeks of following a thousand
_PROBED: Final = 200  # runs of an author that go at once: where they are more, reading whole feeds is faster
_MENDED: Final = 50  # viewers at once: the server holds all their entries in memory, twice
WRITTEN_OUT: Final = 10_000  # followers up to which an author's runs are written out; for good, once passed


class Post(Struct, frozen=True, kw_only=True, gc=False):
    """A run as far as feeds go."""

    activity_id: ActivityId
    author_id: UserId
    started_at: datetime
    private: bool


class Posts(Fold[Post]):
    """Runs by activity id."""

    table = Table(
        name="posts",
        row=Post,
        key=("activity_id",),
        owner="author_id",
        indexes=("(author_id, started_at, activity_id)",),
    )
    events = (ActivityRecorded, ActivityEdited, ActivityDeleted)
    reads_private = False

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The run's own row."""
        match recorded.event:
            case ActivityRecorded() | ActivityEdited() | ActivityDeleted() as event:
                return ((event.activity_id,),)
        return ()

    def fold(self, key: Key, row: Post | None, recorded: Recorded) -> Post | None:  # noqa: ARG002 - the key is in the event
        """There until it is deleted."""
        match recorded.event:
            case ActivityRecorded() as event:
                return Post(
                    activity_id=event.activity_id,
                    author_id=event.user_id,
                    started_at=event.started_at,
                    private=event.visibility is Visibility.PRIVATE,
                )
            case ActivityEdited(visibility=visibility) if row is not None:
                return replace(row, private=visibility is Visibility.PRIVATE)
            case ActivityDeleted():
                return None
        return row


class Follow(Struct, frozen=True, kw_only=True, gc=False):
    """A follower of an author."""

    author_id: UserId
    follower_id: UserId


class Follows(Fold[Follow]):
    """Follow edges, by author and by follower."""

    table = Table(
        name="follows",
        row=Follow,
        key=("author_id", "follower_id"),
        owner="follower_id",
        indexes=("(follower_id, author_id)",),
    )
    events = (FollowStarted, FollowEnded)
    reads_private = False

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The pair."""
        match recorded.event:
            case (
                FollowStarted(follower_id=follower, followee_id=author)
                | FollowEnded(follower_id=follower, followee_id=author)
            ):
                return ((author, follower),)
        return ()

    def fold(self, key: Key, row: Follow | None, recorded: Recorded) -> Follow | None:
        """There from the start of following to its end."""
        match recorded.event:
            case FollowStarted():
                return Follow(author_id=key[0], follower_id=key[1])
            case FollowEnded():
                return None
        return row


class Author(Struct, frozen=True, kw_only=True, gc=False):
    """How many follow an author, and whether there were ever too many to write runs out to."""

    author_id: UserId
    followers: int = 0
    merged: bool = False


class Authors(Fold[Author]):
    """Reach by author. It changes with events of the followers' streams."""

    table = Table(name="authors", row=Author, key=("author_id",), owner="author_id")
    events = (FollowStarted, FollowEnded)
    adds = True
    foreign = True
    reads_private = False

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The one who is followed."""
        match recorded.event:
            case FollowStarted(followee_id=author) | FollowEnded(followee_id=author):
                return ((author,),)
        return ()

    def fold(self, key: Key, row: Author | None, recorded: Recorded) -> Author | None:
        """One more or one less."""
        author = row or Author(author_id=key[0])
        match recorded.event:
            case FollowStarted():
                followers = author.followers + 1
                return replace(author, followers=followers, merged=author.merged or followers > WRITTEN_OUT)
            case FollowEnded():
                return replace(author, followers=author.followers - 1)
        return row


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """A run in a viewer's feed."""

    viewer_id: UserId
    started_at: datetime
    activity_id: ActivityId
    author_id: UserId


class Viewer(Struct, frozen=True, kw_only=True, gc=False):
    """How many entries a viewer has; none: no row."""

    viewer_id: UserId
    entries: int


class Entries:
    """The latest `KEPT` runs for each viewer, of the authors whose runs are written out."""

    tables: ClassVar[Sequence[Table[Any]]] = (
        Table(name="entries", row=Entry, key=("viewer_id", "started_at", "activity_id"), owner="viewer_id"),
        Table(name="viewers", row=Viewer, key=("viewer_id",), owner="viewer_id"),
    )

    def update(self, changes: Mapping[str, Sequence[Change]], rows: Connection, schema: str) -> Collection[UUID]:
        """In sets: what is gone, what takes its place, what is new, and what that does to each viewer's count."""
        posts, follows, authors = (changes.get(name, ()) for name in ("posts", "follows", "authors"))
        gone = [before for before, after in posts if _shown(before) and not _shown(after)]
        new = [after.activity_id for before, after in posts if _shown(after) and not _shown(before)]
        ended = [before for before, after in follows if after is None]
        begun = [after for before, after in follows if before is None and after is not None]
        merged = [after.author_id for before, after in authors if _merged(after) and not _merged(before)]
        count = _Counting(rows, schema)
        if gone or ended:  # those of merged authors are in no feed: thousands of followers were asked for nothing
            before = {row.author_id: _merged(was) for was, now in authors if (row := was or now) is not None}
            others = {row.author_id for row in chain(gone, ended)} - before.keys()
            found = rows.execute(statement(schema, sql.MERGED), (list(others),))
            looked_up = {author for author in before if before[author]}.union(*found)
            self._take_back([post for post in gone if post.author_id not in looked_up], count)
            ended = [edge for edge in ended if edge.author_id not in looked_up]
        if ended:
            count.lost(sql.CLEAR, ([edge.follower_id for edge in ended], [edge.author_id for edge in ended]))
        if merged:
            count.lost(sql.CLEAR_MERGED, (merged,))
        count.refill()
        if begun:
            edges = ([edge.follower_id for edge in begun], [edge.author_id for edge in begun])
            count.won(sql.BACKFILL, (*edges, KEPT))
        if new:
            count.won(sql.WRITE_OUT, (new,))
        count.settle()
        if not merged:
            return count.viewers
        # from now on their pages depend on what these authors do, though they may have had nothing of theirs so far
        followers = rows.execute(statement(schema, sql.FOLLOWERS), (merged,))
        return {*count.viewers, *chain.from_iterable(followers)}

    def _take_back(self, gone: Sequence[Post], count: "_Counting") -> None:
        by_author: dict[UUID, list[Post]] = {}
        for post in gone:
            by_author.setdefault(post.author_id, []).append(post)
        many = [posts for posts in by_author.values() if len(posts) > _PROBED]
        few = [post for posts in by_author.values() if len(posts) <= _PROBED for post in posts]
        if few:
            places = ([post.author_id for post in few], [post.started_at for post in few])
            count.lost(sql.TAKE_BACK, (*places, [post.activity_id for post in few]))
        for posts in many:
            count.lost(sql.TAKE_BACK_MANY, ([post.activity_id for post in posts], posts[0].author_id))

    def derive(self, owners: Sequence[UUID] | None, rows: Connection, schema: str) -> None:
        """By the same rule for one viewer and for all."""
        if owners is None:
            rows.execute(statement(schema, sql.DERIVE_ALL), (KEPT,))
            rows.execute(statement(schema, sql.COUNT_ALL))
            return
        viewers = list(owners)
        for start in range(0, len(viewers), _MENDED):
            some = viewers[start : start + _MENDED]
            rows.execute(statement(schema, sql.MEND), (some, some, KEPT))
        rows.execute(statement(schema, sql.FORGET_VIEWERS), (viewers,))
        rows.execute(statement(schema, sql.COUNT), (viewers,))

    def touched(self, owners: Sequence[UUID], rows: Connection, schema: str) -> Sequence[UUID]:
        """They and their followers."""
        found = rows.execute(statement(schema, sql.FOLLOWERS), (list(owners),))
        return [*{*owners, *chain.from_iterable(found)}]


class _Counting:
    """What a page adds to and takes from the feeds of viewers."""

    def __init__(self, rows: Connection, schema: str) -> None:
        self._rows = rows
        self._schema = schema
        self._change: dict[UUID, int] = {}

    @property
    def viewers(self) -> Collection[UUID]:
        """Whose feed is another now."""
        return self._change.keys()

    def lost(self, text: LiteralString, parameters: Sequence[object]) -> None:
        for viewer, number in self._rows.execute(statement(self._schema, text), parameters):
            self._change[viewer] = self._change.get(viewer, 0) - number

    def won(self, text: LiteralString, parameters: Sequence[object]) -> None:
        for viewer, number in self._rows.execute(statement(self._schema, text), parameters):
            self._change[viewer] = self._change.get(viewer, 0) + number

    def refill(self) -> None:
        """Of those whose full feed lost something, what follows its oldest entry. Before anything is added: what is
        left is the exact top of the order then, and with as many more it stays that, whatever comes in between.
        """
        if self._change:
            lost = [-number for number in self._change.values()]
            self.won(sql.REFILL, (list(self._change), lost, KEPT))

    def settle(self) -> None:
        """Count, and take away what is too much."""
        if not self._change:
            return
        surplus, empty = [], []
        counted = self._rows.execute(
            statement(self._schema, sql.ADD_UP), (list(self._change), list(self._change.values()))
        )
        for viewer, entries in counted:
            if entries > KEPT:
                surplus.append(viewer)
            elif entries == 0:
                empty.append(viewer)
        if surplus:
            self._rows.execute(statement(self._schema, sql.TRIM), (KEPT, surplus))
        if empty:
            self._rows.execute(statement(self._schema, sql.DROP_EMPTY), (empty,))


def _shown(post: Post | None) -> bool:
    return post is not None and not post.private


def _merged(author: Author | None) -> bool:
    return author is not None and author.merged


FEED: Final = Projection(
    name="feed",
    version=1,
    folds=(Posts(), Follows(), Authors()),
    derived=Entries(),
    shards=1,  # a viewer's entries are made of the posts of others: all of them at one position
)


class FeedPage(Struct, frozen=True):
    """Activities of a feed, each with its place in it; and those authors whose runs are not written out to the viewer
    but looked up: who reads a page depends on what they do, also where it shows nothing of theirs.
    """

    entries: list[tuple[ActivityId, Place]]
    merged: list[UserId]


async def feed_page(view: View, viewer_id: UserId, before: Place, limit: int) -> FeedPage:
    """The next activities of a runner's feed after a place in it."""
    parameters = {
        "viewer": viewer_id,
        "started_at": before[0],
        "activity_id": before[1],
        "limit": limit,
    }
    found = await view.rows(_PAGE, parameters)
    entries = [
        (ActivityId(row["activity_id"]), (row["started_at"], row["activity_id"]))
        for row in found
        if row["activity_id"] is not None
    ]
    return FeedPage(entries, found[0]["merged"])


_PAGE: Final = Query(
    "feed",
    """
    WITH merged AS MATERIALIZED (
        SELECT f.author_id FROM {s}.follows f JOIN {s}.authors a ON a.author_id = f.author_id AND a.merged
        WHERE f.follower_id = %(viewer)s
    )
    SELECT page.activity_id, page.started_at, looked_up.merged
    FROM (SELECT ARRAY(SELECT author_id FROM merged ORDER BY author_id) AS merged) looked_up
    LEFT JOIN (SELECT activity_id, started_at FROM (
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
         FROM merged CROSS JOIN LATERAL (
            SELECT activity_id, started_at FROM {s}.posts
            WHERE author_id = merged.author_id AND NOT private
              AND (started_at, activity_id) < (%(started_at)s, %(activity_id)s)
            ORDER BY started_at DESC, activity_id DESC LIMIT %(limit)s) p)
    ) found ORDER BY started_at DESC, activity_id DESC LIMIT %(limit)s) page ON true
    ORDER BY page.started_at DESC, page.activity_id DESC
    """,
)
