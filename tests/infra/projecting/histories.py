"""Random histories of a few runners who do everything that can be done, in a log with sealed events."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Final
from uuid import UUID

from msgspec import Struct
from psycopg import Connection

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded, Source, Tally
from domain.events.event import Event
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.goal import GoalDropped, GoalSet
from domain.events.measured import Measured
from domain.events.packing import pack
from domain.events.user import ProfileChanged, UserErased, UserRegistered
from domain.follow import follow_id
from domain.goal import goal_stream_id
from domain.measures import ActivityId, GoalId, GoalMetric, Period, Sport, UserId, Visibility
from domain.user import user_stream_id
from infra.event_store.mapper import MAPPER, associated
from infra.event_store.rows import partition_of
from infra.keys import MasterKeys, UserCipher

MASTER_KEY: Final = b"m" * 32
MASTER: Final = MasterKeys([MASTER_KEY])
_START: Final = datetime(2026, 1, 1, 6, tzinfo=UTC)


class Made(Struct, frozen=True):
    """An event and its place."""

    owner_id: UserId
    stream_id: UUID
    version: int
    event: Event


class History:
    """An endless log in which every stream is one that could be; the same for the same seed."""

    def __init__(self, seed: int, runners: int = 12) -> None:
        self._dice = random.Random(seed)
        self._wanted = runners
        self._runners: list[UserId] = []
        self._versions: dict[UUID, int] = {}
        self._runs: dict[ActivityId, ActivityEdited | ActivityRecorded] = {}
        self._follows: set[tuple[UserId, UserId]] = set()
        self._goals: set[tuple[UserId, GoalId]] = set()
        self._at = _START
        self._events = self._made()

    def take(self, count: int) -> list[Made]:
        """The next events."""
        return list(islice(self._events, count))

    def _made(self) -> Iterator[Made]:
        kinds: Sequence[tuple[Callable[[], Iterable[Made]], int]] = [
            (self._recorded, 36),
            (self._edited, 16),
            (self._deleted, 8),
            (self._followed, 14),
            (self._unfollowed, 8),
            (self._goal_set, 6),
            (self._goal_dropped, 3),
            (self._profile, 6),
            (self._erased, 1),
        ]
        steps, weights = [step for step, _ in kinds], [weight for _, weight in kinds]
        while True:
            if len(self._runners) < self._wanted and (not self._runners or self._dice.random() < 0.3):
                yield from self._registered()
            yield from self._dice.choices(steps, weights)[0]()

    def _place(self, owner: UserId, stream: UUID, event: Event) -> Made:
        self._versions[stream] = self._versions.get(stream, 0) + 1
        self._at += timedelta(seconds=self._dice.randrange(1, 4_000))
        return Made(owner, stream, self._versions[stream], event)

    def _registered(self) -> Iterator[Made]:
        runner = UserId(self._uuid())
        self._runners.append(runner)
        yield self._place(runner, user_stream_id(runner), UserRegistered(display_name=self._word(), at=self._at))

    def _recorded(self) -> Iterator[Made]:
        runner = self._runner()
        day = (self._at - timedelta(days=self._dice.randrange(4))).date()
        run = ActivityRecorded(
            user_id=runner,
            activity_id=ActivityId(self._uuid()),
            title=self._word(),
            visibility=self._dice.choice(list(Visibility)),
            started_at=self._at - timedelta(hours=self._dice.randrange(90)),
            utc_offset_s=self._dice.choice([-18_000, 0, 20_700]),
            tally=self._tally(day, self._dice.choice(list(Sport))),
            measured=pack(Measured(points=self._dice.randrange(9_000), polyline=self._word() * 9)),
            source=Source(format="fit", sha256=self._dice.randbytes(32).hex()),
            at=self._at,
        )
        self._runs[run.activity_id] = run
        yield self._place(runner, run.activity_id, run)

    def _edited(self) -> Iterator[Made]:
        if not self._runs:
            return
        run = self._runs[self._dice.choice(list(self._runs))]
        edited = ActivityEdited(
            user_id=run.user_id,
            activity_id=run.activity_id,
            title=self._word(),
            notes=f"as of {self._at}",
            visibility=self._dice.choice(list(Visibility)),
            sport=self._dice.choice(list(Sport)),
            tally=_counted(run),
            at=self._at,
        )
        self._runs[run.activity_id] = edited
        yield self._place(run.user_id, run.activity_id, edited)

    def _deleted(self) -> Iterator[Made]:
        if not self._runs:
            return
        run = self._runs.pop(self._dice.choice(list(self._runs)))
        deleted = ActivityDeleted(user_id=run.user_id, activity_id=run.activity_id, tally=_counted(run), at=self._at)
        yield self._place(run.user_id, run.activity_id, deleted)

    def _followed(self) -> Iterator[Made]:
        edge = self._runner(), self._runner()
        if edge[0] != edge[1] and edge not in self._follows:
            self._follows.add(edge)
            started = FollowStarted(follower_id=edge[0], followee_id=edge[1], at=self._at)
            yield self._place(edge[0], follow_id(*edge), started)

    def _unfollowed(self) -> Iterator[Made]:
        if self._follows:
            yield self._follow_ended(self._dice.choice(sorted(self._follows)))

    def _follow_ended(self, edge: tuple[UserId, UserId]) -> Made:
        self._follows.remove(edge)
        return self._place(
            edge[0], follow_id(*edge), FollowEnded(follower_id=edge[0], followee_id=edge[1], at=self._at)
        )

    def _goal_set(self) -> Iterator[Made]:
        runner = self._runner()
        known = sorted(goal for owner, goal in self._goals if owner == runner)
        goal_id = self._dice.choice(known) if known and self._dice.random() < 0.3 else GoalId(self._uuid())
        self._goals.add((runner, goal_id))
        goal = GoalSet(
            user_id=runner,
            goal_id=goal_id,
            metric=self._dice.choice(list(GoalMetric)),
            target=self._dice.uniform(1, 90_000),
            period=self._dice.choice(list(Period)),
            starts_on=self._at.date(),
            at=self._at,
        )
        yield self._place(runner, goal_stream_id(runner, goal_id), goal)

    def _goal_dropped(self) -> Iterator[Made]:
        if self._goals:
            runner, goal_id = self._dice.choice(sorted(self._goals))
            self._goals.remove((runner, goal_id))
            dropped = GoalDropped(user_id=runner, goal_id=goal_id, at=self._at)
            yield self._place(runner, goal_stream_id(runner, goal_id), dropped)

    def _profile(self) -> Iterator[Made]:
        runner = self._runner()
        changed = ProfileChanged(display_name=self._word(), time_zone="Asia/Kathmandu", at=self._at)
        yield self._place(runner, user_stream_id(runner), changed)

    def _erased(self) -> Iterator[Made]:
        """As an erasure goes: follows end first, then the account."""
        if len(self._runners) < self._wanted:
            return
        runner = self._runner()
        for edge in sorted(edge for edge in self._follows if runner in edge):
            yield self._follow_ended(edge)
        self._runners.remove(runner)
        self._runs = {place: run for place, run in self._runs.items() if run.user_id != runner}
        self._goals = {goal for goal in self._goals if goal[0] != runner}
        yield self._place(runner, user_stream_id(runner), UserErased(at=self._at))

    def _tally(self, day: date, sport: Sport) -> Tally:
        metres = round(self._dice.uniform(100, 42_195), 1)
        return Tally(
            sport=sport,
            local_date=day,
            distance_m=metres,
            elapsed_s=round(metres * self._dice.uniform(0.2, 0.8), 3),
            moving_s=round(metres * 0.2, 3),
            elevation_gain_m=round(self._dice.uniform(0, 900), 1),
        )

    def _runner(self) -> UserId:
        return self._dice.choice(self._runners)

    def _word(self) -> str:
        return self._dice.choice(["Läufe", "5k", "", "日本", "'; DROP TABLE", '"quoted\\"', "x" * 200, "🏃\u200d♀️"])

    def _uuid(self) -> UUID:
        return UUID(int=self._dice.getrandbits(128), version=4)


def _counted(run: ActivityRecorded | ActivityEdited) -> Tally:
    """What the run counts as now: what an edit or a deletion takes away."""
    if isinstance(run, ActivityRecorded):
        return run.tally
    return Tally(
        sport=run.sport,
        local_date=run.tally.local_date,
        distance_m=run.tally.distance_m,
        elapsed_s=run.tally.elapsed_s,
        moving_s=run.tally.moving_s,
        elevation_gain_m=run.tally.elevation_gain_m,
    )


def append(connection: Connection, events: Iterable[Made]) -> int:
    """Seal and store them in one transaction; the last position. The keys of those who are erased are destroyed."""
    position = 0
    with connection.transaction():
        for made in events:
            topic, state = MAPPER.encode(
                made.event, cipher_of(made.owner_id), associated(made.owner_id, made.stream_id, made.version)
            )
            connection.execute(
                _KEY, (made.owner_id, MASTER.current, MASTER.wrap(made.owner_id, made.owner_id.bytes * 2).wrapped)
            )
            row = (made.stream_id, made.version, topic, state, made.owner_id, partition_of(made.owner_id))
            found = connection.execute(_APPEND, row).fetchone()
            position = int(found[0]) if found else 0
            if isinstance(made.event, UserErased):
                connection.execute(_DESTROY, (made.owner_id,))
    return position


def cipher_of(owner_id: UserId) -> UserCipher:
    """Each owner's key, which follows from the id here."""
    return UserCipher(owner_id.bytes * 2)


_KEY = "INSERT INTO user_keys (owner_id, master_id, wrapped) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
_DESTROY = "UPDATE user_keys SET wrapped = NULL, destroyed_at = now() WHERE owner_id = %s"
_APPEND = """
    INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
    VALUES (%s, %s, %s, %s, %s, %s) RETURNING notification_id
"""
