from psycopg import Connection

from domain.events.event import Event
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.user import ProfileChanged, UserRegistered
from domain.measures import UserId, Visibility
from projections.people import PEOPLE, followers_of, follows, people
from projections.projection import BEFORE_ALL, View
from tests.scenarios import ANNA, BEN, CARA, MAY_1, MAY_2, apply, project, recorded


def everyone(rows: Connection, *events: Event) -> None:
    for user_id, name in ((ANNA, "Anna"), (BEN, "Ben"), (CARA, "Cara")):
        project_as(user_id, rows, UserRegistered(display_name=name, at=MAY_1))
    project(PEOPLE, rows, *events)


def project_as(user_id: UserId, rows: Connection, event: Event) -> None:
    apply(PEOPLE, rows, [recorded(event, 1, user_id)])


async def test_a_follow_counts_on_both_sides_and_an_end_takes_it_back(database: Connection, queries: View) -> None:
    everyone(database, FollowStarted(follower_id=BEN, followee_id=ANNA, at=MAY_1))
    found = await people(queries, [ANNA, BEN])
    assert (found[ANNA].followers, found[ANNA].following, found[BEN].followers, found[BEN].following) == (1, 0, 0, 1)
    assert await follows(queries, BEN, ANNA)
    assert not await follows(queries, ANNA, BEN)
    project(PEOPLE, database, FollowEnded(follower_id=BEN, followee_id=ANNA, at=MAY_2))
    found = await people(queries, [ANNA, BEN])
    assert (found[ANNA].followers, found[BEN].following) == (0, 0)
    assert not await follows(queries, BEN, ANNA)


async def test_followers_are_listed_the_latest_first(database: Connection, queries: View) -> None:
    everyone(
        database,
        FollowStarted(follower_id=BEN, followee_id=ANNA, at=MAY_1),
        FollowStarted(follower_id=CARA, followee_id=ANNA, at=MAY_2),
    )
    [latest] = await followers_of(queries, ANNA, BEFORE_ALL, 1)
    assert latest.display_name == "Cara"
    [earlier] = await followers_of(queries, ANNA, (latest.since, latest.user_id), 5)
    assert earlier.display_name == "Ben"


async def test_a_profile_is_as_it_was_changed_last(database: Connection, queries: View) -> None:
    everyone(database)
    changed = ProfileChanged(
        display_name="Anna B.", time_zone="Asia/Tokyo", default_visibility=Visibility.FOLLOWERS, at=MAY_2
    )
    project_as(ANNA, database, changed)
    anna = (await people(queries, [ANNA]))[ANNA]
    assert (anna.display_name, anna.time_zone, anna.default_visibility) == ("Anna B.", "Asia/Tokyo", "followers")
