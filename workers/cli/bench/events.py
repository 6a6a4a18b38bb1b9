"""A made-up log that looks like a real one: mostly runs, each with what analysis finds in one."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from domain.events.activity import (
    ActivityDeleted,
    ActivityEdited,
    ActivityRecorded,
    BestEffort,
    DeviceTotals,
    Measured,
    Source,
    Tally,
)
from domain.events.event import Event
from domain.events.follow import FollowStarted
from domain.events.goal import GoalSet
from domain.events.user import ProfileChanged, UserRegistered
from domain.measures import ActivityId, GoalId, GoalMetric, Period, Sport, UserId, Visibility

OWNERS: Final = 1_000

_KINDS: Final = {"recorded": 70, "edited": 14, "followed": 9, "deleted": 2, "goal": 2, "profile": 2, "registered": 1}
_DISTANCES: Final = {"400m": 400.0, "1k": 1_000.0, "1mile": 1_609.344, "5k": 5_000.0, "10k": 10_000.0}


def log(count: int, seed: int = 1) -> Iterator[tuple[UUID, Event]]:
    """Owners and their events, the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    owners = [UserId(_uuid(dice)) for _ in range(OWNERS)]
    kinds = dice.choices(list(_KINDS), list(_KINDS.values()), k=count)
    for kind in kinds:
        owner = dice.choice(owners)
        yield owner, _event(kind, owner, dice, owners)


def _event(kind: str, owner: UserId, dice: random.Random, owners: list[UserId]) -> Event:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=dice.randrange(10**7), microseconds=dice.randrange(10**6))
    match kind:
        case "recorded":
            return _recorded(owner, at, dice)
        case "edited":
            return ActivityEdited(
                user_id=owner,
                activity_id=ActivityId(_uuid(dice)),
                title="Long run with Ben, into the wind",
                visibility=Visibility.FOLLOWERS,
                sport=Sport.RUNNING,
                tally=_tally(dice),
                at=at,
            )
        case "deleted":
            return ActivityDeleted(user_id=owner, activity_id=ActivityId(_uuid(dice)), tally=_tally(dice), at=at)
        case "followed":
            return FollowStarted(follower_id=owner, followee_id=dice.choice(owners), at=at)
        case "goal":
            return GoalSet(
                user_id=owner,
                goal_id=GoalId(_uuid(dice)),
                metric=GoalMetric.DISTANCE,
                target=40_000.0,
                period=Period.WEEK,
                starts_on=date(2026, 1, 1),
                at=at,
            )
    return _about_oneself(kind, at)


def _about_oneself(kind: str, at: datetime) -> Event:
    if kind == "profile":
        return ProfileChanged(display_name="Anna", time_zone="Europe/Berlin", at=at)
    return UserRegistered(display_name="Anna", at=at)


def _recorded(owner: UserId, at: datetime, dice: random.Random) -> ActivityRecorded:
    tally = _tally(dice)
    efforts = tuple(
        BestEffort(name, metres, round(metres * 0.3 + dice.random(), 1), dice.randrange(600) / 1)
        for name, metres in _DISTANCES.items()
        if metres < tally.distance_m
    )
    return ActivityRecorded(
        user_id=owner,
        activity_id=ActivityId(_uuid(dice)),
        title="Morning run",
        visibility=Visibility.PUBLIC,
        started_at=at - timedelta(hours=1),
        utc_offset_s=7_200,
        tally=tally,
        measured=Measured(
            points=round(tally.elapsed_s),
            distance_source="recorded",
            avg_speed_mps=round(tally.distance_m / tally.moving_s, 3),
            max_speed_mps=5.2,
            avg_heart_rate_bpm=148.0,
            max_heart_rate_bpm=171.0,
            avg_cadence_spm=172.0,
            calories_kcal=610.0,
            polyline="".join(chr(dice.randrange(63, 126)) for _ in range(300)),
            bbox=(52.5, 13.3, 52.53, 13.38),
            best_efforts=efforts,
            device=DeviceTotals(distance_m=tally.distance_m, elapsed_s=tally.elapsed_s, timer_s=tally.moving_s),
        ),
        source=Source(format="fit", sha256=dice.randbytes(32).hex(), device="Garmin Forerunner 255"),
        at=at,
    )


def _tally(dice: random.Random) -> Tally:
    metres = round(dice.uniform(3_000, 18_000), 1)
    return Tally(
        sport=Sport.RUNNING,
        local_date=date(2026, 1, 1),
        distance_m=metres,
        elapsed_s=round(metres * 0.36, 1),
        moving_s=round(metres * 0.35, 1),
        elevation_gain_m=float(dice.randrange(300)),
    )


def _uuid(dice: random.Random) -> UUID:
    return UUID(int=dice.getrandbits(128), version=4)
