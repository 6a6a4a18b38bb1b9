"""What an app does when it is opened, and then when the server says: send what waits, ask what is new."""

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote
from uuid import UUID

from api.client.client import Client
from api.client.handing_in import hand_in
from api.client.outbox import Entry
from api.client.verdicts import Json, Refused

_BEGIN_ANEW: Final = frozenset({"resync-needed", "malformed-cursor"})  # the second after a mistake, or with another key
_SOONEST_POLL: Final = 5.0  # seconds, whatever is told: an app that asks without a pause is never right
_ABOUT_THE_APP: Final = frozenset({"token-refused", "client-too-old"})  # once that is mended, the same may be sent
_VERDICT_PAUSES: Final = (0.5, 1.0, 2.0, 4.0)  # seconds; what has no verdict then is asked for at the next time

# by place, what is not to be tried again this time: something on the way refused it, or the phone is full
Blocked = dict[int, Refused | sqlite3.OperationalError]


@dataclass(frozen=True)
class Synced:
    """The first screen, as `/v1/bootstrap` tells it, and the seconds until the server wants to be asked again."""

    screen: Json
    poll_in: float


async def sync(client: Client) -> Synced:
    """One call at launch, and whenever the server says: the first screen, and what changed since into the replica.

    The first time, and when the server cannot tell any more or does not know the cursor, everything is asked for, page
    by page. Killed at any moment, it goes on from the last page that was kept. A phone that is full keeps none: the
    screen is told all the same.
    """
    replica, user_id = client.phone.replica, client.user_id
    try:
        return await _sync(client)
    except Refused as refusal:
        if refusal.code not in _BEGIN_ANEW:
            raise
    try:
        replica.forget(user_id)
    except sqlite3.OperationalError:  # what is there must not be mixed with what would come
        return _synced(client, await client.get("/bootstrap", "next_poll_at"))
    return await _sync(client)


async def _sync(client: Client) -> Synced:
    cursor = client.phone.replica.cursor(client.user_id)
    if cursor is None:
        screen = await client.get("/bootstrap", "next_poll_at")
    else:
        screen = await client.get(f"/bootstrap?since={quote(cursor)}", "next_poll_at", "changes", "cursor", "has_more")
    with suppress(sqlite3.OperationalError):  # a phone that is full: asked for again the next time
        await _copy(client, None if cursor is None else screen)
    return _synced(client, screen)


async def _copy(client: Client, screen: Json | None) -> None:
    """Bring the replica up to date, from the first page of changes that came with a screen on, or from the start."""
    replica, user_id = client.phone.replica, client.user_id
    if screen is not None:
        replica.apply(user_id, screen["changes"], screen["cursor"])
    has_more = screen is None or screen["has_more"]
    while has_more:
        cursor = replica.cursor(user_id)
        path = "/changes" if cursor is None else f"/changes?since={quote(cursor)}"
        page = await client.get(path, "items", "next_cursor", "has_more")
        replica.apply(user_id, page["items"], page["next_cursor"])
        has_more = page["has_more"]


def _synced(client: Client, screen: Json) -> Synced:
    return Synced(screen, max(_SOONEST_POLL, client.seconds_until(screen["next_poll_at"])))


async def send_waiting(client: Client) -> int:
    """Send all that the signed-in runner's outbox has, one after the other; how many of it are settled by that.

    `Unreachable` when nobody answers, or the runner signs out meanwhile: what is left stays, in its order, for the next
    time. Whatever was sent and not struck off, because the app was killed in between, is sent again, and is the same
    request to the server.
    `Refused` when the session has ended or the app is too old: recordings are handed in all the same, if they can be.
    Also when something on the way refused an entry: that one waits, the others have been sent.
    `sqlite3.OperationalError` when the phone is full: all has been sent, and is not sent again as long as the app runs.
    """
    outbox, user_id, settled = client.phone.outbox, client.user_id, 0
    pauses, blocked = iter(_VERDICT_PAUSES), Blocked()
    with suppress(sqlite3.OperationalError):  # told at the end: what waits is sent all the same
        outbox.catch_up()
    while True:
        settled += await _send_all(client, blocked)
        handed_in = [entry for entry in outbox.entries(user_id, "handed-in") if entry.place not in blocked]
        judged = await _judge(client, handed_in, blocked)
        settled += judged
        if len(handed_in) == judged and outbox.next(user_id, besides=blocked) is None:
            break
        if not judged:
            if (pause := next(pauses, None)) is None:
                break
            await client.rest(pause)
    for reason in blocked.values():
        raise reason
    outbox.catch_up()
    return settled


async def _send_all(client: Client, blocked: Blocked) -> int:
    """Send what can be sent now; how many are settled by that."""
    outbox, user_id, settled = client.phone.outbox, client.user_id, 0
    held: Refused | None = None
    while (entry := outbox.next(user_id, recordings_only=held is not None, besides=blocked)) is not None:
        try:
            settled += await _send(client, entry)
        except Refused as refusal:
            if not refusal.code:
                blocked[entry.place] = refusal
            elif entry.is_recording:
                raise
            else:
                held = refusal
        except sqlite3.OperationalError as full:
            blocked[entry.place] = full
    if held is not None:
        raise held
    return settled


async def _send(client: Client, entry: Entry) -> bool:
    """Whether it is settled. `Refused` when that says nothing about the entry."""
    outbox = client.phone.outbox
    try:
        if entry.is_recording:
            await hand_in(client, UUID(entry.entity.rpartition("/")[2]), entry.body, **entry.query)
            outbox.handed_in(entry.place)
            return False
        await client.command(entry.method, entry.path, entry.body, entry.key)
    except Refused as refusal:
        if not refusal.code or refusal.code in _ABOUT_THE_APP:
            raise
        if entry.is_recording and refusal.code == "recording-closed":
            await _begin_anew(client, UUID(entry.entity.rpartition("/")[2]))
            return False
        outbox.refuse(entry.place, refusal.problem)
    else:
        outbox.drop(entry.place)
    return True


async def _begin_anew(client: Client, activity_id: UUID) -> None:
    """The server closed a recording with a part of it. The part goes first, or the whole may count as its duplicate."""
    await _delete(client, str(activity_id))  # waits until it is judged
    for part in (await _left_of(client, activity_id)).get("activities", ()):
        await _delete(client, part)
    client.phone.outbox.anew(client.user_id, activity_id)


async def _delete(client: Client, activity_id: str) -> None:
    try:
        await client.command("DELETE", f"/activities/{activity_id}", b"", "")
    except Refused as refusal:
        if not refusal.is_missing:
            raise


async def _judge(client: Client, handed_in: Iterable[Entry], blocked: Blocked) -> int:
    """Ask what has become of recordings; how many are settled. Bytes that failed stay on the phone."""
    judged = 0
    for entry in handed_in:
        try:
            judged += await _settle(client, entry)
        except Refused as refusal:
            if refusal.code:
                raise
            blocked[entry.place] = refusal
        except sqlite3.OperationalError as full:
            blocked[entry.place] = full
    return judged


async def _settle(client: Client, entry: Entry) -> bool:
    """Whether a recording has its verdict. `Refused` when that says nothing about the recording."""
    outbox, run = client.phone.outbox, UUID(entry.entity.rpartition("/")[2])
    try:
        state = await client.upload_state(run)
        activities = await _activities(client, run, state)
    except Refused as refusal:
        if not refusal.is_missing:
            raise
        outbox.retry(entry.place)  # the server went back to a backup from before it had the bytes
        return False
    match state["status"]:
        case "ready" | "duplicate" as status:
            outbox.settle(entry, activities, is_duplicate=status == "duplicate")
        case "failed":
            outbox.refuse(entry.place, state["problem"])
        case _:  # no verdict yet, or one that this app does not know
            return False
    return True


async def _activities(client: Client, run: UUID, state: Json) -> list[UUID]:
    """What a recording is; of a duplicate, what the first is, which may be a file of several sessions."""
    if (first := state.get("duplicate_of")) is not None:
        run, state = UUID(first), {} if state["matched"] == "track" else await _left_of(client, UUID(first))
    return [UUID(one) for one in state.get("activities", ())] or [run]


async def _left_of(client: Client, upload_id: UUID) -> Json:
    """What has become of an upload; empty when the server knows of none."""
    try:
        return await client.upload_state(upload_id)
    except Refused as refusal:
        if not refusal.is_missing:
            raise
        return {}
