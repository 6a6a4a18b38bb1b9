"""A fold that fails stops its key and nothing else; after the fix the key is as if it had never failed."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from msgspec.structs import replace

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.event import Recorded
from domain.events.user import UserErased, UserRegistered
from domain.measures import Sport, Visibility
from domain.user import user_stream_id
from infra.faults import Fault
from infra.projecting import quarantine
from infra.projecting.auditing import audit
from infra.projecting.folding import Folder, erased
from infra.projecting.healing import healing
from infra.projecting.status import standings
from projections import PROJECTIONS
from projections.activities import ACTIVITIES
from projections.feed import FEED
from projections.people import PEOPLE
from projections.projection import Key, Projection
from projections.summaries import SUMMARIES, Day, Days
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import MASTER, History, Made, append
from tests.infra.projecting.live import Worker
from tests.infra.projecting.test_lifecycle import following
from tests.scenarios import ANNA, MAY_1, MAY_2, apply, recorded, run


class Poisoned(Days):
    """Fails at some activities, as a division by a distance of zero would."""

    def __init__(self, poison: frozenset[UUID]) -> None:
        self._poison: Final = poison

    def fold(self, key: Key, row: Day | None, recorded: Recorded) -> Day | None:
        if isinstance(recorded.event, ActivityRecorded) and recorded.event.activity_id in self._poison:
            raise ZeroDivisionError
        return super().fold(key, row, recorded)


def poisoned(log: list[Made], count: int) -> tuple[list[Projection], frozenset[UUID]]:
    """The projections, with one that fails at the first runs of the log."""
    poison = frozenset([made.stream_id for made in log if isinstance(made.event, ActivityRecorded)][:count])
    wrong = Projection(name="summaries", version=1, folds=(Poisoned(poison),))
    return [wrong, *(one for one in PROJECTIONS if one is not SUMMARIES)], poison


def healed(operator: Operator, name: str | None = None) -> list[Any]:
    with healing(operator.url, operator.registry, MASTER) as healer:
        return healer.heal(name)


def test_all_other_keys_go_on_and_healing_gives_what_a_fault_free_run_gives(operator: Operator) -> None:
    log = History(11).take(300)
    projections, poison = poisoned(log, 3)
    with Worker(operator.url, projections, page=17) as worker:
        end = append(operator.connection, log)
        worker.catch_up()
        assert operator.positions("summaries_v1") == {end}  # it goes on past what it cannot fold
        with healing(operator.url, operator.registry, MASTER) as healer:
            found = healer.quarantined("summaries")
        assert {one.stream_id for one in found} == poison
        assert {(one.table_name, one.topic, one.reason) for one in found} == {
            ("days", "activity.recorded@2", "ZeroDivisionError")
        }
        assert [standing.quarantined for standing in standings(operator.connection, operator.registry)] == [
            0, 0, 0, 0, 0, len(found)
        ]  # fmt: skip
        wrong = operator.digests("summaries_v1")

    with Worker(operator.url) as fixed:
        append(operator.connection, History(12).take(40))
        fixed.catch_up()  # what came to the keys meanwhile is held back, though the code is right now
        assert [(one.build, one.still_quarantined) for one in healed(operator)] == [("summaries v1", 0)]
        fixed.catch_up()
    assert healed(operator) == []
    right = operator.digests("summaries_v1")
    assert right != wrong
    (fault_free,) = operator.rebuild("summaries")
    assert operator.digests(fault_free.schema_name) == right


def test_the_row_stays_as_it_was_and_later_events_of_its_key_wait_in_order(operator: Operator) -> None:
    first, second, third, fourth = (run(ANNA, metres) for metres in (1_000, 2_000, 4_000, 8_000))
    deleted = ActivityDeleted(user_id=ANNA, activity_id=first.activity_id, tally=first.tally, at=MAY_2)
    log = [Made(ANNA, event.activity_id, 1, event) for event in (first, second, third)]
    log.append(Made(ANNA, first.activity_id, 2, deleted))
    sums = "SELECT count, distance_m FROM summaries_v1.days"
    projections, _ = poisoned(log[1:], 1)
    with Worker(operator.url, projections, page=1) as worker:
        append(operator.connection, log)
        worker.catch_up()
        assert operator.connection.execute(sums).fetchall() == [(1, 1_000.0)]
        with healing(operator.url, operator.registry, MASTER) as healer:
            (found,) = healer.quarantined("summaries")
        assert (found.stream_id, found.version, found.held) == (second.activity_id, 1, 2)
        healed(operator)
        assert operator.connection.execute(sums).fetchall() == [(2, 6_000.0)]
        append(operator.connection, [Made(ANNA, fourth.activity_id, 1, fourth)])
        worker.turn(renew=False)  # it has lost its shards, or it would hold this one back too
        worker.catch_up()
    assert operator.connection.execute(sums).fetchall() == [(3, 14_000.0)]


def test_whose_key_is_quarantined_is_told_like_whose_rows_changed(operator: Operator) -> None:
    """Cursors of `/changes` from before are refused from then on, so no answer from before may stay."""
    one = run(ANNA)
    projections, _ = poisoned([Made(ANNA, one.activity_id, 1, one)], 1)
    assert apply(projections[0], operator.connection, [recorded(one, 1)]) == {ANNA}


@pytest.mark.parametrize("later", [run(ANNA, 2_000), run(ANNA, 2_000, at=MAY_2)], ids=["its key", "another key"])
def test_what_comes_in_while_a_heal_takes_its_time_is_not_lost(
    later: ActivityRecorded, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.projecting.holding._HOLD_SECONDS", 0.1)
    first = run(ANNA, 1_000)
    log = [Made(ANNA, first.activity_id, 1, first)]
    projections, _ = poisoned(log, 1)
    with Worker(operator.url, projections) as worker:
        append(operator.connection, log)
        worker.catch_up()
    with following(operator.url), psycopg.connect(operator.url) as slow, ThreadPoolExecutor(1) as beside:
        _until(lambda: not operator.connection.execute(_FREE).fetchall())
        slow.execute("LOCK TABLE refolded_owners IN SHARE MODE")
        heal = beside.submit(healed, operator, "summaries")
        _until(lambda: ("refolded_owners",) in operator.connection.execute(_WAITED_FOR).fetchall())
        end = append(operator.connection, [Made(ANNA, later.activity_id, 1, later)])
        _until(
            lambda: (
                (None,) in operator.connection.execute(_WAITED_FOR).fetchall()  # the worker, for the shards
                or operator.positions("summaries_v1") == {end}
            )
        )
        slow.rollback()
        assert [one.still_quarantined for one in heal.result()] == [0]
        _until(lambda: operator.positions("summaries_v1") == {end})
    (fault_free,) = operator.rebuild("summaries")
    assert operator.digests("summaries_v1") == operator.digests(fault_free.schema_name)


_FREE: Final = "SELECT FROM projection_shards WHERE holder IS NULL"
_WAITED_FOR: Final = "SELECT relation::regclass::text FROM pg_locks WHERE NOT granted"


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_fails_again_stays_in_quarantine_and_is_told(operator: Operator) -> None:
    log = History(11).take(100)
    projections, _ = poisoned(log, 1)
    with Worker(operator.url, projections) as worker:
        append(operator.connection, log)
        worker.catch_up()
    operator.registry._defined["summaries", 1] = projections[0]
    assert [one.still_quarantined for one in healed(operator, "summaries")] == [1]
    with healing(operator.url, operator.registry, MASTER) as healer:
        assert len(healer.quarantined("summaries")) == 1


def test_too_many_wrong_keys_stop_the_build_loudly_and_the_others_go_on(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(quarantine, "MOST", 5)
    log = History(11).take(200)
    projections, _ = poisoned(log, 12)
    with Worker(operator.url, projections, page=10) as worker:
        end = append(operator.connection, log)
        worker.catch_up()
    assert operator.positions("summaries_v1") != {end}
    assert operator.positions("activities_v4") == {end} == operator.positions("feed_v1")
    (standing,) = [one for one in standings(operator.connection, operator.registry) if one.build == "summaries v1"]
    assert standing.trouble.startswith("STOPPED: 6 keys are quarantined, which is more than 5")
    assert any(record.levelname == "CRITICAL" for record in caplog.records)
    with Worker(operator.url) as fixed:
        fixed.catch_up()
        assert operator.positions("summaries_v1") != {end}  # it waits for an operator
        operator.lifecycle.pause("summaries", paused=False)
        fixed.catch_up()
    assert operator.positions("summaries_v1") == {end}
    healed(operator)
    (fault_free,) = operator.rebuild("summaries")
    assert operator.digests(fault_free.schema_name) == operator.digests("summaries_v1")


def test_what_fails_in_a_page_that_another_build_cannot_take_is_quarantined(operator: Operator) -> None:
    """At first all builds take the page together, and nothing of that is kept."""
    log = History(11).take(100)
    projections, poison = poisoned(log, 1)
    operator.connection.execute("ALTER TABLE activities_v4.cards DROP COLUMN title")
    append(operator.connection, log)
    with (
        Worker(operator.url, projections) as worker,
        healing(operator.url, operator.registry, MASTER) as healer,
    ):
        shards = worker.tables.renew()
        page, ceiling = worker.tables.page(shards, 0, 100)
        worker.tables.apply(shards[::-1], page, ceiling)  # the summaries before the activities
        assert {one.stream_id for one in healer.quarantined()} == poison


def test_a_row_that_the_server_refuses_is_quarantined_alone(operator: Operator, worker: Worker) -> None:
    """Postgres has no text with a zero character: JSON and our events do."""
    log = History(14).take(60)
    touched = Counter(made.stream_id for made in log)
    poison = next(made for made in log if isinstance(made.event, ActivityRecorded) and touched[made.stream_id] == 1)
    event = poison.event
    assert isinstance(event, ActivityRecorded)
    title = "run\0away"
    log[log.index(poison)] = Made(
        poison.owner_id, poison.stream_id, poison.version, type(event)(**{**_fields(event), "title": title})
    )
    end = append(operator.connection, log)
    worker.catch_up()
    assert operator.positions("activities_v4") == {end}
    with healing(operator.url, operator.registry, MASTER) as healer:
        (found,) = healer.quarantined()
    assert (found.stream_id, found.table_name) == (poison.stream_id, "cards")
    assert found.reason.startswith("CharacterNotInRepertoire")
    (rebuilt,) = operator.rebuild("activities")  # which leaves out the same
    assert operator.digests(rebuilt.schema_name) == operator.digests("activities_v4")
    with healing(operator.url, operator.registry, MASTER) as healer:
        one, other = healer.quarantined("activities")
    assert (one.key, one.position, one.reason[:24]) == (other.key, other.position, other.reason[:24])


def _fields(event: ActivityRecorded) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_an_operator_can_have_an_event_left_out_and_take_that_back(operator: Operator) -> None:
    log = History(11).take(100)
    projections, poison = poisoned(log, 1)
    with (
        Worker(operator.url, projections) as worker,
        healing(operator.url, operator.registry, MASTER) as healer,
    ):
        append(operator.connection, log)
        worker.catch_up()
        (found,) = healer.quarantined()
        assert found.stream_id in poison
        for sound in (found.position - 1, 10**9):
            with pytest.raises(Fault, match="no key of summaries is quarantined at"):
                healer.skip("summaries", sound, "a mistake")
        operator.registry._defined["summaries", 1] = projections[0]  # which still fails at it
        assert [one.still_quarantined for one in healer.skip("summaries", found.position, "of a car")] == [0]
        assert [(one.name, one.position, one.reason) for one in healer.skipped()] == [
            ("summaries", found.position, "of a car")
        ]
        again = healer.skip("summaries", found.position, "as before")
        assert [one.still_quarantined for one in again] == [0]
        worker.catch_up()
        operator.registry._defined["summaries", 1] = SUMMARIES
        (without,) = operator.rebuild("summaries")
        assert operator.digests(without.schema_name) == operator.digests("summaries_v1")

        operator.registry._defined["summaries", 1] = projections[0]
        assert [one.still_quarantined for one in healer.take_back("summaries", found.position)] == [1, 1]
        assert healer.skipped() == []
        with pytest.raises(Fault, match="summaries does not leave out"):
            healer.take_back("summaries", found.position)
        operator.registry._defined["summaries", 1] = SUMMARIES
        assert [one.still_quarantined for one in healer.heal()] == [0, 0]
        assert operator.digests("summaries_v1") == operator.digests(without.schema_name)


def edited(one: ActivityRecorded, visibility: Visibility, sport: Sport) -> ActivityEdited:
    """As its runner would have it a day later."""
    return ActivityEdited(
        user_id=one.user_id,
        activity_id=one.activity_id,
        title="",
        notes="",
        visibility=visibility,
        sport=sport,
        tally=one.tally,
        at=MAY_2,
    )


def test_what_a_left_out_run_says_later_is_left_out_too(operator: Operator) -> None:
    """Else its deletion would take away what was never added: the other run of that day."""
    good, bad = run(ANNA, 5_000), run(ANNA, 666)
    projections, _ = poisoned([Made(ANNA, bad.activity_id, 1, bad)], 1)
    cycled = edited(bad, bad.visibility, Sport.CYCLING)
    deleted = ActivityDeleted(
        user_id=ANNA, activity_id=bad.activity_id, tally=replace(bad.tally, sport=Sport.CYCLING), at=MAY_2
    )
    sums = "SELECT sport, count, distance_m FROM summaries_v1.days"
    sound = [("running", 1, 5_000.0)]
    with Worker(operator.url, projections) as worker, healing(operator.url, operator.registry, MASTER) as healer:
        append(operator.connection, [Made(ANNA, good.activity_id, 1, good), Made(ANNA, bad.activity_id, 1, bad)])
        worker.catch_up()
        append(operator.connection, [Made(ANNA, bad.activity_id, 2, cycled)])
        worker.catch_up()  # to a key that is not quarantined
        (found,) = healer.quarantined("summaries")
        operator.registry._defined["summaries", 1] = projections[0]
        healer.skip("summaries", found.position, "the last resort")
        assert operator.connection.execute(sums).fetchall() == sound
        append(operator.connection, [Made(ANNA, bad.activity_id, 3, deleted)])
        worker.catch_up()
        assert operator.connection.execute(sums).fetchall() == sound
        assert [one.differing for one in audit(operator.url, operator.registry, MASTER, "summaries", 100)] == [0]
        assert [one.still_quarantined for one in healer.rebuild_owners("summaries", [ANNA])] == [0]
        assert operator.connection.execute(sums).fetchall() == sound
        operator.registry._defined["summaries", 1] = SUMMARIES
        (without,) = operator.rebuild("summaries")
        assert operator.digests(without.schema_name) == operator.digests("summaries_v1")
        assert [one.still_quarantined for one in healer.take_back("summaries", found.position)] == [0, 0]
        assert operator.connection.execute(sums).fetchall() == sound  # it is gone by now


def test_where_nothing_is_added_up_what_follows_a_left_out_edit_counts() -> None:
    """A run is private once its runner makes it so, and gone once they delete it."""
    one = run(ANNA)
    hidden, deleted = (
        edited(one, Visibility.PRIVATE, Sport.RUNNING),
        ActivityDeleted(user_id=ANNA, activity_id=one.activity_id, tally=one.tally, at=MAY_2),
    )
    log = [
        Recorded(event, one.activity_id, version, version, ANNA)
        for version, event in enumerate([one, hidden, hidden, deleted], 1)
    ]
    taken = {
        projection.name: [step[3].position for step in Folder(projection, skipped={one.activity_id: [2]}).steps(log)]
        for projection in (ACTIVITIES, FEED, SUMMARIES)
    }
    assert taken == {"activities": [1, 3, 4], "feed": [1, 3, 4], "summaries": [1]}


def test_what_is_left_out_twice_is_in_no_sum_from_the_first_time_on() -> None:
    one = run(ANNA)
    cycled, walked = (edited(one, one.visibility, sport) for sport in (Sport.CYCLING, Sport.WALKING))
    log = [
        Recorded(event, one.activity_id, version, version, ANNA)
        for version, event in enumerate([one, cycled, walked], 1)
    ]
    assert Folder(SUMMARIES).steps(log[1:2]) != []
    assert Folder(SUMMARIES, skipped={one.activity_id: [1, 3]}).steps(log) == []


def test_whose_account_was_left_out_can_still_be_erased() -> None:
    folder = Folder(PEOPLE, skipped={user_stream_id(ANNA): [1]})
    log = [
        Recorded(event, user_stream_id(ANNA), version, version, ANNA)
        for version, event in enumerate([UserRegistered(display_name="Anna", at=MAY_1), UserErased(at=MAY_2)], 1)
    ]
    assert erased(folder.steps(log)) == [ANNA] == [owner for _, _, owner, _ in folder.steps(log)]
