"""One recording from its bytes to its verdict, with what its export says of it."""

import asyncio
import time
from typing import Any, Final
from uuid import UUID, uuid5

from msgspec import Struct

from api.client import Client, Refused
from domain.measures import Sport, Visibility
from domain.uploads import PASSING
from workers.cli.importing.entries import Told

NAMESPACE: Final = UUID("6e7b0a52-2f0c-5a37-9c55-0c3a8f6f1d10")  # of imported activities' ids; never changes
_POLL_SECONDS: Final = 0.2
_VERDICT_SECONDS: Final = 300.0
_SHOWN_SECONDS: Final = 20.0  # from a verdict until its activity can be read
_PAGE: Final = 100  # as many as a read tells at once
_MOST_IDS: Final = 20  # of the same bytes: one more each time that the run was there already, and was deleted since

Row = dict[str, Any]


def imported_id(user_id: UUID | None, sha256: str, number: int = 1) -> UUID:
    """Of the activity that these bytes are of this runner; numbers above one are of later tries."""
    name = f"{user_id}/{sha256}"
    return uuid5(NAMESPACE, name if number == 1 else f"{name}/{number}")


class Wanted(Struct, frozen=True):
    """What the command's caller says of all recordings. `sport` is for those of which no export says it."""

    visibility: Visibility | None = None
    sport: Sport | None = None


async def bring(client: Client, body: bytes, sha256: str, told: Told, wanted: Wanted) -> Row:
    """What came of it; `Unreachable`. The id hangs on the bytes: brought again, they meet the same activity. Only where
    they were a duplicate of a run that is deleted by now, they are brought under another id.

    Title and sport go along with the bytes; notes follow when the activity is there. What the runner has written since
    is not touched: bytes that the server has are not sent again, and notes are written only where there are none. Bytes
    that failed for a reason that may pass are sent once more; when they fail so again, they count as not sent.
    """

    async def upload() -> Row:
        sport = told.sport or wanted.sport
        return await client.upload(activity_id, body, title=told.title, sport=sport, visibility=wanted.visibility)

    try:
        activity_id, found = await _place(client, sha256)
        state = await _verdict(client, activity_id, found or await upload())
        if again := _may_pass(state):
            state = await _verdict(client, activity_id, await upload())
        return await _row(client, state, told, known=found is not None and not again)
    except Refused as refusal:
        about_the_file = refusal.code.startswith("recording-") or refusal.code == "body-too-large"
        return {"verdict": "failed" if about_the_file else "not sent", "note": with_errors(refusal)}


async def _place(client: Client, sha256: str) -> tuple[UUID, Row | None]:
    """The id for these bytes, and what the server knows of them under it: the first that does not say that they are
    what is not there any more.
    """
    number = 1
    while True:
        activity_id = imported_id(client.user_id, sha256, number)
        found = await _state(client, activity_id)
        if number == _MOST_IDS or found is None or found["status"] != "duplicate":
            return activity_id, found
        if await _is_there(client, found["duplicate_of"]):
            return activity_id, found
        number += 1


async def _is_there(client: Client, first: str) -> bool:
    """Whether there is a run of an upload; of a file with several sessions, one of them."""
    ids = {first, *await _made_of(client, first)}
    return any([not await _is_missing(client, activity_id) for activity_id in ids])


async def _made_of(client: Client, upload_id: str) -> list[str]:
    """The ids of an upload's activities: its own where it has one session."""
    return list((await _state(client, UUID(upload_id)) or {}).get("activities", ()))


async def _is_missing(client: Client, activity_id: str) -> bool:
    try:
        await client.activity(activity_id)
    except Refused as refusal:
        return refusal.is_missing
    return False


async def all_there(client: Client) -> set[str] | None:
    """The ids of all of the account's activities, a hundred at a time; None when the server does not tell them."""
    found, cursor = set[str](), ""
    while True:
        try:
            page = await client.get(f"/users/{client.user_id}/activities?limit={_PAGE}{cursor}", "items")
        except Refused:
            return None
        found.update(card["activity_id"] for card in page["items"])
        if page.get("next_cursor") is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def _state(client: Client, activity_id: UUID) -> Row | None:
    try:
        return await client.upload_state(activity_id)
    except Refused:
        return None


async def _verdict(client: Client, activity_id: UUID, state: Row) -> Row:
    waited = 0.0
    while state["status"] == "processing" and waited < _VERDICT_SECONDS:
        await asyncio.sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS
        state = await client.upload_state(activity_id)
    return state


def _may_pass(state: Row) -> bool:
    return state["status"] == "failed" and state["problem"].get("code") in PASSING


async def _row(client: Client, state: Row, told: Told, *, known: bool) -> Row:
    remarks = [] if known else [*told.remarks]
    match state["status"]:
        case "ready":
            patience = 0 if known else _SHOWN_SECONDS
            seen = [await _activity(client, activity_id, patience) for activity_id in state["activities"]]
            notes = [one.pop("notes", None) for one in seen]  # they are not for reports
            if told.notes and seen and _has_none(notes[0], known=known):
                remarks += await _noted(client, seen[0]["activity_id"], told.notes)
            return _told_row("already there" if known else "imported", remarks, activities=seen)
        case "duplicate":
            of = state["duplicate_of"]
            what, made = ("run", []) if state.get("matched") == "track" else ("bytes", await _made_of(client, of))
            remarks = [f"the same {what} as {of}", *remarks]
            return _told_row("duplicate", remarks, duplicate_of=of, duplicate_activities=made)
        case "failed":
            return _told_row("not sent" if _may_pass(state) else "failed", [state["problem"]["detail"]])
        case status:
            return _told_row(status, ["safe on the server, and still in its queue"])


def _told_row(verdict: str, remarks: list[str], **more: object) -> Row:
    return {"verdict": verdict, "note": ", ".join(remarks), **more}


def _has_none(notes: str | None, *, known: bool) -> bool:
    """None, when they cannot be seen yet: then only an activity that was just made has none for certain."""
    return notes == "" or (notes is None and not known)


async def _noted(client: Client, activity_id: str, notes: str) -> list[str]:
    """Write the notes; a remark when they are refused."""
    try:
        await client.edit(UUID(activity_id), notes=notes)
    except Refused as refusal:
        return [f"notes not kept: {with_errors(refusal)}"]
    return []


async def _activity(client: Client, activity_id: str, patience_seconds: float) -> Row:
    """What the report shows of an activity; all but its id is missing when there is nothing to be seen by then."""
    deadline = time.monotonic() + patience_seconds
    while (seen := await _seen(client, activity_id)) is None:
        if time.monotonic() >= deadline:
            return {"activity_id": activity_id, "warnings": ["not to be seen: deleted, or not shown yet"]}
        await asyncio.sleep(_POLL_SECONDS)  # the projector is behind by more than a read waits for
    shown = ("activity_id", "sport", "started_at", "distance_m", "distance_source", "elapsed_s", "moving_s", "points")
    return {name: seen[name] for name in shown} | {
        "device": seen["device"],
        "warnings": seen["warnings"],
        "notes": seen.get("notes"),
    }


async def _seen(client: Client, activity_id: str) -> Row | None:
    try:
        return await client.activity(activity_id)
    except Refused:
        return None


def with_errors(refusal: Refused) -> str:
    """What the server says, with what it says in detail."""
    return "; ".join([str(refusal), *refusal.problem.get("errors", [])])
