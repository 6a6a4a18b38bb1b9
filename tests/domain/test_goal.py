from datetime import date
from uuid import UUID

import pytest
from hypothesis import given as everywhere
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.events.goal import GoalDropped, GoalSet
from domain.goal import (
    CustomGoalWithoutEnd,
    Goal,
    GoalEndsBeforeItStarts,
    GoalOutOfTime,
    Target,
    goal_stream_id,
    progress,
)
from domain.measures import GoalId, GoalMetric, Period, Sport
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2, given, run

GOAL = GoalId(UUID("90000000-0000-4000-8000-000000000001"))
WEEKLY = Target(metric=GoalMetric.DISTANCE, target=30_000.0, period=Period.WEEK, starts_on=date(2026, 5, 1))
TALLY = run(ANNA, 10_000.0).tally  # on Friday, 1 May


def set_to(target: Target) -> GoalSet:
    [event] = Goal().set(ANNA, GOAL, target, MAY_1)
    assert isinstance(event, GoalSet)
    return event


def test_a_goal_is_set_and_changed() -> None:
    changed = replace(WEEKLY, target=40_000.0)
    assert given(Goal, set_to(WEEKLY)).target == WEEKLY
    assert given(Goal, set_to(WEEKLY)).set(ANNA, GOAL, changed, MAY_2) != []


def test_the_same_goal_again_changes_nothing() -> None:
    assert given(Goal, set_to(WEEKLY)).set(ANNA, GOAL, WEEKLY, MAY_2) == []


def test_a_goal_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(GoalEndsBeforeItStarts):
        Goal().set(ANNA, GOAL, replace(WEEKLY, ends_on=date(2026, 4, 30)), MAY_1)


@pytest.mark.parametrize("day", [date(1969, 12, 31), date(2200, 1, 1), date.max])
def test_a_goal_stays_within_the_calendar_of_runners(day: date) -> None:
    with pytest.raises(GoalOutOfTime):
        Goal().set(ANNA, GOAL, replace(WEEKLY, starts_on=day), MAY_1)
    with pytest.raises(GoalOutOfTime):
        Goal().set(ANNA, GOAL, replace(WEEKLY, starts_on=date(2026, 1, 1), ends_on=day), MAY_1)


def test_a_custom_goal_needs_its_last_day() -> None:
    with pytest.raises(CustomGoalWithoutEnd):
        Goal().set(ANNA, GOAL, replace(WEEKLY, period=Period.CUSTOM), MAY_1)


def test_dropping_happens_once() -> None:
    dropped = GoalDropped(user_id=ANNA, goal_id=GOAL, at=MAY_2)
    assert given(Goal, set_to(WEEKLY)).drop(ANNA, GOAL, MAY_2) == [dropped]
    assert given(Goal, set_to(WEEKLY), dropped).drop(ANNA, GOAL, MAY_2) == []


def test_two_runners_goals_of_one_id_are_two() -> None:
    assert goal_stream_id(ANNA, GOAL) != goal_stream_id(BEN, GOAL)


@pytest.mark.parametrize(
    ("period", "today", "window"),
    [
        (Period.WEEK, date(2026, 5, 13), (date(2026, 5, 11), date(2026, 5, 17))),
        (Period.WEEK, date(2026, 5, 2), (date(2026, 5, 1), date(2026, 5, 3))),  # not before the goal's first day
        (Period.MONTH, date(2028, 2, 10), (date(2028, 2, 1), date(2028, 2, 29))),
        (Period.YEAR, date(2027, 3, 1), (date(2027, 1, 1), date(2027, 12, 31))),
        (Period.ALL, date(2026, 8, 1), (date(2026, 5, 1), None)),
        (Period.MONTH, date(2026, 1, 1), (date(2026, 5, 1), date(2026, 5, 31))),  # before it starts: the first one
    ],
)
def test_a_goal_counts_the_period_that_holds_today(
    period: Period, today: date, window: tuple[date, date | None]
) -> None:
    assert replace(WEEKLY, period=period).window(today) == window


def test_a_period_ends_with_the_goal() -> None:
    ending = replace(WEEKLY, period=Period.MONTH, ends_on=date(2026, 6, 15))
    assert ending.window(date(2026, 6, 2)) == (date(2026, 6, 1), date(2026, 6, 15))
    assert ending.window(date(2026, 9, 1)) == (date(2026, 6, 1), date(2026, 6, 15))


@pytest.mark.parametrize(
    ("metric", "counted"),
    [
        (GoalMetric.DISTANCE, 10_000.0),
        (GoalMetric.MOVING_TIME, 3_500.0),
        (GoalMetric.COUNT, 2.0),
        (GoalMetric.ELEVATION_GAIN, 10.0),
    ],
)
def test_each_metric_counts_its_own_sum(metric: GoalMetric, counted: float) -> None:
    found = progress(replace(WEEKLY, metric=metric), [(TALLY, 2)], date(2026, 5, 1))
    assert found.progress == pytest.approx(counted)


def test_another_sport_does_not_count() -> None:
    assert progress(replace(WEEKLY, sport=Sport.CYCLING), [(TALLY, 1)], date(2026, 5, 1)).progress == 0.0
    assert progress(replace(WEEKLY, sport=Sport.RUNNING), [(TALLY, 1)], date(2026, 5, 1)).progress > 0.0


def test_last_weeks_runs_do_not_count_this_week() -> None:
    assert progress(WEEKLY, [(TALLY, 1)], date(2026, 5, 4)).progress == 0.0


def test_on_pace_asks_for_the_days_behind_us_only() -> None:
    monthly = replace(WEEKLY, period=Period.MONTH, target=31_000.0)  # a kilometre a day
    assert progress(monthly, [(TALLY, 1)], date(2026, 5, 11)).on_pace
    assert not progress(monthly, [(TALLY, 1)], date(2026, 5, 12)).on_pace
    assert progress(monthly, [], date(2026, 5, 1)).on_pace


@everywhere(st.sampled_from(Period), st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_a_window_never_leaves_the_goals_days(period: Period, today: date) -> None:
    target = replace(WEEKLY, period=period, ends_on=date(2027, 3, 3))
    first, last = target.window(today)
    assert last is not None
    assert target.starts_on <= first <= last <= date(2027, 3, 3)


def test_a_goal_that_is_reached_to_the_millimetre_is_on_pace() -> None:
    target = replace(WEEKLY, period=Period.CUSTOM, ends_on=date(2026, 5, 3), target=0.8)
    for last, on_pace in ((0.7, True), (0.69, False)):
        days = [(run(ANNA, metres).tally, 1) for metres in (0.1, last)]  # 0.1 + 0.7 < 0.8 in floats
        assert progress(target, days, date(2026, 5, 20)).on_pace is on_pace
