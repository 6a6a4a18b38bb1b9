"""What was kept of deleted activities goes, and nothing else does."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection

from domain.activity import Activity
from domain.measures import ActivityId, UserId
from domain.uploads import Fault, Manifest, Verdict
from infra.bootstrap import Parts, now, open_parts
from infra.collection import FAILED_KEPT, KEPT, Collection
from infra.keys import MasterKeys
from infra.recompaction import COOLING
from infra.settings import Settings
from tests.instance_settings import settings_of
from tests.recordings import TCX, fit, gpx
from tests.scenarios import ANNA
from tests.uploads import ThreadReader, accept
from workers.ingest.ingest import Ingest

Turn = Callable[..., Awaitable[int]]


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_of(tmp_path, database_url, "redis://127.0.0.1:1")


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    async with open_parts(settings) as opened:
        yield opened


@pytest.fixture
def turn(settings: Settings, parts: Parts) -> Iterator[Turn]:
    """Over one connection, as in a worker: the lock of one that was closed just now may still be held."""
    with psycopg.connect(settings.database_url, autocommit=True) as connection:

        async def collect(later: timedelta = KEPT) -> int:
            bookkeeping = parts.claims, parts.attempts
            served = parts.streams, *bookkeeping, parts.inbox, parts.tracks, parts.chunks, parts.objects
            return await Collection(
                connection, MasterKeys(settings.master_keys), *served, clock=lambda: now() + later
            ).turn()

        yield collect


async def taken_in(parts: Parts, body: bytes) -> tuple[ActivityId, ...]:
    manifest = await accept(parts.inbox, body, activity_id=uuid4())
    served = parts.tracks, parts.claims, parts.attempts, parts.sessions
    verdict = await Ingest(parts.inbox, parts.streams, ThreadReader(), *served, clock=now).process(manifest.activity_id)
    assert verdict is not None
    return verdict.activities


async def deleted(parts: Parts, activity_id: ActivityId) -> None:
    await parts.streams.transact(Activity, activity_id, ANNA, lambda it: it.delete(ANNA, now()))


def kept(folder: Path) -> list[str]:
    return sorted(
        str(file.relative_to(folder))
        for kind in ("tracks", "details", "originals")
        for file in (folder / kind).rglob("*")
        if file.is_file()
    )


async def failures(parts: Parts) -> list[ActivityId]:
    return [failure.activity_id async for failure in parts.inbox.failures()]


async def failed(parts: Parts, body: bytes) -> Manifest:
    """Without a claim of the bytes."""
    manifest = await accept(parts.inbox, body, activity_id=uuid4())
    verdict = Verdict(status="failed", fault=Fault("session-ended", "It failed."))
    await parts.inbox.close(manifest, verdict)
    await parts.attempts.end(manifest, verdict)
    return manifest


def test_what_goes_and_what_is_packed_again_does_so_when_operators_are_told_it_does() -> None:
    """docs/operators/README.md and queue.md."""
    assert (KEPT.days, FAILED_KEPT.days, COOLING.days) == (7, 90, 7)


async def test_a_week_after_an_activity_was_deleted_nothing_is_kept_of_it(
    parts: Parts, turn: Turn, tmp_path: Path
) -> None:
    (gone,) = await taken_in(parts, fit(1, kilometres=1))
    (stays,) = await taken_in(parts, fit(2, kilometres=2))
    assert len(kept(tmp_path)) == 6
    await deleted(parts, gone)
    assert await turn(timedelta()) == 0
    assert len(kept(tmp_path)) == 6
    assert await turn() == 1
    left = kept(tmp_path)
    assert len(left) == 3
    assert f"tracks/{ANNA}/{stays}" in left
    assert await turn() == 0


async def test_what_cannot_be_read_is_tried_again_and_keeps_nobody_else_waiting(
    parts: Parts, turn: Turn, tmp_path: Path, database: Connection
) -> None:
    runs = [(await taken_in(parts, fit(number, kilometres=number)))[0] for number in (1, 2, 3)]
    for run in runs:
        await deleted(parts, run)
    renamed = "UPDATE stored_events SET topic = %s WHERE originator_id = %s AND topic = %s"
    newer, known = "activity.recorded@99", "activity.recorded@2"
    assert database.execute(renamed, (newer, runs[1], known)).rowcount == 1
    parts.streams._cache.clear()
    for done in (2, 1):  # the last one is done once more
        assert await turn() == done
        assert [file.partition("/")[0] for file in kept(tmp_path)] == ["originals"]
    database.execute(renamed, (known, runs[1], newer))
    assert await turn() == 2
    assert kept(tmp_path) == []
    assert await turn() == 0


async def test_a_damaged_verdict_keeps_nobody_else_waiting(parts: Parts, turn: Turn, tmp_path: Path) -> None:
    runs = [(await taken_in(parts, fit(number, kilometres=number)))[0] for number in (1, 2, 3)]
    for run in runs:
        await deleted(parts, run)
    (verdict,) = (tmp_path / "verdicts").rglob(str(runs[0]))
    whole = verdict.read_bytes()
    verdict.write_bytes(b"{")
    for _ in range(2):
        assert await turn() == 2
        assert [file.partition("/")[0] for file in kept(tmp_path)] == ["originals"]
    verdict.write_bytes(whole)
    assert await turn() == 3
    assert kept(tmp_path) == []


@pytest.mark.parametrize("kind", ["manifests", "verdicts"])
async def test_what_is_damaged_of_a_failed_upload_keeps_nobody_else_waiting(
    parts: Parts, turn: Turn, tmp_path: Path, kind: str
) -> None:
    for body in (b"<gpx/>", b"no run at all"):
        assert await taken_in(parts, body) == ()
    first, _ = await failures(parts)
    (damaged,) = (tmp_path / kind).rglob(str(first))
    whole = damaged.read_bytes()
    damaged.write_bytes(b"{")
    await turn(FAILED_KEPT + timedelta(days=1))
    assert await failures(parts) == [first]
    assert len(kept(tmp_path)) == 1
    damaged.write_bytes(whole)
    await turn(FAILED_KEPT + timedelta(days=1))
    assert kept(tmp_path) == []


async def test_what_was_read_in_vain_is_not_read_again(parts: Parts, turn: Turn) -> None:
    (stays,) = await taken_in(parts, fit(3, kilometres=1))
    last = await parts.streams._log.last()
    assert await turn() == 0
    assert await parts.objects.get("collection/position") == str(last).encode()
    await deleted(parts, stays)
    assert await turn(timedelta()) == 0  # too young
    assert await turn() == 1


def two_sessions() -> bytes:
    second = TCX.replace(b"2026-05-02T06", b"2026-05-02T09").split(b"<Activities>")[1].split(b"</Activities>")[0]
    return TCX.replace(b"</Activities>", second + b"</Activities>")


async def test_the_file_stays_while_one_of_its_sessions_does(parts: Parts, turn: Turn, tmp_path: Path) -> None:
    one, other = await taken_in(parts, two_sessions())
    await deleted(parts, one)
    assert await turn() == 1
    assert [file.partition("/")[0] for file in kept(tmp_path)] == ["details", "originals", "tracks"]
    await deleted(parts, other)
    assert await turn() == 1
    assert kept(tmp_path) == []


async def test_the_file_stays_for_a_session_of_its_first_upload_when_another_has_its_bytes(
    parts: Parts, turn: Turn, tmp_path: Path
) -> None:
    (alone,) = await taken_in(parts, TCX)
    (second,) = await taken_in(parts, two_sessions())
    await deleted(parts, alone)
    (first,) = await taken_in(parts, two_sessions())
    await deleted(parts, first)
    assert await turn() == 2
    assert [file.partition("/")[0] for file in kept(tmp_path)] == ["details", "originals", "tracks"]
    await deleted(parts, second)
    assert await turn() == 1
    assert kept(tmp_path) == []


async def test_the_file_does_not_stay_for_a_run_of_another_recording(parts: Parts, turn: Turn, tmp_path: Path) -> None:
    await taken_in(parts, TCX)
    before = kept(tmp_path)
    (second,) = await taken_in(parts, two_sessions())
    await deleted(parts, second)
    assert await turn() == 1
    assert kept(tmp_path) == before


async def test_the_file_stays_when_it_was_handed_in_anew(parts: Parts, turn: Turn, tmp_path: Path) -> None:
    (gone,) = await taken_in(parts, fit(1, kilometres=1))
    await deleted(parts, gone)
    (anew,) = await taken_in(parts, fit(1, kilometres=1))
    assert await turn() == 1
    assert kept(tmp_path)[0] == f"details/{ANNA}/{anew}"
    assert len(kept(tmp_path)) == 3


async def test_the_file_stays_for_another_try_of_an_upload_that_failed(
    parts: Parts, turn: Turn, tmp_path: Path
) -> None:
    (gone,) = await taken_in(parts, fit(1, kilometres=1))
    await deleted(parts, gone)
    anew = await accept(parts.inbox, fit(1, kilometres=1), activity_id=uuid4())
    await parts.claims.hand_over(ANNA, anew.sha256, gone, anew.activity_id)
    await parts.inbox.close(anew, Verdict(status="failed", fault=Fault("processing-failed", "It failed.")))
    assert await turn() == 1
    assert kept(tmp_path) == [f"originals/{ANNA}/{anew.sha256}"]


async def test_with_an_activity_goes_what_was_the_same_run(parts: Parts, turn: Turn, tmp_path: Path) -> None:
    (first,) = await taken_in(parts, fit(81))
    for _ in range(2):  # that it is the phone's file again says less
        assert await taken_in(parts, gpx(81)) == ()
    assert [key.partition("/")[0] for key in kept(tmp_path)] == ["details", "originals", "originals", "tracks"]
    await deleted(parts, first)
    assert await turn() == 1
    assert kept(tmp_path) == []
    assert not [file for file in (tmp_path / "twins").rglob("*") if file.is_file()]


async def test_what_was_the_same_run_stays_when_it_was_handed_in_anew(parts: Parts, turn: Turn, tmp_path: Path) -> None:
    (first,) = await taken_in(parts, fit(81))
    await taken_in(parts, gpx(81))
    await deleted(parts, first)
    (anew,) = await taken_in(parts, gpx(81))
    assert await turn() == 1
    assert [key.partition("/")[0] for key in kept(tmp_path)] == ["details", "originals", "tracks"]
    await deleted(parts, anew)
    assert await turn() == 1
    assert kept(tmp_path) == []


async def test_what_was_the_same_run_stays_for_the_run_that_was_handed_in_anew_with_it(
    parts: Parts, turn: Turn, tmp_path: Path
) -> None:
    (gone,) = await taken_in(parts, fit(81))
    await taken_in(parts, gpx(81))
    await deleted(parts, gone)
    (anew,) = await taken_in(parts, fit(81))
    assert await taken_in(parts, gpx(81)) == ()
    before = kept(tmp_path)
    assert await turn() == 1
    assert kept(tmp_path) == [file for file in before if not file.endswith(str(gone))]
    assert [key.partition("/")[0] for key in kept(tmp_path)] == ["details", "originals", "originals", "tracks"]
    await deleted(parts, anew)
    assert await turn() == 1
    assert kept(tmp_path) == []


async def test_what_failed_is_kept_for_three_months_and_so_is_what_an_operator_dropped(
    parts: Parts, turn: Turn, tmp_path: Path
) -> None:
    for body in (b"<gpx/>", b"no run at all"):
        assert await taken_in(parts, body) == ()
    listed = await parts.queue_watch.failed()
    await parts.attempts.let_go(ActivityId(listed[0].activity_id))
    await turn(FAILED_KEPT - timedelta(days=1))
    assert len(kept(tmp_path)) == 2
    await turn(FAILED_KEPT + timedelta(days=1))
    assert kept(tmp_path) == []
    assert await parts.queue_watch.failed() == []
    assert await failures(parts) == []


async def test_what_failed_once_and_became_an_activity_stays(parts: Parts, turn: Turn, tmp_path: Path) -> None:
    manifest = await accept(parts.inbox, fit(1, kilometres=1), activity_id=uuid4())
    await parts.inbox.close(manifest, Verdict(status="failed", fault=Fault("processing-failed", "It failed.")))
    await parts.inbox.reopen(manifest)
    await turn(FAILED_KEPT + timedelta(days=1))  # it waits
    assert await failures(parts) == [manifest.activity_id]
    served = parts.tracks, parts.claims, parts.attempts, parts.sessions
    await Ingest(parts.inbox, parts.streams, ThreadReader(), *served, clock=now).process(manifest.activity_id)
    await turn(FAILED_KEPT + timedelta(days=1))
    assert await failures(parts) == []
    assert f"originals/{ANNA}/{manifest.sha256}" in kept(tmp_path)


@pytest.mark.parametrize("claimed", ["first", "second", None])
async def test_what_failed_long_ago_leaves_the_same_bytes_to_what_failed_since(
    parts: Parts, turn: Turn, tmp_path: Path, claimed: str | None
) -> None:
    made = {"first": await failed(parts, b"<gpx/>"), "second": await failed(parts, b"<gpx/>")}
    if claimed is not None:
        await parts.claims.claim(ANNA, made[claimed].sha256, made[claimed].activity_id)
    (marker,) = (tmp_path / "failures").glob(f"{made['first'].activity_id}*")
    earlier = now() - timedelta(days=30)
    os.utime(marker, (earlier.timestamp(),) * 2)
    await turn(FAILED_KEPT - timedelta(days=15))
    assert kept(tmp_path) == [f"originals/{ANNA}/{made['first'].sha256}"]
    assert await failures(parts) == [made["second"].activity_id]
    assert [listed.activity_id for listed in await parts.queue_watch.failed()] == await failures(parts)
    await turn(FAILED_KEPT + timedelta(days=1))
    assert (kept(tmp_path), await failures(parts)) == ([], [])


async def test_what_failed_again_is_kept_for_three_months_from_then(parts: Parts, turn: Turn, tmp_path: Path) -> None:
    manifest = await failed(parts, b"<gpx/>")
    (marker,) = (tmp_path / "failures").glob(f"{manifest.activity_id}*")
    earlier = now() - timedelta(days=80)
    os.utime(marker, (earlier.timestamp(),) * 2)
    await parts.inbox.reopen(manifest)
    await parts.inbox.close(manifest, Verdict(status="failed", fault=Fault("session-ended", "It failed again.")))
    await turn(timedelta(days=15))
    assert kept(tmp_path) == [f"originals/{ANNA}/{manifest.sha256}"]
    assert await failures(parts) == [manifest.activity_id]


async def test_what_failed_before_that_was_noted_is_noted_now(parts: Parts, turn: Turn, tmp_path: Path) -> None:
    manifest = await failed(parts, b"<gpx/>")
    (marker,) = (tmp_path / "failures").glob(f"{manifest.activity_id}*")
    marker.unlink()
    await turn(FAILED_KEPT + timedelta(days=1))
    assert await failures(parts) == [manifest.activity_id]
    await turn(FAILED_KEPT + timedelta(days=1))
    assert (kept(tmp_path), await failures(parts)) == ([], [])
    assert await parts.queue_watch.failed() == []


async def test_what_failed_is_tried_again_while_it_is_to_be_removed(
    parts: Parts, turn: Turn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = await failed(parts, b"<gpx/>")
    alone = parts.claims.alone

    @asynccontextmanager
    async def reopened(user_id: UserId) -> AsyncIterator[bool]:
        await parts.inbox.reopen(manifest)
        async with alone(user_id) as got:
            yield got

    monkeypatch.setattr(parts.claims, "alone", reopened)
    await turn(FAILED_KEPT + timedelta(days=1))
    assert len(kept(tmp_path)) == 1
    assert await failures(parts) == [manifest.activity_id]


async def test_what_failed_stays_while_another_worker_is_at_its_runners_recordings(
    parts: Parts, turn: Turn, tmp_path: Path
) -> None:
    manifest = await failed(parts, b"<gpx/>")
    async with parts.claims.alone(ANNA):
        await turn(FAILED_KEPT + timedelta(days=1))
        assert kept(tmp_path) == [f"originals/{ANNA}/{manifest.sha256}"]
        assert await failures(parts) == [manifest.activity_id]
    await turn(FAILED_KEPT + timedelta(days=1))
    assert (kept(tmp_path), await failures(parts)) == ([], [])


async def test_one_worker_at_a_time_removes_what_failed(
    settings: Settings, parts: Parts, turn: Turn, tmp_path: Path
) -> None:
    await failed(parts, b"<gpx/>")
    with psycopg.connect(settings.database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('cairn collection'))")
        await turn(FAILED_KEPT + timedelta(days=1))
        assert len(kept(tmp_path)) == 1
        other.execute("SELECT pg_advisory_unlock_all()")
        await turn(FAILED_KEPT + timedelta(days=1))
    assert kept(tmp_path) == []
