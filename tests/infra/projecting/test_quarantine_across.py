"""Quarantine where a row hangs on the streams of others: counts of followers, and the feeds that are made of runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import pytest

from domain.events.activity import ActivityRecorded
from domain.events.event import Recorded
from domain.events.follow import FollowEnded, FollowStarted
from domain.follow import follow_id
from domain.measures import Sport, Visibility
from infra.projecting.healing import Healer, healing
from infra.projecting.holding import alone
from projections import people
from projections.feed import Author, Authors, Entries, Follows, Post, Posts
from projections.people import Degree, Degrees, Profiles
from projections.projection import Fold, Key, Projection
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import MASTER, Made, append
from tests.infra.projecting.live import Worker
from tests.infra.projecting.test_lifecycle import following
from tests.infra.projecting.test_quarantine import edited, healed
from tests.scenarios import ANNA, BEN, CARA, MAY_1, MAY_2, run


class PoisonedDegrees(Degrees):
    """Fails at whoever is followed."""

    def fold(self, key: Key, row: Degree | None, recorded: Recorded) -> Degree | None:
        if isinstance(recorded.event, FollowStarted) and key == (recorded.event.followee_id,):
            raise ZeroDivisionError
        return super().fold(key, row, recorded)


class PoisonedAuthors(Authors):
    """The same in the feed."""

    def fold(self, key: Key, row: Author | None, recorded: Recorded) -> Author | None:
        if isinstance(recorded.event, FollowStarted):
            raise ZeroDivisionError
        return super().fold(key, row, recorded)


class PoisonedPosts(Posts):
    """Fails at every run."""

    def fold(self, key: Key, row: Post | None, recorded: Recorded) -> Post | None:
        if isinstance(recorded.event, ActivityRecorded):
            raise ZeroDivisionError
        return super().fold(key, row, recorded)


WRONG_PEOPLE: Final = Projection(name="people", version=1, folds=(Profiles(), people.Follows(), PoisonedDegrees()))
STATE: Final = "SELECT state FROM stored_events WHERE originator_id = %s"
MEND: Final = "UPDATE stored_events SET state = %s WHERE originator_id = %s"


def wrong_feed(*folds: Fold[Any]) -> Projection:
    return Projection(name="feed", version=1, folds=folds, derived=Entries(), shards=1)


@pytest.mark.parametrize(
    ("wrong", "counts", "folded"),
    [
        (WRONG_PEOPLE, "SELECT user_id, followers, following FROM people_v1.degrees", [(ANNA, 0, 1)]),
        (wrong_feed(Posts(), Follows(), PoisonedAuthors()), "SELECT author_id, followers FROM feed_v1.authors", []),
    ],
    ids=["people", "feed"],
)
def test_a_follow_that_is_left_out_and_ends_makes_nobody_fewer(
    wrong: Projection, counts: LiteralString, folded: list[Any], operator: Operator
) -> None:
    started = FollowStarted(follower_id=ANNA, followee_id=BEN, at=MAY_1)
    stream = follow_id(ANNA, BEN)
    with (
        Worker(operator.url, [wrong]) as worker,
        healing(operator.url, operator.registry, MASTER) as healer,
    ):
        append(operator.connection, [Made(ANNA, stream, 1, started)])
        worker.catch_up()
        assert operator.connection.execute(counts).fetchall() == folded
        (found,) = healer.quarantined(wrong.name)
        operator.registry._defined[wrong.name, 1] = wrong
        healer.skip(wrong.name, found.position, "the last resort")
        assert operator.connection.execute(counts).fetchall() == []  # at its other end too
        append(operator.connection, [Made(ANNA, stream, 2, FollowEnded(follower_id=ANNA, followee_id=BEN, at=MAY_2))])
        worker.catch_up()
        assert operator.connection.execute(counts).fetchall() == []


def test_what_a_heal_reads_last_reaches_what_is_derived(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(ANNA)
    hidden = edited(one, Visibility.PRIVATE, Sport.RUNNING)
    feeds = "SELECT viewer_id, activity_id FROM feed_v1.entries"
    derive, between = Healer._derive, []

    def derive_and_edit(*arguments: Any) -> None:
        derive(*arguments)
        between.append(operator.connection.execute(feeds).fetchall())
        append(operator.connection, [Made(ANNA, one.activity_id, 2, hidden)])

    with Worker(operator.url, [wrong_feed(PoisonedPosts(), Follows(), Authors())]) as worker:
        follow = FollowStarted(follower_id=BEN, followee_id=ANNA, at=MAY_1)
        append(operator.connection, [Made(BEN, follow_id(BEN, ANNA), 1, follow), Made(ANNA, one.activity_id, 1, one)])
        worker.catch_up()
    monkeypatch.setattr(Healer, "_derive", derive_and_edit)
    with following(operator.url):
        assert [told.still_quarantined for told in healed(operator, "feed")] == [0]
    assert between == [[(BEN, one.activity_id)]]
    assert operator.connection.execute(feeds).fetchall() == []


def test_who_begins_to_follow_while_a_heal_begins_is_shown_what_it_heals(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run(ANNA)
    with Worker(operator.url, [wrong_feed(PoisonedPosts(), Follows(), Authors())]) as worker:
        append(operator.connection, [Made(ANNA, one.activity_id, 1, one)])
        worker.catch_up()

    @contextmanager
    def followed_then_alone(*arguments: Any) -> Iterator[None]:
        follow = FollowStarted(follower_id=BEN, followee_id=ANNA, at=MAY_1)
        end = append(operator.connection, [Made(BEN, follow_id(BEN, ANNA), 1, follow)])
        while operator.positions("feed_v1") != {end}:
            time.sleep(0.01)
        with alone(*arguments):
            yield

    monkeypatch.setattr("infra.projecting.healing.alone", followed_then_alone)
    with following(operator.url):
        assert [told.still_quarantined for told in healed(operator, "feed")] == [0]
    shown = operator.connection.execute("SELECT viewer_id, activity_id FROM feed_v1.entries").fetchall()
    assert shown == [(BEN, one.activity_id)]


def test_healing_keeps_what_hangs_on_a_stream_of_another_that_cannot_be_read_any_more(operator: Operator) -> None:
    ben = follow_id(BEN, ANNA)
    starts = [
        Made(one, follow_id(one, ANNA), 1, FollowStarted(follower_id=one, followee_id=ANNA, at=MAY_1))
        for one in (BEN, CARA)
    ]
    counts: LiteralString = "SELECT user_id, followers FROM people_v1.degrees WHERE followers > 0"
    with Worker(operator.url) as worker:
        append(operator.connection, starts[:1])
        worker.catch_up()
    with Worker(operator.url, [WRONG_PEOPLE]) as worker:
        append(operator.connection, starts[1:])
        worker.catch_up()
    assert operator.connection.execute(counts).fetchall() == [(ANNA, 1)]
    (state,) = operator.connection.execute(STATE, (ben,)).fetchone() or (b"",)
    operator.connection.execute(MEND, (state[:3], ben))
    with following(operator.url):
        (told,) = healed(operator, "people")
        assert told.still_quarantined == 1
        assert operator.connection.execute(counts).fetchall() == [(ANNA, 1)]
        operator.connection.execute(MEND, (state, ben))
        assert {one.still_quarantined for one in healed(operator)} == {0}
    assert operator.connection.execute(counts).fetchall() == [(ANNA, 2)]
