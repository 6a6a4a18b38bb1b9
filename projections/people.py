"""Who runners are, and who follows whom. It takes pages itself: one follow touches two runners and an edge."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar, LiteralString

import msgspec
from msgspec import Struct
from psycopg import AsyncConnection, Connection
from psycopg.rows import dict_row

from domain.events.event import Recorded
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.user import ProfileChanged, UserRegistered
from domain.measures import UserId, Visibility
from projections.projection import Place, statement


class Person(Struct, frozen=True, kw_only=True):
    """A runner's profile, with how many follow and are followed."""

    user_id: UserId
    display_name: str
    time_zone: str | None
    units: str
    default_visibility: Visibility
    followers: int
    following: int


class Follower(Struct, frozen=True, kw_only=True):
    """Someone who follows, and since when."""

    user_id: UserId
    display_name: str
    since: datetime


class People:
    """Profiles and follow edges."""

    name: ClassVar[str] = "people"
    version: ClassVar[int] = 1

    def tables(self) -> Iterable[LiteralString]:
        """Profiles by user; edges by followee, the way lists of followers read them, and by follower."""
        yield """
            CREATE TABLE IF NOT EXISTS {s}.profiles (
                user_id uuid PRIMARY KEY, display_name text NOT NULL, time_zone text, units text NOT NULL,
                default_visibility text NOT NULL, followers integer NOT NULL, following integer NOT NULL)
        """
        yield """
            CREATE TABLE IF NOT EXISTS {s}.follows (
                followee_id uuid, follower_id uuid, since timestamptz NOT NULL, PRIMARY KEY (followee_id, follower_id))
        """
        yield "CREATE INDEX IF NOT EXISTS follows_in_order ON {s}.follows (followee_id, since, follower_id)"

    def apply(self, page: Sequence[Recorded], rows: Connection) -> None:
        """Event by event: accounts and follows are rare beside runs."""
        for recorded in page:
            match recorded.event:
                case UserRegistered(display_name=name):
                    rows.execute(_REGISTER, (recorded.owner_id, name))
                case ProfileChanged() as now:
                    profile = (now.display_name, now.time_zone, now.units, str(now.default_visibility))
                    rows.execute(_CHANGE, (*profile, recorded.owner_id))
                case FollowStarted(follower_id=follower, followee_id=followee, at=at):
                    rows.execute(_FOLLOW, (followee, follower, at))
                    rows.execute(_COUNT, (followee, 1, follower, 1, followee, follower))
                case FollowEnded(follower_id=follower, followee_id=followee):
                    rows.execute(_UNFOLLOW, (followee, follower))
                    rows.execute(_COUNT, (followee, -1, follower, -1, followee, follower))


async def people(connection: AsyncConnection, user_ids: Sequence[UserId]) -> dict[UserId, Person]:
    """The profiles of these runners, in one query."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_BY_ID, (list(user_ids),))
        found = [msgspec.convert(row, Person, strict=False) async for row in cursor]
    return {person.user_id: person for person in found}


async def follows(connection: AsyncConnection, follower_id: UserId, followee_id: UserId) -> bool:
    """Whether the one follows the other."""
    found = await connection.execute(_FOLLOWS, (followee_id, follower_id))
    return await found.fetchone() is not None


async def followers_of(connection: AsyncConnection, followee_id: UserId, before: Place, limit: int) -> list[Follower]:
    """Who follows, the latest first, from before a place in that order."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FOLLOWERS, (followee_id, *before, limit))
        return [msgspec.convert(row, Follower, strict=False) async for row in cursor]


_REGISTER = statement(
    People,
    """
    INSERT INTO {s}.profiles (user_id, display_name, units, default_visibility, followers, following)
    VALUES (%s, %s, 'metric', 'public', 0, 0)
    """,
)
_CHANGE = statement(
    People,
    """
    UPDATE {s}.profiles SET display_name = %s, time_zone = %s, units = %s, default_visibility = %s
    WHERE user_id = %s
    """,
)
_FOLLOW = statement(People, "INSERT INTO {s}.follows (followee_id, follower_id, since) VALUES (%s, %s, %s)")
_UNFOLLOW = statement(People, "DELETE FROM {s}.follows WHERE followee_id = %s AND follower_id = %s")
_COUNT = statement(
    People,
    """
    UPDATE {s}.profiles SET
        followers = followers + CASE user_id WHEN %s::uuid THEN %s ELSE 0 END,
        following = following + CASE user_id WHEN %s::uuid THEN %s ELSE 0 END
    WHERE user_id IN (%s, %s)
    """,
)
_BY_ID = statement(
    People,
    """
    SELECT user_id, display_name, time_zone, units, default_visibility, followers, following
    FROM {s}.profiles WHERE user_id = ANY(%s)
    """,
)
_FOLLOWS = statement(People, "SELECT 1 FROM {s}.follows WHERE followee_id = %s AND follower_id = %s")
_FOLLOWERS = statement(
    People,
    """
    SELECT f.follower_id AS user_id, p.display_name, f.since
    FROM {s}.follows f JOIN {s}.profiles p ON p.user_id = f.follower_id
    WHERE f.followee_id = %s AND (f.since, f.follower_id) < (%s, %s)
    ORDER BY f.since DESC, f.follower_id DESC LIMIT %s
    """,
)
