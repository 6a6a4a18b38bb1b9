"""One upload from manifest to verdict, and the loop that leaves none behind, over real servers."""

import asyncio
import math
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY
from uuid import uuid4
from zoneinfo import ZoneInfo

import msgspec
import pytest

from domain.activity import Activity, session_activity_id
from domain.events.measured import Measured
from domain.measures import ActivityId, Sport, UserId, Visibility
from domain.recordings.reading import ReaderFailed, Reading
from domain.streams import StreamUnreadable
from domain.uploads import Cover, Fault, Verdict
from domain.user import Profile, User, user_stream_id
from infra.bootstrap import Parts, now, open_parts
from infra.queue_watch import QueueWatch
from infra.reading_pool import ProcessReader
from tests.instance_settings import settings_of
from tests.recordings import STARTED, fit, gpx
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2
from tests.uploads import accept, waiting
from workers.ingest.ingest import MAX_ATTEMPTS, Ingest, UnderWay, dated
from workers.ingest.loop import IngestLoop
from workers.ingest.ports import Reader

RUN = fit(1, kilometres=1)


class CrashingReader:
    """What a file looks like that kills its reader each time."""

    async def read(self, _body: bytes, _sport: Sport | None) -> Reading:
        raise ReaderFailed("the reading process died")


class FaultyReader:
    """One body meets a programming error; the others are read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def read(self, body: bytes, sport: Sport | None) -> Reading:
        if body == b"poison":
            raise IndexError("a fault of our own")
        return await self._reader.read(body, sport)


@pytest.fixture
async def parts(fresh_database: Callable[[], str], redis_url: str, tmp_path: Path) -> AsyncIterator[Parts]:
    settings = settings_of(tmp_path, fresh_database(), redis_url)
    async with open_parts(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
async def reader() -> AsyncIterator[ProcessReader]:
    made = ProcessReader()
    yield made
    made.close()


def ingest(parts: Parts, reader: Reader) -> Ingest:
    return Ingest(
        parts.inbox, parts.streams, reader, parts.tracks, parts.claims, parts.attempts, parts.sessions, clock=now
    )


async def accepted(parts: Parts, body: bytes = RUN, **more: Any) -> ActivityId:
    """An upload in the inbox."""
    return (await accept(parts.inbox, body, **more)).activity_id


async def test_an_upload_becomes_an_activity(parts: Parts, reader: ProcessReader) -> None:
    activity_id = await accepted(parts, cover=Cover(received_at=MAY_1, title="Before work"), sport=Sport.HIKING)
    verdict = await ingest(parts, reader).process(activity_id)
    assert verdict is not None
    assert (verdict.status, verdict.activities) == ("ready", (activity_id,))
    activity = await parts.streams.load(Activity, activity_id)
    assert (activity.title, activity.user_id) == ("Before work", ANNA)
    assert activity.tally is not None
    assert activity.tally.sport is Sport.HIKING
    assert activity.tally.local_date == STARTED.date()
    assert await waiting(parts.inbox) == []
    track = await parts.tracks.columns(ANNA, activity_id, None, None)
    assert track is not None
    assert len(track["t"]) > 100


async def test_the_sport_that_is_told_is_the_analysis_s_too(parts: Parts, reader: ProcessReader) -> None:
    told = []

    class Listening(FaultyReader):
        async def read(self, body: bytes, sport: Sport | None) -> Reading:
            told.append(sport)
            return await super().read(body, sport)

    taking_in = ingest(parts, Listening(reader))
    for sport in (Sport.HIKING, None):
        await taking_in.process(await accepted(parts, sport=sport))
    assert told == [Sport.HIKING, None]


async def test_the_profile_decides_what_the_upload_leaves_open(parts: Parts, reader: ProcessReader) -> None:
    wish = Profile(display_name="Anna", time_zone="Pacific/Auckland", default_visibility=Visibility.FOLLOWERS)
    stream = user_stream_id(ANNA)
    await parts.streams.transact(User, stream, ANNA, lambda user: user.register("Anna", MAY_1))
    await parts.streams.transact(User, stream, ANNA, lambda user: user.change_profile(wish, MAY_1))
    activity_id = await accepted(parts, fit(1, 1, STARTED + timedelta(hours=6)))
    await ingest(parts, reader).process(activity_id)
    activity = await parts.streams.load(Activity, activity_id)
    assert activity.visibility is Visibility.FOLLOWERS
    assert activity.tally is not None
    assert activity.tally.local_date == STARTED.date() + timedelta(days=1)  # 13:00 UTC is 01:00 there


@pytest.mark.parametrize(
    ("zone", "wish", "handed_in"),
    [
        ("Pacific/Pago_Pago", Visibility.PRIVATE, MAY_2),
        ("Pacific/Kiritimati", Visibility.PUBLIC, MAY_2 + timedelta(hours=1)),
    ],
)
async def test_a_profile_that_changes_while_an_upload_waits_counts_for_later_ones(
    parts: Parts, reader: ProcessReader, zone: str, wish: Visibility, handed_in: datetime
) -> None:
    stream = user_stream_id(ANNA)
    before = Profile(display_name="Anna", time_zone="Pacific/Pago_Pago", default_visibility=Visibility.PRIVATE)
    after = Profile(display_name="Anna", time_zone="Pacific/Kiritimati", default_visibility=Visibility.PUBLIC)
    await parts.streams.transact(User, stream, ANNA, lambda user: user.register("Anna", MAY_1))
    await parts.streams.transact(User, stream, ANNA, lambda user: user.change_profile(before, MAY_1))
    activity_id = await accepted(parts, cover=Cover(received_at=handed_in))
    changed_at = MAY_2 + timedelta(minutes=1)
    await parts.streams.transact(User, stream, ANNA, lambda user: user.change_profile(after, changed_at))
    await ingest(parts, reader).process(activity_id)
    activity = await parts.streams.load(Activity, activity_id)
    assert activity.visibility is wish
    assert activity.tally is not None
    assert activity.tally.local_date == STARTED.astimezone(ZoneInfo(zone)).date()


async def test_without_a_zone_in_the_profile_the_recording_s_own_offset_decides_the_day(
    parts: Parts, reader: ProcessReader
) -> None:
    run = b'{"started_at": "2026-05-01T00:30:00+05:30", "points": {"t": [0, 60], "distance_m": [0, 200]}}'
    activity_id = await accepted(parts, run)
    await ingest(parts, reader).process(activity_id)
    activity = await parts.streams.load(Activity, activity_id)
    assert activity.tally is not None
    assert activity.tally.local_date == date(2026, 5, 1)  # 19:00 UTC of the day before


@pytest.mark.parametrize(("hours", "codes"), [(-1, ["no-zone"]), (20, ["no-zone"]), (30, ["no-zone", "clock-ahead"])])
def test_a_run_from_the_future_is_taken_in_and_told(hours: int, codes: list[str]) -> None:
    found = dated(Measured(warnings=("no-zone: taken as UTC",)), MAY_1 + timedelta(hours=hours), MAY_1)
    assert [warning.partition(":")[0] for warning in found.warnings] == codes


async def test_a_title_that_shows_nothing_is_none(parts: Parts, reader: ProcessReader) -> None:
    body = gpx(3).replace(b"<trk>", "<trk><name>\u200b\u2060</name>".encode(), 1)
    activity_id = await accepted(parts, body)
    await ingest(parts, reader).process(activity_id)
    assert (await parts.streams.load(Activity, activity_id)).title == "Morning run"


async def test_processing_again_or_at_the_same_time_adds_nothing(parts: Parts, reader: ProcessReader) -> None:
    activity_id = await accepted(parts)
    one, other = ingest(parts, reader), ingest(parts, reader)
    both = await asyncio.gather(one.process(activity_id), other.process(activity_id), return_exceptions=True)
    assert {type(outcome) for outcome in both} == {Verdict, UnderWay}
    again = await one.process(activity_id)
    assert again is not None
    assert again.status == "ready"
    assert len(await all_positions(parts)) == 1


async def all_positions(parts: Parts) -> list[int]:
    async with parts.read_models.connection() as connection:
        found = await connection.execute("SELECT notification_id FROM stored_events")
        return [position async for (position,) in found]


async def lose_verdict(parts: Parts, activity_id: ActivityId) -> None:
    """As if the worker had been cut off before it."""
    await parts.objects.delete(f"verdicts/{activity_id.hex[:2]}/{activity_id}")
    manifest = await parts.inbox.manifest(activity_id)
    assert manifest is not None
    await parts.inbox.reopen(manifest)


async def test_cut_off_before_the_verdict_the_next_try_ends_the_same(parts: Parts, reader: ProcessReader) -> None:
    activity_id = await accepted(parts)
    first = await ingest(parts, reader).process(activity_id)
    await lose_verdict(parts, activity_id)
    again = await ingest(parts, reader).process(activity_id)
    assert first is not None
    assert again is not None
    assert (again.status, again.activities) == (first.status, first.activities)
    assert len(await all_positions(parts)) == 1


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


async def deleted(parts: Parts, activity_id: ActivityId) -> None:
    await parts.streams.transact(Activity, activity_id, ANNA, lambda it: it.delete(ANNA, now()))


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


async def test_the_loop_is_free_while_two_tracks_are_compared(
    parts: Parts, reader: ProcessReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared_in = []

    def compare(*_of_both: object) -> bool:
        compared_in.append(threading.current_thread())
        return True

    monkeypatch.setattr("workers.ingest.ingest.same_run", compare)
    taking_in = ingest(parts, reader)
    for body in (fit(81), gpx(81)):
        await taking_in.process(await accepted(parts, body))
    assert len(compared_in) == 1
    assert compared_in[0] is not threading.current_thread()


async def test_a_worker_that_froze_at_one_runners_recordings_keeps_no_other_runner_waiting(
    parts: Parts, reader: ProcessReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    hers, first = [await accepted(parts, fit(number, kilometres=1)) for number in range(12)], True
    reads: list[bytes] = []

    class Counting(FaultyReader):
        async def read(self, body: bytes, sport: Sport | None) -> Reading:
            reads.append(body)
            return await super().read(body, sport)

    taking_in = ingest(parts, Counting(reader))
    monkeypatch.setattr("workers.ingest.ingest._HELD_SECONDS", 3600.0)
    taking_in._held[UserId(uuid4())] = -math.inf  # long ago
    async with parts.claims.alone(ANNA):
        for _ in range(2):
            for activity_id in hers:
                with pytest.raises(UnderWay):
                    await taking_in.process(activity_id, first=first)
            first = False
        assert len(reads) == 1  # the others did not come as far
        assert await taking_in.process(await accepted(parts, user_id=BEN)) == Verdict(
            status="ready", activities=ANY, position=ANY
        )
    assert set(taking_in._held) == {ANNA}
    tried = await QueueWatch(parts.inbox, parts.queue, parts.read_models, now).tried()
    assert [one.attempts for one in tried] == [0] * len(hers)
    taking_in._held[ANNA] = 0.0  # some seconds later
    verdicts = [await taking_in.process(activity_id) for activity_id in hers]
    assert {verdict.status for verdict in verdicts if verdict} == {"ready", "duplicate"}  # they are of one time
    assert len(reads) == len(hers) + 2


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


@pytest.mark.parametrize("first", [True, False])
async def test_a_key_that_is_unusable_for_a_while_costs_no_upload(
    parts: Parts, reader: ProcessReader, *, first: bool
) -> None:
    activity_id, taking_in = await accepted(parts), ingest(parts, reader)
    await parts.keys.to_seal(ANNA)
    parts.keys._cache.drop(ANNA)
    async with parts.read_models.connection() as connection:
        await connection.execute("UPDATE user_keys SET master_id = 'another: ' || master_id")
    for number in range(MAX_ATTEMPTS + 1):
        with pytest.raises(StreamUnreadable):
            await taking_in.process(activity_id, first=first and number == 0)
    async with parts.read_models.connection() as connection:
        await connection.execute("UPDATE user_keys SET master_id = substr(master_id, 10)")
    verdict = await taking_in.process(activity_id)
    assert verdict == Verdict(status="ready", activities=(activity_id,), position=ANY)


async def test_a_damaged_track_of_another_run_costs_no_upload(
    parts: Parts, reader: ProcessReader, tmp_path: Path
) -> None:
    watch, phone = await accepted(parts, fit(81)), await accepted(parts, gpx(81))
    taking_in = ingest(parts, reader)
    await taking_in.process(watch)
    track = tmp_path / "tracks" / str(ANNA) / str(watch)
    track.write_bytes(bytes(byte ^ 255 for byte in track.read_bytes()[:60]) + track.read_bytes()[60:])
    verdict = await taking_in.process(phone)
    assert verdict is not None
    assert verdict.status in {"ready", "duplicate"}


@pytest.mark.parametrize("first", [True, False])
async def test_a_recording_that_kills_its_reader_ends_after_some_tries(parts: Parts, *, first: bool) -> None:
    activity_id, taking_in = await accepted(parts), ingest(parts, CrashingReader())
    for number in range(MAX_ATTEMPTS):
        with pytest.raises(ReaderFailed):
            await taking_in.process(activity_id, first=first and number == 0)
        (tried,) = await QueueWatch(parts.inbox, parts.queue, parts.read_models, now).tried()
        assert (tried.attempts, tried.reason) == (number + 1, "ReaderFailed: the reading process died")
    verdict = await taking_in.process(activity_id)
    assert verdict is not None
    assert verdict.fault is not None
    assert verdict.fault.code == "processing-failed"
    assert await waiting(parts.inbox) == []


async def test_damaged_bytes_are_told_not_analysed(parts: Parts, reader: ProcessReader, tmp_path: Path) -> None:
    activity_id = await accepted(parts)
    next((tmp_path / "inbox").glob("[!.]*")).write_bytes(b"flipped")
    verdict = await ingest(parts, reader).process(activity_id)
    assert verdict is not None
    assert verdict.fault is not None
    assert verdict.fault.code == "body-damaged"


async def test_what_came_in_a_session_that_had_ended_is_refused_and_claims_nothing(
    parts: Parts, reader: ProcessReader
) -> None:
    session_id, taking_in = uuid4(), ingest(parts, reader)
    async with parts.read_models.connection() as connection:
        await connection.execute("INSERT INTO sessions VALUES (%s, %s, %s, %s)", (session_id, ANNA, MAY_1, MAY_2))
    late, early = [
        await accepted(parts, cover=Cover(received_at=at, session_id=session_id))
        for at in (MAY_2 + timedelta(minutes=6), MAY_1)
    ]
    verdict = await taking_in.process(late)
    assert verdict is not None
    assert verdict.fault is not None
    assert (verdict.fault.code, await all_positions(parts)) == ("session-ended", [])
    assert await taking_in.process(early) == Verdict(status="ready", activities=(early,), position=ANY)


async def test_what_a_server_whose_clock_is_ahead_took_in_before_the_session_ended_is_ready(
    parts: Parts, reader: ProcessReader
) -> None:
    session_id = (await parts.accounts.sign_in(ANNA)).session_id
    activity_id = await accepted(parts, cover=Cover(received_at=now() + timedelta(minutes=4), session_id=session_id))
    await parts.accounts.sign_out(session_id)
    verdict = await ingest(parts, reader).process(activity_id)
    assert verdict == Verdict(status="ready", activities=(activity_id,), position=ANY)


async def test_what_was_never_accepted_is_nothing(parts: Parts, reader: ProcessReader) -> None:
    assert await ingest(parts, reader).process(ActivityId(uuid4())) is None


async def test_an_upload_whose_hint_was_lost_is_found(parts: Parts, reader: ProcessReader) -> None:
    assert await swept(parts, reader, await accepted(parts)) == "ready"


async def test_a_fault_of_our_own_with_one_upload_stops_no_other(parts: Parts, reader: ProcessReader) -> None:
    poison = await accepted(parts, b"poison")
    assert await swept(parts, FaultyReader(reader), await accepted(parts)) == "ready"
    assert poison in await waiting(parts.inbox)


async def swept(parts: Parts, reader: Reader, activity_id: ActivityId) -> str:
    """The upload's status once the loop was through with it."""
    loop = asyncio.create_task(IngestLoop(ingest(parts, reader), parts.inbox, parts.queue, clock=now).run())
    for _ in range(200):
        if await parts.inbox.verdict(activity_id) is not None:
            break
        await asyncio.sleep(0.05)
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
    verdict = await parts.inbox.verdict(activity_id)
    assert verdict is not None
    return verdict.status


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 5, 10, 20])
async def test_the_loop_ends_when_it_is_told_to_also_while_it_connects(parts: Parts, milliseconds: int) -> None:
    taking_in = IngestLoop(ingest(parts, CrashingReader()), parts.inbox, parts.queue, clock=now)
    loop = asyncio.create_task(taking_in.run())
    await asyncio.sleep(milliseconds / 1000)
    loop.cancel()
    _, left = await asyncio.wait({loop}, timeout=20)
    assert not left


async def test_which_server_is_away_is_logged(parts: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "inbox").write_bytes(b"in the way of a folder")
    loop = asyncio.create_task(IngestLoop(ingest(parts, CrashingReader()), parts.inbox, parts.queue, clock=now).run())
    while not any("(the object store fails at inbox: Not a directory (errno 20))" in said for said in caplog.messages):
        await asyncio.sleep(0.01)
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
