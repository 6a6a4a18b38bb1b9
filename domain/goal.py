"""A runner's goal, and how far along it is on a given day."""

import calendar
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import ClassVar, Final, Self
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from domain.errors import DomainError, UnknownEvent
from domain.events.activity import Tally
from domain.events.event import Event
from domain.events.goal import GoalDropped, GoalSet
from domain.measures import GoalId, GoalMetric, Period, Sport, UserId, derived_id

_FIRST_DAY: Final = date(1970, 1, 1)
_LAST_DAY: Final = date(2199, 12, 31)
_ROUNDED: Final = 0.001  # of the unit, as answers have it: sums of many floats are less exact than a target


def goal_stream_id(user_id: UserId, goal_id: GoalId) -> UUID:
    """The stream of this runner's goal: another runner's goal of the same id is another stream."""
    return derived_id("goal", user_id, goal_id)


class Target(Struct, frozen=True, kw_only=True):
    """What is to be reached, and when it counts."""

    metric: GoalMetric
    target: float
    period: Period
    starts_on: date
    ends_on: date | None = None
    sport: Sport | None = None

    def window(self, today: date) -> tuple[date, date | None]:
        """First and last day that count for the period that holds `today`. None: no last day.

        A period before the goal's first day, or after its last, is the first or the last one.
        """
        day = max(today, self.starts_on)
        if self.ends_on is not None:
            day = min(day, self.ends_on)
        first, last = self._period_of(day)
        first = max(first, self.starts_on)
        if self.ends_on is not None:
            last = self.ends_on if last is None else min(last, self.ends_on)
        return first, last

    def _period_of(self, day: date) -> tuple[date, date | None]:
        match self.period:
            case Period.WEEK:
                monday = day - timedelta(days=day.weekday())
                return monday, monday + timedelta(days=6)
            case Period.MONTH:
                return day.replace(day=1), day.replace(day=calendar.monthrange(day.year, day.month)[1])
            case Period.YEAR:
                return date(day.year, 1, 1), date(day.year, 12, 31)
            case Period.ALL | Period.CUSTOM:
                return self.starts_on, self.ends_on

    def counted(self, tally: Tally, activities: int) -> float:
        """What the sums of `activities` activities add to this goal, in the goal's unit."""
        if self.sport is not None and tally.sport is not self.sport:
            return 0.0
        match self.metric:
            case GoalMetric.DISTANCE:
                return tally.distance_m
            case GoalMetric.MOVING_TIME:
                return tally.moving_s
            case GoalMetric.COUNT:
                return float(activities)
            case GoalMetric.ELEVATION_GAIN:
                return tally.elevation_gain_m


class Progress(Struct, frozen=True, kw_only=True):
    """How far a goal is on a day. `fraction` passes 1 when the target is passed."""

    period_starts_on: date
    period_ends_on: date | None
    progress: float
    fraction: float
    on_pace: bool


def progress(target: Target, days: Iterable[tuple[Tally, int]], today: date) -> Progress:
    """Sum the days (each with its number of activities) that fall into the goal's current period.

    On pace: at least the share of the target that the share of days behind us asks for, today not yet asked
    for; without a last day, any progress is on pace once the target is reached only.
    """
    first, last = target.window(today)
    done = sum(
        target.counted(tally, count)
        for tally, count in days
        if first <= tally.local_date and (last is None or tally.local_date <= last)
    )
    if last is None:
        due = target.target
    else:
        length = (last - first).days + 1
        behind = min(max((today - first).days, 0), length)
        due = target.target * behind / length
    return Progress(
        period_starts_on=first,
        period_ends_on=last,
        progress=round(done, 3),
        fraction=round(done / target.target, 6),
        on_pace=done >= due - _ROUNDED,
    )


class Goal(Struct, frozen=True):
    """The goal as set, or None before it is set and after it is dropped."""

    STATE: ClassVar[str] = "goal@1"

    target: Target | None = None

    def set(self, user_id: UserId, goal_id: GoalId, target: Target, at: datetime) -> list[Event]:
        """Set or change the goal. The same again changes nothing."""
        days = target.starts_on, target.ends_on or target.starts_on
        if min(days) < _FIRST_DAY or max(days) > _LAST_DAY:
            raise GoalOutOfTime
        if target.ends_on is not None and target.ends_on < target.starts_on:
            raise GoalEndsBeforeItStarts
        if target.period is Period.CUSTOM and target.ends_on is None:
            raise CustomGoalWithoutEnd
        if target == self.target:
            return []
        return [
            GoalSet(
                user_id=user_id,
                goal_id=goal_id,
                metric=target.metric,
                target=target.target,
                period=target.period,
                starts_on=target.starts_on,
                ends_on=target.ends_on,
                sport=target.sport,
                at=at,
            )
        ]

    def drop(self, user_id: UserId, goal_id: GoalId, at: datetime) -> list[Event]:
        """Remove the goal. Removing twice changes nothing."""
        return [] if self.target is None else [GoalDropped(user_id=user_id, goal_id=goal_id, at=at)]

    def evolve(self, event: Event) -> Self:
        """The goal after `event`."""
        match event:
            case GoalSet():
                return replace(self, target=target_of(event))
            case GoalDropped():
                return replace(self, target=None)
            case _:
                raise UnknownEvent(self, event)


def target_of(event: GoalSet) -> Target:
    """The target that the event set."""
    return Target(
        metric=event.metric,
        target=event.target,
        period=event.period,
        starts_on=event.starts_on,
        ends_on=event.ends_on,
        sport=event.sport,
    )


class GoalOutOfTime(DomainError):
    """A goal's days are between 1970-01-01 and 2199-12-31."""

    code = "goal-out-of-time"


class GoalEndsBeforeItStarts(DomainError):
    """The goal's last day is before its first."""

    code = "goal-ends-before-it-starts"


class CustomGoalWithoutEnd(DomainError):
    """A goal over a custom period needs its last day."""

    code = "goal-needs-an-end"
