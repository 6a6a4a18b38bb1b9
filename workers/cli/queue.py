"""`cairn queue`: uploads that wait, and those that became no activity."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import click
import msgspec

from domain.errors import StoreUnavailable
from domain.measures import ActivityId
from domain.streams import OwnerErased, StreamUnreadable
from domain.uploads import Fault as UploadFault
from domain.uploads import Verdict
from infra.bootstrap import Parts, open_parts
from infra.faults import Fault
from infra.queue_watch import Failed, QueueState, Tried
from infra.settings import load_settings
from workers.cli.connecting import connected
from workers.cli.noting import noted
from workers.cli.options import data_option, json_option, reason_option, required_reason_option
from workers.cli.tables import duration

_LISTED: Final = 100

T = TypeVar("T")


@click.group("queue")
def queue_command() -> None:
    """Look at the queue of uploads, and have failed ones tried again.

    \b
      cairn queue status                          how many wait, since when, and how many failed
      cairn queue list                            each of them, with what went wrong
      cairn queue retry ID...                     try failed uploads again
      cairn queue retry --code recording-unreadable    all of a kind, as after an update that reads more files
      cairn queue drop ID... --reason "..."       take uploads out, or off the list; bytes are kept for 90 days

    Uploads wait in the object store: what Valkey holds are hints, and losing them loses nothing.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are


@queue_command.command("status")
@json_option
@data_option
def status_command(*, as_json: bool, data: Path) -> None:
    """Print counts and the age of the oldest. Exit code 1 while a server that would know is away."""
    state = _run(data, lambda parts: parts.queue_watch.state())
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(state), indent=2))
    else:
        for line in _state_lines(state):
            click.echo(line)
    sys.exit(1 if None in {state.waiting, state.hints} or state.failed is None else 0)


def _state_lines(state: QueueState) -> Iterator[str]:
    if state.waiting is None:
        yield "waiting  unknown: the object store does not answer"
    else:
        oldest = f", the oldest for {duration(state.oldest_age_s or 0.0)}" if state.waiting else ""
        yield f"waiting  {state.waiting:,}{oldest}"
    if state.hints is None:
        yield "hints    unknown: Valkey does not answer; sweeps find what waits"
    else:
        yield f"hints    {state.hints:,}, {state.taken:,} of them taken by a worker"
    if state.failed is None:
        yield "failed   unknown: Postgres does not answer; nothing is taken in until it does"
    else:
        told = ", ".join(f"{count:,} {code}" for code, count in state.failed.items())
        yield f"failed   {told or 'none'}"


@queue_command.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=_LISTED, show_default=True, help="Of each kind.")
@click.option("--code", "codes", multiple=True, help="Only uploads that failed with this code.")
@json_option
@data_option
def list_command(*, limit: int, codes: tuple[str, ...], as_json: bool, data: Path) -> None:
    """Print uploads that wait, the oldest first, and those that failed, the latest first."""

    async def look(parts: Parts) -> tuple[Sequence[Tried], Sequence[Failed]]:
        waiting = [] if codes else (await parts.queue_watch.tried())[:limit]
        return waiting, await parts.queue_watch.failed(codes, limit)

    waiting, failed = _run(data, look)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins({"waiting": waiting, "failed": failed}), indent=2, default=str))
        return
    for one in waiting:
        tried = f", tried {one.attempts} times: {one.reason}" if one.reason else ""
        click.echo(f"{one.activity_id}  waiting since {_time(one.since)}{tried}")
    for lost in failed:
        tried = f" (tried {lost.attempts} times)" if lost.attempts > 1 else ""
        click.echo(f"{lost.activity_id}  {lost.code} at {_time(lost.died_at)}{tried}: {lost.reason}")
    if not waiting and not failed:
        click.echo(f"nothing failed with {' or '.join(codes)}" if codes else "nothing waits, nothing failed")


@queue_command.command("retry")
@click.argument("ids", nargs=-1, type=click.UUID)
@click.option("--code", "codes", multiple=True, help="All that failed with this code; several may be named.")
@reason_option
@data_option
def retry_command(*, ids: tuple[UUID, ...], codes: tuple[str, ...], reason: str, data: Path) -> None:
    """Have failed uploads tried again: their verdict is taken back, and the app sees them as processing."""
    if not ids and not codes:
        raise Fault("say which: activity ids, or --code with what they failed with (cairn queue list shows both).")

    async def retry(parts: Parts) -> tuple[int, int]:
        chosen = [*ids, *(lost.activity_id for lost in (await parts.queue_watch.failed(codes) if codes else ()))]
        if not chosen:
            raise Fault(f"nothing failed with {' or '.join(codes)}: cairn queue status shows with what uploads did.")
        done = 0
        for activity_id in chosen:
            trouble = await _retried(parts, ActivityId(activity_id))
            click.echo(f"{activity_id}  {trouble or 'waits to be tried again'}")
            done += trouble is None
        return len(chosen) - done, len(chosen)

    left = _noted(data, "queue retry", {"ids": ids, "codes": codes, "reason": reason}, retry)
    sys.exit(1 if left else 0)


async def _retried(parts: Parts, activity_id: ActivityId) -> str | None:
    manifest, verdict = await parts.inbox.manifest(activity_id), await parts.inbox.verdict(activity_id)
    if manifest is None:
        return "no upload has this id"
    if verdict is not None and verdict.status != "failed":
        return f"it is {verdict.status}: there is nothing to try again"
    try:
        await parts.inbox.reopen(manifest)
    except OwnerErased:
        return "its runner was erased"
    except StreamUnreadable as fault:
        return str(fault)
    await parts.queue.add(activity_id)
    return None


@queue_command.command("drop")
@click.argument("ids", nargs=-1, type=click.UUID, required=True)
@required_reason_option("Why: kept in the operators' log, and told to the runner's app.")
@data_option
def drop_command(*, ids: tuple[UUID, ...], reason: str, data: Path) -> None:
    """Take uploads that wait out of the queue: the app sees them as failed with `upload-dropped`.

    The bytes are kept for 90 days.

    A failed upload is no longer listed, and the app goes on seeing why it failed: `upload-dropped` would have it sent
    again. `retry` takes either back, and so does the app when it sends one once more that was dropped.
    """

    async def drop(parts: Parts) -> tuple[int, int]:
        left = 0
        for activity_id in ids:
            trouble, done = await _dropped(parts, ActivityId(activity_id), reason)
            click.echo(f"{activity_id}  {trouble or done}")
            left += trouble is not None
        return left, len(ids)

    left = _noted(data, "queue drop", {"ids": ids, "reason": reason}, drop)
    sys.exit(1 if left else 0)


async def _dropped(parts: Parts, activity_id: ActivityId, reason: str) -> tuple[str | None, str]:
    """What stood in the way, and else what was done."""
    manifest, verdict = await parts.inbox.manifest(activity_id), await parts.inbox.verdict(activity_id)
    if manifest is None:
        return "no upload has this id", ""
    done = "dropped"
    if verdict is None:
        dropped = Verdict(status="failed", fault=UploadFault("upload-dropped", f"An operator dropped it: {reason}"))
        await parts.inbox.close(manifest, dropped)
        await parts.attempts.end(manifest, dropped)
    elif not await parts.queue_watch.known(activity_id):
        return f"it is {verdict.status}: there is nothing to drop", ""
    elif verdict.fault is not None:
        done = f"off the list: the app goes on seeing {verdict.fault.code}"
    await parts.attempts.let_go(activity_id)
    return None, done


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _noted(
    data: Path, action: str, arguments: dict[str, Any], work: Callable[[Parts], Awaitable[tuple[int, int]]]
) -> int:
    """How many of how many were left, of which the first is returned, and both are noted."""
    with connected(load_settings(data, os.environ)) as connection, noted(connection, action, arguments) as told:
        left, chosen = _run(data, work)
        if left:
            told.outcome = f"not done for {left} of {chosen}"
        return left


def _run(data: Path, work: Callable[[Parts], Awaitable[T]]) -> T:
    settings = load_settings(data, os.environ)

    async def run() -> T:
        async with open_parts(settings) as parts:
            return await work(parts)

    try:
        return asyncio.run(run())
    except StoreUnavailable as away:
        raise Fault(f"a server is away: is the instance up (./cairn up)? ({away.__cause__ or away})") from None
