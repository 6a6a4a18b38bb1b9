"""What changed since an app last asked, of all that is the runner's own: so that an app can keep a copy."""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from msgspec import Struct

from api.activities import ActivityCard, card_seen
from api.codec import answer
from api.dependencies import CurrentUser, Reads, ServicesDep, reads
from api.front.request import Request
from api.goals import GoalSeen, goals_seen, goals_span
from api.local_time import end_of, today_of
from api.openapi import answers
from api.pages import Limit, Since
from api.services import Services
from api.users import Me, Runner, read_me, runner_seen
from domain.errors import DomainError
from domain.measures import ActivityId, UserId
from projections.activities import Card, cards
from projections.changes import Change, Kind, changes_since
from projections.goals import goals_of
from projections.people import Person, people
from projections.projection import Reading, View
from projections.summaries import days

router = APIRouter(tags=["client"])

MIRRORED: Final = ("changes", "activities", "goals", "people")  # what an app's copy is made of
_MARK: Final = ">q8s"  # a position, and a digest of what it is a position in


class ResyncNeeded(DomainError):
    """What changed since this cursor cannot be told any more: drop what was kept, and ask /v1/bootstrap without it."""

    code = "resync-needed"


class ChangeSeen(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The latest change of one thing, with the thing as it is now under the name of its kind; nothing when deleted.

    Apps leave kinds out that they do not know.
    """

    kind: Kind
    id: UUID  # of `following`: the runner who is followed
    deleted: bool
    activity: ActivityCard | None = None
    goal: GoalSeen | None = None
    following: Runner | None = None
    profile: Me | None = None


class ChangePage(Struct, frozen=True):
    """Changes in their order, each thing once. `next_cursor` is there always: keep it once all of these are kept."""

    items: list[ChangeSeen]
    next_cursor: str
    has_more: bool  # ask again at once


class Unseen(Struct, frozen=True):
    """Changes of which the things are still to be looked up."""

    rows: Sequence[Change]
    next_cursor: str
    has_more: bool
    whole: bool  # whether whoever changes what these tell of will say so: not of changes that only wait to be told


@router.get("/changes", responses=answers(400, 401, 410, ok=ChangePage))
async def get_changes(
    request: Request,
    user_id: CurrentUser,
    services: ServicesDep,
    fresh: Annotated[Reads, Depends(reads(*MIRRORED, "summaries"))],
    since: Since = None,
    limit: Limit = 100,
) -> Response:
    """Own activities, goals, follows and profile, as far as they changed since the cursor; all of them without one.

    410 `resync-needed` when that cannot be told any more. A thing that changes while pages are read comes again.
    """
    async with fresh.view() as view:
        found = await unseen_changes(view, services, user_id, since, limit)
        shown = await cards(view, activities_in(found.rows)) if _has(found.rows, Kind.ACTIVITY) else {}
        runners = await people(view, [user_id, *followees_in(found.rows)]) if found.rows else {}
        zone = runners[user_id].time_zone if user_id in runners else None
        today = today_of(zone, services.clock())
        goals = await _goals(view, user_id, today) if _has(found.rows, Kind.GOAL) else []
    me = await read_me(services, user_id) if _has(found.rows, Kind.PROFILE) else None
    items = changes_seen(found.rows, shown, runners, goals, me)
    until = end_of(today, zone) if goals else None
    keep = fresh.keep(user_id, *followees_in(found.rows), until=until) if found.whole else None
    return answer(request, ChangePage(items, found.next_cursor, found.has_more), fresh.headers, keep)


async def _goals(view: View, user_id: UserId, today: date) -> Sequence[GoalSeen]:
    rows = await goals_of(view, user_id)
    return goals_seen(rows, await days(view, user_id, *goals_span(rows, today)) if rows else [], today)


async def unseen_changes(view: View, services: Services, user_id: UserId, since: str | None, limit: int) -> Unseen:
    """A page of changes past a cursor. `MalformedCursor`, `ResyncNeeded`.

    Nothing is missed: changes are read as far as all models are that things are read from, and the things after
    that, so they are no older. What changes further on is told the next time.
    """
    reading = view.reading(MIRRORED)
    after, known = (0, None) if since is None else _opened(services, user_id, since)
    found = await changes_since(view, user_id, reading, after, limit + 1)
    if known not in {None, _digest(reading, found.repairs)}:
        raise ResyncNeeded
    rows = found.changes[:limit]
    # without a change it is the same cursor, however far the log is: then the answer is the same, too
    cursor = _written(services, user_id, rows[-1].position if rows else after, reading, found.repairs)
    return Unseen(rows, cursor, len(found.changes) > limit, found.whole)


async def nothing_unseen(view: View, services: Services, user_id: UserId) -> Unseen:
    """For an app that is about to read everything: no changes, as what changes from here on is past the cursor."""
    reading = view.reading(MIRRORED)
    found = await changes_since(view, user_id, reading, 0, 0)
    cursor = _written(services, user_id, found.latest, reading, found.repairs)
    return Unseen([], cursor, has_more=False, whole=found.whole)


def activities_in(rows: Iterable[Change]) -> list[ActivityId]:
    """Those that are not deleted."""
    return [ActivityId(row.item_id) for row in rows if row.kind is Kind.ACTIVITY and not row.deleted]


def followees_in(rows: Iterable[Change]) -> list[UserId]:
    """Those who are followed."""
    return [UserId(row.item_id) for row in rows if row.kind is Kind.FOLLOWING and not row.deleted]


def _has(rows: Iterable[Change], kind: Kind) -> bool:
    return any(row.kind is kind and not row.deleted for row in rows)


def changes_seen(
    rows: Sequence[Change],
    shown: Mapping[ActivityId, Card],
    runners: Mapping[UserId, Person],
    goals: Sequence[GoalSeen],
    me: Me | None,
) -> list[ChangeSeen]:
    """The changes with their things. What is gone by now is left out: its end is a change further on."""
    things: dict[Kind, Mapping[Any, Any]] = {
        Kind.ACTIVITY: {
            one: card_seen(card, runners[card.user_id].display_name)
            for one, card in shown.items()
            if card.user_id in runners
        },
        Kind.GOAL: {goal.goal_id: goal for goal in goals},
        Kind.FOLLOWING: {one: runner_seen(person, followed_by_me=True) for one, person in runners.items()},
        Kind.PROFILE: {} if me is None else {me.user_id: me},
    }
    items = []
    for row in rows:
        if row.deleted:
            items.append(ChangeSeen(kind=row.kind, id=row.item_id, deleted=True))
        elif (thing := things[row.kind].get(row.item_id)) is not None:
            items.append(ChangeSeen(kind=row.kind, id=row.item_id, deleted=False, **{row.kind.value: thing}))
    return items


def _digest(reading: Reading, repairs: str) -> bytes:
    return hashlib.blake2b(f"{reading.name}\x1f{repairs}".encode(), digest_size=8).digest()


def _written(services: Services, user_id: UserId, position: int, reading: Reading, repairs: str) -> str:
    return services.cursors.sign(struct.pack(_MARK, position, _digest(reading, repairs)), user_id, "changes")


def _opened(services: Services, user_id: UserId, cursor: str) -> tuple[int, bytes]:
    packed = services.cursors.verified(cursor, struct.calcsize(_MARK), user_id, "changes")
    position, digest = struct.unpack(_MARK, packed)
    return position, digest
