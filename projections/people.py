"""Who runners are, and who follows whom."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from domain.events.event import Recorded
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.user import ProfileChanged, UserRegistered
from domain.measures import UserId, Visibility
from projections.projection import Fold, Key, Place, Projection, Query, Table, View


class Profile(Struct, frozen=True, kw_only=True, gc=False):
    """A runner as they want to be shown."""

    user_id: UserId
    display_name: str
    time_zone: str | None = None
    units: str = "metric"
    default_visibility: Visibility = Visibility.PUBLIC


class Profiles(Fold[Profile]):
    """Profiles by runner."""

    table = Table(name="profiles", row=Profile, key=("user_id",), owner="user_id")
    events = (UserRegistered, ProfileChanged)

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The runner's own row."""
        return ((recorded.owner_id,),)

    def fold(self, key: Key, row: Profile | None, recorded: Recorded) -> Profile | None:
        """The profile as it was set last."""
        match recorded.event:
            case UserRegistered(display_name=name):
                return Profile(user_id=key[0], display_name=name)
            case ProfileChanged() as now if row is not None:
                return Profile(
                    user_id=key[0],
                    display_name=now.display_name,
                    time_zone=now.time_zone,
                    units=now.units,
                    default_visibility=now.default_visibility,
                )
        return row


class Follow(Struct, frozen=True, kw_only=True, gc=False):
    """One runner follows another."""

    followee_id: UserId
    follower_id: UserId
    since: datetime


class Follows(Fold[Follow]):
    """Who follows whom, the way lists of followers read it."""

    table = Table(
        name="follows",
        row=Follow,
        key=("followee_id", "follower_id"),
        owner="follower_id",
        indexes=("(followee_id, since, follower_id)", "(follower_id)"),
    )
    events = (FollowStarted, FollowEnded)
    reads_private = False

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The pair."""
        match recorded.event:
            case (
                FollowStarted(follower_id=follower, followee_id=followee)
                | FollowEnded(follower_id=follower, followee_id=followee)
            ):
                return ((followee, follower),)
        return ()

    def fold(self, key: Key, row: Follow | None, recorded: Recorded) -> Follow | None:
        """There from the start of following to its end."""
        match recorded.event:
            case FollowStarted(at=at):
                return row or Follow(followee_id=key[0], follower_id=key[1], since=at)
            case FollowEnded():
                return None
        return row


class Degree(Struct, frozen=True, kw_only=True, gc=False):
    """How many follow a runner, and how many the runner follows."""

    user_id: UserId
    followers: int = 0
    following: int = 0


class Degrees(Fold[Degree]):
    """Counts by runner. They change with events of others' streams."""

    table = Table(name="degrees", row=Degree, key=("user_id",), owner="user_id")
    events = (FollowStarted, FollowEnded)
    adds = True
    foreign = True
    reads_private = False

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """Both ends."""
        match recorded.event:
            case (
                FollowStarted(follower_id=follower, followee_id=followee)
                | FollowEnded(follower_id=follower, followee_id=followee)
            ):
                return (follower,), (followee,)
        return ()

    def fold(self, key: Key, row: Degree | None, recorded: Recorded) -> Degree | None:
        """One more or one less; no row for nobody."""
        match recorded.event:
            case FollowStarted(follower_id=follower):
                step = 1
            case FollowEnded(follower_id=follower):
                step = -1
            case _:
                return row
        followers, following = (row.followers, row.following) if row is not None else (0, 0)
        if follower == key[0]:
            following += step
        else:
            followers += step
        if not followers and not following:
            return None
        return Degree(user_id=key[0], followers=followers, following=following)


PEOPLE: Final = Projection(name="people", version=1, folds=(Profiles(), Follows(), Degrees()))


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
    """Someone who follows or is followed, and since when."""

    user_id: UserId
    display_name: str
    since: datetime


async def people(view: View, user_ids: Sequence[UserId]) -> dict[UserId, Person]:
    """The profiles of these runners, in one query."""
    found = [msgspec.convert(row, Person, strict=False) for row in await view.rows(_BY_ID, (list(user_ids),))]
    return {person.user_id: person for person in found}


async def follows(view: View, follower_id: UserId, followee_id: UserId) -> bool:
    """Whether the one follows the other."""
    return bool(await view.rows(_FOLLOWS, (followee_id, follower_id)))


async def followed_among(view: View, follower_id: UserId, runners: Sequence[UserId]) -> set[UserId]:
    """Those of these runners whom the one follows, in one query."""
    return {UserId(row["followee_id"]) for row in await view.rows(_FOLLOWED_AMONG, (follower_id, list(runners)))}


async def followed_by(view: View, follower_id: UserId, before: Place, limit: int) -> list[Follower]:
    """Whom a runner follows, the latest first, from before a place in that order."""
    found = await view.rows(_FOLLOWED_BY, (follower_id, *before, limit))
    return [msgspec.convert(row, Follower, strict=False) for row in found]


async def followers_of(view: View, followee_id: UserId, before: Place, limit: int) -> list[Follower]:
    """Who follows, the latest first, from before a place in that order."""
    found = await view.rows(_FOLLOWERS, (followee_id, *before, limit))
    return [msgspec.convert(row, Follower, strict=False) for row in found]


_BY_ID: Final = Query(
    "people",
    """
    SELECT p.user_id, p.display_name, p.time_zone, p.units, p.default_visibility,
        coalesce(d.followers, 0) AS followers, coalesce(d.following, 0) AS following
    FROM {s}.profiles p LEFT JOIN {s}.degrees d USING (user_id) WHERE p.user_id = ANY(%s)
    ORDER BY p.user_id
    """,
)
_FOLLOWS: Final = Query("people", "SELECT true AS follows FROM {s}.follows WHERE followee_id = %s AND follower_id = %s")
_FOLLOWED_AMONG: Final = Query(
    "people",
    "SELECT followee_id FROM {s}.follows WHERE follower_id = %s AND followee_id = ANY(%s) ORDER BY followee_id",
)
_FOLLOWED_BY: Final = Query(
    "people",
    """
    SELECT f.followee_id AS user_id, p.display_name, f.since
    FROM {s}.follows f JOIN {s}.profiles p ON p.user_id = f.followee_id
    WHERE f.follower_id = %s AND (f.since, f.followee_id) < (%s, %s)
    ORDER BY f.since DESC, f.followee_id DESC LIMIT %s
    """,
)
_FOLLOWERS: Final = Query(
    "people",
    """
    SELECT f.follower_id AS user_id, p.display_name, f.since
    FROM {s}.follows f JOIN {s}.profiles p ON p.user_id = f.follower_id
    WHERE f.followee_id = %s AND (f.since, f.follower_id) < (%s, %s)
    ORDER BY f.since DESC, f.follower_id DESC LIMIT %s
    """,
)
