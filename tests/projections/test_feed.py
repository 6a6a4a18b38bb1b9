from datetime import timedelta
from typing import Final
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as everywhere
from hypothesis import strategies as st
from psycopg import Connection

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.event import Event
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.user import UserErased
from domain.measures import UserId, Visibility
from projections import feed, feed_statements
from projections.feed import FEED, FeedPage, feed_page
from projections.projection import BEFORE_ALL, View
from tests.scenarios import ANNA, BEN, CARA, MAY_1, MAY_2, apply, project, recorded, run

BEN_FOLLOWS_ANNA = FollowStarted(follower_id=BEN, followee_id=ANNA, at=MAY_1)
BEN_FOLLOWS_CARA = FollowStarted(follower_id=BEN, followee_id=CARA, at=MAY_1)
BEN_LEAVES_ANNA = FollowEnded(follower_id=BEN, followee_id=ANNA, at=MAY_2)
DORA = UserId(UUID("d0000000-0000-4000-8000-000000000004"))


async def seen(queries: View, viewer: UserId, limit: int = 100) -> list[UUID]:
    return [activity_id for activity_id, _ in (await feed_page(queries, viewer, BEFORE_ALL, limit)).entries]


def changed(recorded: ActivityRecorded, visibility: Visibility) -> ActivityEdited:
    return ActivityEdited(
        user_id=recorded.user_id,
        activity_id=recorded.activity_id,
        title=recorded.title,
        visibility=visibility,
        sport=recorded.tally.sport,
        tally=recorded.tally,
        at=MAY_2,
    )


def deleted(recorded: ActivityRecorded) -> ActivityDeleted:
    return ActivityDeleted(user_id=recorded.user_id, activity_id=recorded.activity_id, tally=recorded.tally, at=MAY_2)


async def test_followers_and_the_runner_see_a_run_and_nobody_else(database: Connection, queries: View) -> None:
    recorded = run(ANNA)
    project(FEED, database, BEN_FOLLOWS_ANNA, recorded)
    assert await seen(queries, BEN) == [recorded.activity_id] == await seen(queries, ANNA)
    assert await seen(queries, CARA) == []


async def test_a_new_follower_finds_earlier_runs(database: Connection, queries: View) -> None:
    recorded = run(ANNA)
    project(FEED, database, recorded, BEN_FOLLOWS_ANNA)
    assert await seen(queries, BEN) == [recorded.activity_id]


async def test_unfollowing_takes_the_runs_away_and_following_again_brings_them_back(
    database: Connection, queries: View
) -> None:
    recorded = run(ANNA)
    project(FEED, database, BEN_FOLLOWS_ANNA, recorded, BEN_LEAVES_ANNA)
    assert await seen(queries, BEN) == []
    project(FEED, database, BEN_FOLLOWS_ANNA)
    assert await seen(queries, BEN) == [recorded.activity_id]


@pytest.mark.parametrize("erased", [ANNA, BEN], ids=["author", "viewer"])
def test_of_one_who_is_erased_no_entry_is_left(erased: UserId, database: Connection) -> None:
    """Also where the end of following, which comes first in an erasure, does not take the entries away."""
    project(FEED, database, BEN_FOLLOWS_ANNA, run(ANNA))
    assert database.execute(_VIEWERS).fetchall() == [(BEN, 1, 1)]
    apply(FEED, database, [recorded(UserErased(at=MAY_2), 3, erased)])
    assert database.execute(_VIEWERS).fetchall() == []


_VIEWERS: Final = """
    SELECT viewer_id, v.entries, count(e) FROM feed_v1.viewers v FULL JOIN feed_v1.entries e USING (viewer_id)
    GROUP BY viewer_id, v.entries
"""


async def test_private_runs_are_in_nobodys_feed_until_they_are_shown(database: Connection, queries: View) -> None:
    recorded = run(ANNA, visibility=Visibility.PRIVATE)
    project(FEED, database, BEN_FOLLOWS_ANNA, recorded)
    assert await seen(queries, BEN) == [] == await seen(queries, ANNA)
    project(FEED, database, changed(recorded, Visibility.FOLLOWERS))
    assert await seen(queries, BEN) == [recorded.activity_id]
    project(FEED, database, changed(recorded, Visibility.PRIVATE))
    assert await seen(queries, BEN) == []


async def test_a_deleted_run_leaves_every_feed(database: Connection, queries: View) -> None:
    recorded = run(ANNA)
    project(FEED, database, BEN_FOLLOWS_ANNA, recorded, deleted(recorded))
    assert await seen(queries, BEN) == [] == await seen(queries, ANNA)


async def test_the_latest_start_comes_first_whatever_came_in_first(database: Connection, queries: View) -> None:
    late, early = run(ANNA, at=MAY_2), run(ANNA, at=MAY_1)
    own = run(BEN, at=MAY_1 + timedelta(hours=1))
    project(FEED, database, BEN_FOLLOWS_ANNA, late, early, own)
    assert await seen(queries, BEN) == [late.activity_id, own.activity_id, early.activity_id]


@pytest.mark.parametrize("written_out", [10_000, 0], ids=["written out", "looked up"])
@pytest.mark.parametrize("viewer", [ANNA, BEN], ids=["runner", "follower"])
async def test_pages_go_on_where_the_last_one_ended(
    database: Connection, queries: View, monkeypatch: pytest.MonkeyPatch, viewer: UserId, written_out: int
) -> None:
    monkeypatch.setattr(feed, "WRITTEN_OUT", written_out)
    runs = [run(ANNA, at=MAY_1 + timedelta(minutes=n // 2)) for n in range(7)]
    project(FEED, database, BEN_FOLLOWS_ANNA, *runs)
    found: list[UUID] = []
    place = BEFORE_ALL
    while (page := (await feed_page(queries, viewer, place, 3)).entries) and len(found) < len(runs):
        found += [activity_id for activity_id, _ in page]
        place = page[-1][1]
    assert (sorted(found), page) == (sorted(recorded.activity_id for recorded in runs), [])


async def test_runs_of_an_author_with_many_followers_are_merged_in_when_read(
    database: Connection, queries: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WRITTEN_OUT", 1)
    before, after = run(ANNA, at=MAY_1), run(ANNA, at=MAY_2)
    cara = FollowStarted(follower_id=CARA, followee_id=ANNA, at=MAY_1)
    cara_leaves = FollowEnded(follower_id=CARA, followee_id=ANNA, at=MAY_2)
    project(FEED, database, BEN_FOLLOWS_ANNA, before, cara, after, run(ANNA, visibility=Visibility.PRIVATE))
    for viewer in (BEN, CARA):
        assert await seen(queries, viewer) == [after.activity_id, before.activity_id]
    project(FEED, database, BEN_LEAVES_ANNA, cara_leaves, BEN_FOLLOWS_ANNA)  # though there are few now
    assert await seen(queries, BEN) == [after.activity_id, before.activity_id]
    assert database.execute("SELECT count(*) FROM feed_v1.entries").fetchone() == (0,)


async def test_whose_pages_depend_on_an_author_is_told_once_that_author_is_looked_up(
    database: Connection, queries: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the author has no run yet: a page that was kept before would not be told of the first one."""
    monkeypatch.setattr(feed, "WRITTEN_OUT", 1)
    project(FEED, database, BEN_FOLLOWS_ANNA)
    assert await feed_page(queries, BEN, BEFORE_ALL, 9) == FeedPage([], [])
    cara = FollowStarted(follower_id=CARA, followee_id=ANNA, at=MAY_1)
    assert apply(FEED, database, [recorded(cara, 2)]) == {ANNA, BEN, CARA}
    assert await feed_page(queries, BEN, BEFORE_ALL, 9) == FeedPage([], [ANNA])


async def test_a_feed_keeps_the_latest_starts(
    database: Connection, queries: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "KEPT", 3)
    runs = [run(ANNA, at=MAY_1 + timedelta(hours=n)) for n in (4, 0, 3, 1, 2)]
    project(FEED, database, BEN_FOLLOWS_ANNA, *runs, page=2)
    assert await seen(queries, BEN) == [runs[0].activity_id, runs[2].activity_id, runs[4].activity_id]


async def test_a_full_feed_that_loses_runs_is_filled_from_below_and_not_made_anew(
    database: Connection, queries: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "KEPT", 3)
    monkeypatch.setattr(feed.Entries, "derive", None)
    annas = [run(ANNA, at=MAY_1 + timedelta(hours=n)) for n in range(5)]
    caras = [run(CARA, at=MAY_1 + timedelta(hours=n, minutes=30)) for n in range(2)]
    project(FEED, database, BEN_FOLLOWS_ANNA, BEN_FOLLOWS_CARA, *annas, *caras)
    late = run(ANNA, at=MAY_1 - timedelta(hours=1))
    project(FEED, database, deleted(annas[4]), changed(annas[2], Visibility.PRIVATE), late)
    assert await seen(queries, BEN) == [annas[3].activity_id, caras[1].activity_id, annas[1].activity_id]
    project(FEED, database, BEN_LEAVES_ANNA)
    assert await seen(queries, BEN) == [caras[1].activity_id, caras[0].activity_id]


def test_runs_that_are_in_no_feed_are_not_looked_for_there(
    database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of followers and hundreds of runs: a lookup for each of both would take minutes."""
    monkeypatch.setattr(feed, "WRITTEN_OUT", 1)
    runs = [run(ANNA) for _ in range(3)]
    cara = FollowStarted(follower_id=CARA, followee_id=ANNA, at=MAY_1)
    project(FEED, database, BEN_FOLLOWS_ANNA, cara, *runs)
    for text in ("TAKE_BACK", "TAKE_BACK_MANY", "CLEAR"):
        monkeypatch.setattr(feed_statements, text, "SELECT 1 / 0")
    apply(FEED, database, [recorded(deleted(runs[0]), 10)])
    apply(FEED, database, [recorded(BEN_LEAVES_ANNA, 11), recorded(UserErased(at=MAY_2), 12, ANNA)])
    assert database.execute("SELECT count(*) FROM feed_v1.posts").fetchone() == (0,)


def test_a_feed_that_is_made_anew_loses_what_it_is_not_to_have_and_is_counted(database: Connection) -> None:
    hidden, shown = run(ANNA, at=MAY_1), run(ANNA, at=MAY_2)
    project(FEED, database, BEN_FOLLOWS_ANNA, hidden, shown)
    database.execute("UPDATE feed_v1.posts SET private = true WHERE activity_id = %s", (hidden.activity_id,))
    feed.Entries().derive([BEN], database, "feed_v1")
    assert database.execute("SELECT activity_id FROM feed_v1.entries").fetchall() == [(shown.activity_id,)]
    assert database.execute(_VIEWERS).fetchall() == [(BEN, 1, 1)]


@everywhere(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_of_any_size_give_the_same_tables(database: Connection, data: st.DataObject) -> None:
    events = data.draw(histories())
    found = []
    for size in (1, data.draw(st.integers(2, 6)), 1_000):
        forget(database)
        project(FEED, database, *events, page=size)
        found.append(held(database, "posts", "authors", "entries", "viewers"))
    assert found[0] == found[1] == found[2]


@everywhere(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entries_are_as_if_made_anew(database: Connection, data: st.DataObject) -> None:
    """With feeds that are soon full, authors whom soon many follow, and both ways in which runs are taken back."""
    forget(database)
    limits = {"KEPT": st.integers(1, 4), "WRITTEN_OUT": st.integers(1, 3), "_PROBED": st.integers(0, 2)}
    with pytest.MonkeyPatch.context() as patched:
        for name, limit in limits.items():
            patched.setattr(feed, name, data.draw(limit, name))
        project(FEED, database, *data.draw(histories(most=60)), page=data.draw(st.integers(1, 9)))
        live = held(database, "entries", "viewers")
        forget(database, "entries", "viewers")
        feed.Entries().derive(None, database, "feed_v1")
    assert live == held(database, "entries", "viewers")


def forget(database: Connection, *tables: str) -> None:
    for table in tables or ("posts", "follows", "authors", "entries", "viewers"):
        database.execute(f"TRUNCATE feed_v1.{table}")


def held(database: Connection, *tables: str) -> list[object]:
    return [
        database.execute(f"SELECT * FROM feed_v1.{table} ORDER BY 1, 2, 3").fetchall()  # noqa: S608 - as above
        if table != "viewers"
        else database.execute("SELECT * FROM feed_v1.viewers ORDER BY 1").fetchall()
        for table in tables
    ]


@st.composite
def histories(draw: st.DrawFn, most: int = 25) -> list[Event]:
    """What can happen among four runners, in an order that the rules allow."""
    events: list[Event] = []
    following: set[tuple[UserId, UserId]] = set()
    runs: list[ActivityRecorded] = []
    for number in range(draw(st.integers(1, most))):
        match draw(st.sampled_from(["run", "run", "run", "follow", "edit", "delete", "erase"])):
            case "run":
                at = MAY_1 + timedelta(hours=draw(st.integers(0, 5)))
                author = draw(st.sampled_from([ANNA, BEN, CARA]))
                shown = draw(st.sampled_from(Visibility))
                runs.append(run(author, at=at, activity_id=UUID(int=number), visibility=shown))
                events.append(runs[-1])
            case "follow":
                pair = draw(st.sampled_from([(BEN, ANNA), (CARA, ANNA), (DORA, ANNA), (ANNA, BEN), (BEN, CARA)]))
                kind = FollowEnded if pair in following else FollowStarted
                following ^= {pair}
                events.append(kind(follower_id=pair[0], followee_id=pair[1], at=MAY_1))
            case "edit" if runs:
                events.append(changed(draw(st.sampled_from(runs)), draw(st.sampled_from(Visibility))))
            case "delete" if runs:
                events.append(deleted(runs.pop(draw(st.integers(0, len(runs) - 1)))))
            case "erase" if draw(st.integers(0, 3)) == 0:  # follows end first; Anna, whose events these are
                ending = [pair for pair in sorted(following) if ANNA in pair]
                following -= {*ending}
                events += [FollowEnded(follower_id=pair[0], followee_id=pair[1], at=MAY_2) for pair in ending]
                events.append(UserErased(at=MAY_2))
                runs = [one for one in runs if one.user_id != ANNA]
    return events
