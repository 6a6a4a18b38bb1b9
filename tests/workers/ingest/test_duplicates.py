"""Recordings that are there already, whole or in part, and what becomes of them once the first is deleted."""

import re
from dataclasses import replace
from datetime import timedelta
from unittest.mock import ANY
from uuid import uuid4

import msgspec
import pytest

from domain.activity import session_activity_id
from domain.measures import ActivityId, Sport, UserId
from domain.recordings.reading import Reading
from domain.uploads import Fault, Verdict
from infra.bootstrap import Parts
from infra.reading_pool import ProcessReader
from tests.recordings import STARTED, fit, gpx
from tests.scenarios import ANNA, BEN
from tests.uploads import accept
from tests.workers.ingest.taking_in import RUN, FaultyReader, accepted, all_positions, deleted, ingest, lose_verdict
from workers.ingest.ingest import MAX_ATTEMPTS, UnderWay


def two_runs() -> bytes:
    """One file with a track of the morning and one of the evening."""
    morning, evening = gpx(1, 1), gpx(2, 1, STARTED + timedelta(hours=10))
    return morning.replace(b"</gpx>", evening[evening.index(b"<trk>") :])


async def test_each_run_of_a_file_is_an_activity(parts: Parts, reader: ProcessReader) -> None:
    activity_id = await accepted(parts, two_runs())
    verdict = await ingest(parts, reader).process(activity_id)
    assert verdict is not None
    assert verdict.activities == (session_activity_id(activity_id, 0), session_activity_id(activity_id, 1))
    again = await accepted(parts, two_runs())
    assert await ingest(parts, reader).process(again) == Verdict(
        status="duplicate", duplicate_of=activity_id, matched="bytes"
    )


async def test_a_file_that_was_taken_in_as_one_run_stays_one(parts: Parts, reader: ProcessReader) -> None:
    class OfBefore(FaultyReader):
        async def read(self, body: bytes, sport: Sport | None) -> Reading:
            reading = await super().read(body, sport)
            return replace(reading, sessions=reading.sessions[:1])

    activity_id = await accepted(parts, two_runs())
    await ingest(parts, OfBefore(reader)).process(activity_id)
    await lose_verdict(parts, activity_id)
    for one in (activity_id, await accepted(parts, two_runs())):
        verdict = await ingest(parts, reader).process(one)
        assert verdict is not None
        assert (verdict.duplicate_of or verdict.activities) == (activity_id if one != activity_id else (activity_id,))
    assert len(await all_positions(parts)) == 1


async def test_the_same_bytes_of_one_runner_are_one_activity(parts: Parts, reader: ProcessReader) -> None:
    first, second, of_ben = await accepted(parts), await accepted(parts), await accepted(parts, user_id=BEN)
    taking_in = ingest(parts, reader)
    await taking_in.process(first)
    duplicate, other = await taking_in.process(second), await taking_in.process(of_ben)
    assert duplicate == Verdict(status="duplicate", duplicate_of=first, matched="bytes")
    assert other is not None
    assert other.status == "ready"


async def test_a_duplicate_of_what_was_deleted_is_no_obstacle(parts: Parts, reader: ProcessReader) -> None:
    """A watch's file and a phone's are of one run; the watch's is deleted, and the phone's comes once more."""
    taking_in, (of_watch, of_phone) = ingest(parts, reader), (fit(81), gpx(81))
    watch, phone = await accepted(parts, of_watch), await accepted(parts, of_phone)
    await taking_in.process(watch)
    twin = Verdict(status="duplicate", duplicate_of=watch, matched="track")
    assert await taking_in.process(phone) == twin
    assert await taking_in.process(await accepted(parts, of_phone)) == twin  # that it is the phone's file says less
    await deleted(parts, watch)
    anew = await accepted(parts, of_phone)
    assert await taking_in.process(anew) == Verdict(status="ready", activities=(anew,), position=ANY)
    third = await taking_in.process(await accepted(parts, of_phone))
    assert third == Verdict(status="duplicate", duplicate_of=anew, matched="bytes")


def file_of(*tracks: bytes) -> bytes:
    """One file of several GPX files' tracks."""
    first, *others = tracks
    more = b"".join(one[one.index(b"<trk>") : one.index(b"</gpx>")] for one in others)
    return first.replace(b"</gpx>", more + b"</gpx>")


def of_sport(sport: bytes, recording: bytes) -> bytes:
    return re.sub(rb"<trk>(<type>[^<]*</type>)?", b"<trk><type>" + sport + b"</type>", recording)


UNTIMED = of_sport(b"hiking", re.sub(rb"<time>[^<]*</time>", b"", gpx(1, 1)))
MIDDAY, EVENING = (of_sport(b"running", gpx(number, 1, STARTED + timedelta(hours=5 * number))) for number in (1, 2))


async def test_what_a_file_left_to_a_run_that_was_deleted_may_be_had_with_the_file_anew(
    parts: Parts, reader: ProcessReader
) -> None:
    """Only that, also of runs whose tracks tell no times to compare."""
    taking_in, file = ingest(parts, reader), file_of(UNTIMED, MIDDAY, EVENING)
    alone, whole = await accepted(parts, MIDDAY), await accepted(parts, file)
    await taking_in.process(alone)
    untimed, evening = (session_activity_id(whole, index) for index in (0, 2))
    runs = untimed, alone, evening
    assert await taking_in.process(whole) == Verdict(
        status="ready", activities=(untimed, evening), position=ANY, runs=runs
    )
    by_bytes = Verdict(status="duplicate", duplicate_of=whole, matched="bytes")
    assert await taking_in.process(await accepted(parts, file)) == by_bytes
    for _ in range(2):  # who has the bytes now left runs to the one that had them before
        await deleted(parts, runs[1])
        anew = await accepted(parts, file)
        runs = untimed, session_activity_id(anew, 1), evening
        assert await taking_in.process(anew) == Verdict(status="ready", activities=runs[1:2], position=ANY, runs=runs)
        third = await taking_in.process(await accepted(parts, file))
        assert third == Verdict(status="duplicate", duplicate_of=anew, matched="bytes")


async def test_what_is_left_of_a_file_is_no_obstacle_to_what_was_deleted_of_its_own(
    parts: Parts, reader: ProcessReader
) -> None:
    taking_in, file = ingest(parts, reader), file_of(MIDDAY, EVENING)
    alone, whole = await accepted(parts, MIDDAY), await accepted(parts, file)
    await taking_in.process(alone)
    await taking_in.process(whole)
    await deleted(parts, session_activity_id(whole, 1))
    anew = await accepted(parts, file)
    evening = session_activity_id(anew, 1)
    assert await taking_in.process(anew) == Verdict(
        status="ready", activities=(evening,), position=ANY, runs=(alone, evening)
    )


async def test_of_a_file_whose_runs_all_came_before_each_may_be_had_anew_once_the_other_is_deleted(
    parts: Parts, reader: ProcessReader
) -> None:
    taking_in, file = ingest(parts, reader), file_of(MIDDAY, EVENING)
    midday, evening, whole = [await accepted(parts, body) for body in (MIDDAY, EVENING, file)]
    for one in (midday, evening):
        await taking_in.process(one)
    twin = Verdict(status="duplicate", duplicate_of=midday, matched="track", runs=(midday, evening))
    assert await taking_in.process(whole) == twin
    assert await taking_in.process(await accepted(parts, file)) == msgspec.structs.replace(twin, runs=())
    await deleted(parts, evening)
    anew = await accepted(parts, file)
    again = session_activity_id(anew, 1)
    assert await taking_in.process(anew) == Verdict(
        status="ready", activities=(again,), position=ANY, runs=(midday, again)
    )


async def test_an_upload_that_failed_does_not_keep_its_bytes_from_others(parts: Parts, reader: ProcessReader) -> None:
    first, second = await accept(parts.inbox, RUN), await accepted(parts)
    taking_in = ingest(parts, reader)
    await parts.claims.claim(ANNA, first.sha256, first.activity_id)
    for _ in range(MAX_ATTEMPTS + 1):  # what becomes of the first decides: until then nothing counts against the second
        with pytest.raises(UnderWay):
            await taking_in.process(second)
    await parts.inbox.close(first, Verdict(status="failed", fault=Fault("processing-failed", "it failed")))
    assert await taking_in.process(second) == Verdict(status="ready", activities=(second,), position=ANY)
    await parts.inbox.reopen(first)
    revived = await taking_in.process(first.activity_id)
    assert revived == Verdict(status="duplicate", duplicate_of=second, matched="bytes")


async def test_bytes_whose_upload_lost_them_are_free(parts: Parts, reader: ProcessReader) -> None:
    first, second = await accept(parts.inbox, RUN), await accepted(parts)
    await parts.claims.claim(ANNA, first.sha256, first.activity_id)
    async for left in parts.inbox.waiting():
        if left.activity_id == first.activity_id:
            await parts.inbox.forget(left)
    verdict = await ingest(parts, reader).process(second)
    assert verdict == Verdict(status="ready", activities=(second,), position=ANY)


async def test_bytes_that_nothing_is_known_of_any_more_are_free(parts: Parts, reader: ProcessReader) -> None:
    manifest = await accept(parts.inbox, RUN)
    await parts.claims.claim(ANNA, manifest.sha256, ActivityId(uuid4()))
    verdict = await ingest(parts, reader).process(manifest.activity_id)
    assert verdict == Verdict(status="ready", activities=(manifest.activity_id,), position=ANY)


async def test_bytes_that_another_upload_was_quicker_to_take_over_are_its(
    parts: Parts, reader: ProcessReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, hand_over = await accept(parts.inbox, RUN), parts.claims.hand_over

    async def second(user_id: UserId, sha256: str, holder: ActivityId, own: ActivityId) -> ActivityId:
        await hand_over(user_id, sha256, holder, quicker)
        return await hand_over(user_id, sha256, holder, own)

    nobody, quicker = ActivityId(uuid4()), await accepted(parts)
    await parts.claims.claim(ANNA, manifest.sha256, nobody)
    monkeypatch.setattr(parts.claims, "hand_over", second)
    with pytest.raises(UnderWay):
        await ingest(parts, reader).process(manifest.activity_id)
    assert await all_positions(parts) == []
