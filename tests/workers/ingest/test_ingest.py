"""One upload from manifest to verdict, and the loop that leaves none behind, over real servers."""

import asyncio
import math
import threading
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from unittest.mock import ANY
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from domain.activity import Activity
from domain.events.measured import Measured
from domain.measures import ActivityId, Sport, UserId, Visibility
from domain.recordings.reading import ReaderFailed, Reading
from domain.streams import StreamUnreadable
from domain.uploads import Cover, Verdict
from domain.user import Profile, User, user_stream_id
from infra.bootstrap import Parts, now
from infra.queue_watch import QueueWatch
from infra.reading_pool import ProcessReader
from tests.recordings import STARTED, fit, gpx
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2
from tests.uploads import waiting
from tests.workers.ingest.taking_in import FaultyReader, accepted, all_positions, ingest, lose_verdict
from workers.ingest.ingest import MAX_ATTEMPTS, UnderWay, dated
from workers.ingest.loop import IngestLoop
from workers.ingest.ports import Reader


class CrashingReader:
    """What a file looks like that kills its reader each time."""

    async def read(self, _body: bytes, _sport: Sport | None) -> Reading:
        raise ReaderFailed("the reading process died")


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


async def test_cut_off_before_the_verdict_the_next_try_ends_the_same(parts: Parts, reader: ProcessReader) -> None:
    activity_id = await accepted(parts)
    first = await ingest(parts, reader).process(activity_id)
    await lose_verdict(parts, activity_id)
    again = await ingest(parts, reader).process(activity_id)
    assert first is not None
    assert again is not None
    assert (again.status, again.activities) == (first.status, first.activities)
    assert len(await all_positions(parts)) == 1


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
