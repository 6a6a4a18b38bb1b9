"""What changed of a runner's own things, and when: a row for each, with the position of its latest change.

An app that keeps a copy asks for what is past the position up to which it has everything. What is gone keeps its row,
for ever: a row is smaller than the event that it comes from, a rebuild makes the same ones without a clock, and no
app is ever away for too long.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded
from domain.events.event import Event, Recorded
from domain.events.follow import FollowEnded, FollowStarted
from domain.events.goal import GoalDropped, GoalSet
from domain.events.user import ProfileChanged, UserRegistered
from domain.measures import UserId
from projections.projection import Fold, Key, Projection, Query, Reading, Table, View


class Kind(StrEnum):
    """What a change is of, and so what its id is the id of."""

    ACTIVITY = "activity"
    GOAL = "goal"
    FOLLOWING = "following"  # the id is that of the runner who is followed
    PROFILE = "profile"  # the id is the runner's own


# What an event changes: its kind, the field with its id (None: the owner), and whether it is gone.
_THINGS: Final[Mapping[type[Event], tuple[Kind, str | None, bool]]] = {
    ActivityRecorded: (Kind.ACTIVITY, "activity_id", False),
    ActivityEdited: (Kind.ACTIVITY, "activity_id", False),
    ActivityDeleted: (Kind.ACTIVITY, "activity_id", True),
    GoalSet: (Kind.GOAL, "goal_id", False),
    GoalDropped: (Kind.GOAL, "goal_id", True),
    FollowStarted: (Kind.FOLLOWING, "followee_id", False),
    FollowEnded: (Kind.FOLLOWING, "followee_id", True),
    UserRegistered: (Kind.PROFILE, None, False),
    ProfileChanged: (Kind.PROFILE, None, False),
}


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """The latest change of one thing. One event changes one thing of one runner: theirs are at different positions."""

    user_id: UserId
    kind: Kind
    item_id: UUID
    position: int
    deleted: bool


class Changes(Fold[Change]):
    """Changes by runner and thing."""

    table = Table(
        name="changes",
        row=Change,
        key=("user_id", "kind", "item_id"),
        owner="user_id",
        indexes=("(user_id, position)",),
    )
    events = tuple(_THINGS)
    reads_private = False

    def keys(self, recorded: Recorded) -> Iterable[Key]:
        """The one thing."""
        kind, name, _ = _THINGS[type(recorded.event)]
        owner = recorded.owner_id
        return ((owner, kind, owner if name is None else getattr(recorded.event, name)),)

    def fold(self, key: Key, row: Change | None, recorded: Recorded) -> Change | None:  # noqa: ARG002 - only the last event counts
        """As of this event."""
        _, _, deleted = _THINGS[type(recorded.event)]
        return Change(user_id=key[0], kind=key[1], item_id=key[2], position=recorded.position, deleted=deleted)


CHANGES: Final = Projection(name="changes", version=1, folds=(Changes(),))


class Since(Struct, frozen=True):
    """Changes in the order of their positions.

    `repairs` says which repairs of this runner's rows there were: rows that are made anew, or left as they were while
    their key is quarantined, change without an event. Where it is another text than before, no position helps.
    """

    changes: list[Change]
    latest: int  # the position of the runner's latest change; 0: none
    whole: bool  # none of the runner's changes is further on than all that is read
    repairs: str


async def changes_since(view: View, user_id: UserId, reading: Reading, after: int, limit: int) -> Since:
    """A runner's changes past a position, at most so many, as far as all that is read has come. One query."""
    asked = {"user": user_id, "after": after, "limit": limit, "schemas": list(reading.schemas)}
    found = await view.rows(_SINCE, asked)
    changes = [msgspec.convert(row, Change, strict=False) for row in found if row["kind"] is not None]
    return Since(changes, found[0]["latest"], found[0]["whole"], found[0]["repairs"])


# Positions and repairs are the runtime's, not the projection's: they are read in the same statement as the changes,
# and so in the same snapshot.
_SINCE: Final = Query(
    "changes",
    """
    SELECT r.latest, r.whole, r.repairs, c.*
    FROM (SELECT coalesce(min(position), 0) AS upto FROM projection_shards WHERE schema_name = ANY(%(schemas)s)) level
    CROSS JOIN LATERAL (SELECT
        (SELECT coalesce(max(position), 0) FROM {s}.changes WHERE user_id = %(user)s AND position <= level.upto)
            AS latest,
        NOT EXISTS (SELECT FROM {s}.changes WHERE user_id = %(user)s AND position > level.upto) AS whole,
        concat_ws(' ', (SELECT times FROM refolded_owners WHERE owner_id = %(user)s),
            (SELECT string_agg(DISTINCT schema_name, ' ') FROM quarantined_keys
             WHERE schema_name = ANY(%(schemas)s) AND owner_id = %(user)s)) AS repairs
    ) r
    LEFT JOIN LATERAL (
        SELECT user_id, kind, item_id, position, deleted FROM {s}.changes
        WHERE user_id = %(user)s AND position > %(after)s AND position <= level.upto ORDER BY position LIMIT %(limit)s
    ) c ON true ORDER BY c.position
    """,
)
