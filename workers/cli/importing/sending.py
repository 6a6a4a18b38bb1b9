"""One recording from its bytes to its verdict, with what its export says of it."""

import asyncio
import time
from typing import Any, Final
from uuid import UUID, uuid5

from api.client import Client, Refused, Unreachable
from domain.measures import Visibility
from domain.uploads import PASSING
from workers.cli.importing.entries import Told

NAMESPACE: Final = UUID("6e7b0a52-2f0c-5a37-9c55-0c3a8f6f1d10")  # of imported activities' ids; never changes
_POLL_SECONDS: Final = 0.2
_VERDICT_SECONDS: Final = 300.0
_SHOWN_SECONDS: Final = 20.0  # from a verdict until its activity can be read

Row = dict[str, Any]


def imported_id(user_id: UUID | None, sha256: str) -> UUID:
    """Of the activity that these bytes are of this runner."""
    return uuid5(NAMESPACE, f"{user_id}/{sha256}")


async def bring(client: Client, body: bytes, sha256: str, told: Told, visibility: Visibility | None) -> Row:
    """What came of it. The id hangs on the bytes: brought again, they meet the same activity.

    Title and sport go along with the bytes; notes follow when the activity is there. What the runner has written since
    is not touched: bytes that the server has are not sent again, and notes are written only where there are none. Bytes
    that failed for a reason that may pass are sent once more; when they fail so again, they count as not sent.
    """
    activity_id = imported_id(client.user_id, sha256)

    async def upload() -> Row:
        return await client.upload(activity_id, body, title=told.title, sport=told.sport, visibility=visibility)

    try:
        found = await _state(client, activity_id)
        state = await _verdict(client, activity_id, found or await upload())
        if again := _may_pass(state):
            state = await _verdict(client, activity_id, await upload())
        return await _row(client, state, told, known=found is not None and not again)
    except Refused as refusal:
        about_the_file = refusal.code.startswith("recording-") or refusal.code == "body-too-large"
        return {"verdict": "failed" if about_the_file else "not sent", "note": with_errors(refusal)}
    except Unreachable as silence:
        return {"verdict": "not sent", "note": str(silence)}


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
            what = "run" if state.get("matched") == "track" else "bytes"
            return _told_row("duplicate", [f"the same {what} as {of}", *remarks], duplicate_of=of)
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
