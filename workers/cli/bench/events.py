"""A made-up log that looks like a real one: runners, mostly runs with what analysis finds in one, edits, follows."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded, Source, Tally
from domain.events.event import Event
from domain.events.follow import FollowStarted
from domain.events.goal import GoalSet
from domain.events.measured import BestEffort, DeviceTotals, Measured
from domain.events.packing import pack
from domain.events.user import ProfileChanged, UserRegistered
from domain.follow import follow_id
from domain.goal import goal_stream_id
from domain.measures import ActivityId, GoalId, GoalMetric, Period, Sport, UserId, Visibility
from domain.user import user_stream_id

_EVENTS_A_RUNNER: Final = 50  # a year's worth of somebody who runs on most weekends
_KINDS: Final = {"recorded": 72, "edited": 14, "followed": 9, "deleted": 2, "goal": 2, "profile": 1}
_DISTANCES: Final = {"400m": 400.0, "1k": 1_000.0, "1mile": 1_609.344, "5k": 5_000.0, "10k": 10_000.0}
_RECENT: Final = 20  # of a runner's runs, those that are edited or deleted
_YEAR: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Made(Struct, frozen=True, gc=False):
    """An event and its place."""

    owner_id: UserId
    stream_id: UUID
    version: int
    event: Event


def log(count: int, seed: int = 1) -> Iterator[Made]:
    """So many events in the order of a log, the same for the same seed. Every stream is one that could be."""
    return iter(_Log(seed, max(4, count // _EVENTS_A_RUNNER)).events(count))


class _Log:
    def __init__(self, seed: int, runners: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - no secret
        self._runners = [UserId(self._uuid()) for _ in range(runners)]
        self._registered = 0
        self._runs: dict[UserId, list[tuple[ActivityRecorded, int]]] = {}  # the latest, with their streams' versions
        self._profiles: dict[UserId, int] = {}
        self._follows: set[tuple[UserId, UserId]] = set()
        self._polylines = "".join(chr(self._dice.randrange(63, 126)) for _ in range(20_000))

    def events(self, count: int) -> Iterator[Made]:
        seconds = 365 * 86_400 / count
        kinds = self._dice.choices(list(_KINDS), list(_KINDS.values()), k=count)
        for number, kind in enumerate(kinds):
            at = _YEAR + timedelta(seconds=round(number * seconds), microseconds=self._dice.randrange(10**6))
            if self._registered < len(self._runners) and number % 2 == 0:
                yield self._register(at)
            else:
                owner = self._runners[self._dice.randrange(max(1, self._registered))]
                yield self._event(kind, owner, at)

    def _register(self, at: datetime) -> Made:
        owner = self._runners[self._registered]
        self._registered += 1
        self._profiles[owner] = 1
        return Made(owner, user_stream_id(owner), 1, UserRegistered(display_name="Anna Schmidt", at=at))

    def _event(self, kind: str, owner: UserId, at: datetime) -> Made:
        match kind:
            case "edited" if self._runs.get(owner):
                return self._edited(owner, at)
            case "deleted" if self._runs.get(owner):
                run, version = self._runs[owner].pop(self._dice.randrange(len(self._runs[owner])))
                deleted = ActivityDeleted(user_id=owner, activity_id=run.activity_id, tally=run.tally, at=at)
                return Made(owner, run.activity_id, version + 1, deleted)
            case "followed":
                followee = self._runners[self._dice.randrange(self._registered)]
                if followee != owner and (owner, followee) not in self._follows:
                    self._follows.add((owner, followee))
                    started = FollowStarted(follower_id=owner, followee_id=followee, at=at)
                    return Made(owner, follow_id(owner, followee), 1, started)
            case "goal":
                return self._goal(owner, at)
            case "profile":
                self._profiles[owner] += 1
                changed = ProfileChanged(display_name="Anna", time_zone="Europe/Berlin", at=at)
                return Made(owner, user_stream_id(owner), self._profiles[owner], changed)
        return self._recorded(owner, at)

    def _edited(self, owner: UserId, at: datetime) -> Made:
        runs = self._runs[owner]
        place = self._dice.randrange(len(runs))
        run, version = runs[place]
        runs[place] = run, version + 1
        edited = ActivityEdited(
            user_id=owner,
            activity_id=run.activity_id,
            title="Long run with Ben, into the wind",
            visibility=Visibility.FOLLOWERS,
            sport=Sport.RUNNING,
            tally=run.tally,
            at=at,
        )
        return Made(owner, run.activity_id, version + 1, edited)

    def _goal(self, owner: UserId, at: datetime) -> Made:
        goal = GoalSet(
            user_id=owner,
            goal_id=GoalId(self._uuid()),
            metric=GoalMetric.DISTANCE,
            target=40_000.0,
            period=Period.WEEK,
            starts_on=at.date(),
            at=at,
        )
        return Made(owner, goal_stream_id(owner, goal.goal_id), 1, goal)

    def _recorded(self, owner: UserId, at: datetime) -> Made:
        dice, tally = self._dice, self._tally(at.date())
        efforts = tuple(
            BestEffort(name, metres, round(metres * 0.3 + dice.random(), 1), float(dice.randrange(600)))
            for name, metres in _DISTANCES.items()
            if metres < tally.distance_m
        )
        begin = dice.randrange(len(self._polylines) - 300)
        run = ActivityRecorded(
            user_id=owner,
            activity_id=ActivityId(self._uuid()),
            title="Morning run",
            visibility=Visibility.PUBLIC,
            started_at=at - timedelta(hours=1),
            utc_offset_s=7_200,
            tally=tally,
            measured=pack(
                Measured(
                    points=round(tally.elapsed_s),
                    distance_source="recorded",
                    avg_speed_mps=round(tally.distance_m / tally.moving_s, 3),
                    max_speed_mps=5.2,
                    avg_heart_rate_bpm=148.0,
                    max_heart_rate_bpm=171.0,
                    avg_cadence_spm=172.0,
                    calories_kcal=610.0,
                    polyline=self._polylines[begin : begin + 300],
                    bbox=(52.5, 13.3, 52.53, 13.38),
                    best_efforts=efforts,
                    device=DeviceTotals(distance_m=tally.distance_m, elapsed_s=tally.elapsed_s, timer_s=tally.moving_s),
                )
            ),
            source=Source(format="fit", sha256=dice.randbytes(32).hex(), device="Garmin Forerunner 255"),
            at=at,
        )
        runs = self._runs.setdefault(owner, [])
        runs.append((run, 1))
        del runs[:-_RECENT]
        return Made(owner, run.activity_id, 1, run)

    def _tally(self, day: date) -> Tally:
        metres = round(self._dice.uniform(3_000, 18_000), 1)
        return Tally(
            sport=Sport.RUNNING,
            local_date=day,
            distance_m=metres,
            elapsed_s=round(metres * 0.36, 1),
            moving_s=round(metres * 0.35, 1),
            elevation_gain_m=float(self._dice.randrange(300)),
        )

    def _uuid(self) -> UUID:
        return UUID(int=self._dice.getrandbits(128), version=4)
