"""One upload from its manifest to its verdict."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from domain.activity import Activity, ActivityMissing, RecordingDiffers, session_activity_id, usual_title
from domain.errors import StoreUnavailable
from domain.events.activity import ActivityRecorded, Source, Tally
from domain.events.measured import Measured
from domain.events.packing import pack
from domain.measures import ActivityId, UserId
from domain.recordings.reading import Reading, SessionRead, TrackDamaged
from domain.recordings.recording import UnreadableRecording
from domain.recordings.similarity import LEAST_OVERLAP, Path, Span, overlap, same_run
from domain.streams import OwnerErased, Streams, StreamUnreadable
from domain.texts import is_blank
from domain.uploads import BODY_DAMAGED, BodyDamaged, Cover, Fault, Inbox, Manifest, Verdict
from domain.user import Profile, User, user_stream_id
from workers.ingest.ports import Attempts, Claims, Reader, Sessions, TrackStore

_log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 5
_AHEAD: Final = timedelta(days=1)  # of our clock: more than any zone's difference


_HELD_SECONDS: Final = 5.0  # until another upload of a runner waits for who is at that runner's recordings
_FORGOTTEN_SECONDS: Final = 600.0  # after that: such a runner may never hand in another


class UnderWay(Exception):
    """Another worker is at this upload, at one that had the same bytes first, or for long at one of the same runner."""


class SessionEnded(Exception):
    """The upload came in a session that had ended."""


_ID_TAKEN: Final = (
    RecordingDiffers.code,
    "This activity id already has another recording or entry: a new run needs a new id.",
)
_REFUSALS: Final[Mapping[type[Exception], tuple[str, str]]] = {
    BodyDamaged: (BODY_DAMAGED, "The stored bytes are damaged: send the recording again."),
    SessionEnded: ("session-ended", "The session was ended before. Sign in, and send the recording again."),
    RecordingDiffers: _ID_TAKEN,
    ActivityMissing: _ID_TAKEN,  # of another runner
    OwnerErased: (OwnerErased.code, "The account was erased, and the recording with it."),
}


class Ingest:
    """Takes uploads in, each exactly once in effect: ids are derived, so that a repeat meets what is there."""

    def __init__(
        self,
        inbox: Inbox,
        streams: Streams,
        reader: Reader,
        tracks: TrackStore,
        claims: Claims,
        attempts: Attempts,
        sessions: Sessions,
        clock: Callable[[], datetime],
    ) -> None:
        self._inbox = inbox
        self._streams = streams
        self._reader = reader
        self._tracks = tracks
        self._claims = claims
        self._attempts = attempts
        self._sessions = sessions
        self._clock = clock
        self._held: dict[UserId, float] = {}  # at whose recordings another worker is; until when nobody waits for it

    async def process(self, activity_id: ActivityId, *, first: bool = False) -> Verdict | None:
        """The upload's verdict, made durable; None when nothing was accepted under this id.

        A try is counted before it begins, so that a crash counts; the `first`, as nearly all are, only once it failed.
        Raises what may pass (a store that is away, a key or a stream that cannot be read now, a crashed reader,
        `UnderWay`): the same call again later is safe. Only what may be the upload's own fault counts.
        """
        manifest = await self._inbox.manifest(activity_id)
        if manifest is None:
            return None
        self._require_free(manifest.user_id)
        async with self._attempts.alone(activity_id) as alone:  # tries at the same time would count as failed ones
            if not alone:
                raise UnderWay
            return await self._bring_to_verdict(manifest, first=first)

    async def _bring_to_verdict(self, manifest: Manifest, *, first: bool) -> Verdict:
        activity_id = manifest.activity_id
        verdict = await self._inbox.verdict(activity_id)
        if verdict is None:
            verdict = await self._tried(manifest, first=first)
            await self._inbox.close(manifest, verdict)
            _log.info("%s is %s", activity_id, verdict.fault.code if verdict.fault else verdict.status)
        else:
            await self._inbox.tidy(manifest)
        await self._attempts.end(manifest, verdict)
        return verdict

    async def _tried(self, manifest: Manifest, *, first: bool) -> Verdict:
        """A verdict, or a failure that counts if it was the upload's."""
        if not first and await self._attempts.begin(manifest.activity_id) > MAX_ATTEMPTS:
            return _failed("processing-failed", "Reading this recording failed repeatedly. Its bytes are kept.")
        try:
            return await self._judge(manifest)
        except (StoreUnavailable, StreamUnreadable, UnderWay):
            if not first:
                with suppress(StoreUnavailable):
                    await self._attempts.take_back(manifest.activity_id)
            raise
        except Exception as failure:
            with suppress(StoreUnavailable):
                if first:
                    await self._attempts.begin(manifest.activity_id)
                await self._attempts.failed(manifest.activity_id, f"{type(failure).__name__}: {failure}")
            raise

    async def _judge(self, manifest: Manifest) -> Verdict:
        try:
            return await self._take_in(manifest)
        except UnreadableRecording as refusal:
            return _failed(refusal.code, refusal.reason)
        except (BodyDamaged, SessionEnded, RecordingDiffers, ActivityMissing, OwnerErased) as refusal:
            return _failed(*_REFUSALS[type(refusal)])

    async def _take_in(self, manifest: Manifest) -> Verdict:
        received = await self._inbox.received(manifest)
        if await self._is_too_late(received.cover):
            raise SessionEnded
        # before the bytes are claimed and a track is kept: they may come again under another id
        (await self._streams.load(Activity, manifest.activity_id)).require_room(manifest.user_id, manifest.sha256)
        reading = await self._reader.read(received.body, manifest.sport)
        async with self._claims.alone(manifest.user_id) as alone:
            if not alone:
                self._hold(manifest.user_id)
                raise UnderWay
            self._held.pop(manifest.user_id, None)
            return await self._told_apart(manifest, received.cover, reading)

    def _require_free(self, user_id: UserId) -> None:
        """`UnderWay` while another worker was found at the runner's recordings, but for one upload now and then: a
        worker that was frozen would keep all others waiting.
        """
        until = self._held.get(user_id)
        if until is not None:
            if time.monotonic() < until:
                raise UnderWay
            self._hold(user_id)

    def _hold(self, user_id: UserId) -> None:
        current = time.monotonic()
        self._held = {held: until for held, until in self._held.items() if current < until + _FORGOTTEN_SECONDS}
        self._held[user_id] = current + _HELD_SECONDS

    async def _is_too_late(self, cover: Cover) -> bool:
        """Whether the upload came in a session that had ended, which the API could not know without Postgres."""
        return cover.session_id is not None and await self._sessions.had_ended(cover.session_id, cover.received_at)

    async def _told_apart(self, manifest: Manifest, cover: Cover, reading: Reading) -> Verdict:
        """A duplicate while what became of the same bytes is there, or activities of what is not."""
        owner = manifest.user_id, manifest.sha256
        holder = await self._claims.claim(*owner, manifest.activity_id)
        if holder == manifest.activity_id:
            return await self._record(manifest, cover, reading)
        before = await self._verdict_of(holder)
        if before is not None and await self._stands(before):
            of, matched = before.duplicate_of or holder, before.matched or "bytes"
            return Verdict(status="duplicate", duplicate_of=of, matched=matched)
        if await self._claims.hand_over(*owner, holder, manifest.activity_id) != manifest.activity_id:
            raise UnderWay
        return await self._record(manifest, cover, reading, () if before is None else before.runs)

    async def _verdict_of(self, upload_id: ActivityId) -> Verdict | None:
        """What became of the upload, None if nothing ever will. `UnderWay` until that is known."""
        verdict = await self._inbox.verdict(upload_id)
        if verdict is not None:
            return verdict
        manifest = await self._inbox.manifest(upload_id)
        if manifest is not None and await self._inbox.waits(manifest):
            raise UnderWay
        return await self._inbox.verdict(upload_id)  # which may have come in between

    async def _stands(self, verdict: Verdict) -> bool:
        """Whether something of its own is left, and all that it left a run to: else that run may be had anew."""
        there = {activity_id for activity_id in verdict.became if await self._counts(activity_id)}
        left_to = set(verdict.became).difference(verdict.activities)
        return left_to <= there and not there.isdisjoint(verdict.activities or verdict.became)

    async def _record(
        self, manifest: Manifest, cover: Cover, reading: Reading, before: Sequence[ActivityId] = ()
    ) -> Verdict:
        """Activities of all sessions but those that are there already: from another device or another file, or of the
        same bytes, of which it was known `before` what each session is.
        """
        user = await self._streams.load(User, user_stream_id(manifest.user_id))
        profile = user.profile_at(cover.received_at)  # it may have changed while the upload waited
        many = len(reading.sessions) > 1
        if many and (await self._streams.load(Activity, manifest.activity_id)).user_id is not None:
            # of the same bytes, from when such a file was read as one run: it stays what it is
            return Verdict(status="ready", activities=(manifest.activity_id,))
        made = [
            session_activity_id(manifest.activity_id, index) if many else manifest.activity_id
            for index in range(len(reading.sessions))
        ]
        known = before if len(before) == len(made) else made  # another version may have read other sessions in it
        runs, position = [], None
        for index, (activity_id, session) in enumerate(zip(made, reading.sessions, strict=True)):
            if known[index] != activity_id and await self._counts(known[index]):
                runs.append(known[index])
                continue
            twin = await self._twin(manifest, activity_id, session, made)
            runs.append(twin or activity_id)
            if twin is not None:
                continue
            await self._tracks.keep(manifest.user_id, activity_id, session)
            event = _recorded(
                manifest, cover, profile, reading, session, activity_id, index if many else None, at=self._clock()
            )
            decide = partial(Activity.record, recorded=event)
            position = await self._streams.transact(Activity, activity_id, manifest.user_id, decide)
        return _of_runs(made, runs, position)

    async def _twin(
        self, manifest: Manifest, activity_id: ActivityId, session: SessionRead, own: Collection[ActivityId]
    ) -> ActivityId | None:
        """Another activity of the same run that counts already. Else this one is marked, for those that come later."""
        if session.started_at is None or session.elapsed_s <= 0:
            return None
        span = Span(session.started_at, session.elapsed_s, session.distance_m)
        for there, other in await self._claims.around(manifest.user_id, span):
            if there in own or overlap(span, other) < LEAST_OVERLAP or not await self._counts(there):
                continue
            other_path = await self._path(manifest.user_id, there)
            if await asyncio.to_thread(self._is_one_run, span, session, other, other_path):
                return there
        await self._claims.mark(manifest.user_id, activity_id, span)
        return None

    def _is_one_run(self, span: Span, session: SessionRead, other: Span, other_path: Path | None) -> bool:
        return same_run(span, self._tracks.path_of(session), other, other_path)

    async def _path(self, user_id: UserId, activity_id: ActivityId) -> Path | None:
        """Where the other one was. A damaged track says as little as one without places."""
        try:
            return await self._tracks.path(user_id, activity_id)
        except TrackDamaged as damage:
            _log.warning("%s is compared without its track: %s", activity_id, damage.__cause__)
            return None

    async def _counts(self, activity_id: ActivityId) -> bool:
        """Whether the activity is there: it may be deleted, or marked by an upload that was cut off."""
        activity = await self._streams.load(Activity, activity_id)
        return activity.tally is not None and not activity.deleted


def _failed(code: str, detail: str) -> Verdict:
    return Verdict(status="failed", fault=Fault(code, detail))


def _of_runs(made: Sequence[ActivityId], runs: Sequence[ActivityId], position: str | None) -> Verdict:
    """Of each session, the activity that it would be and the one that it is."""
    own = tuple(run for run in runs if run in made)
    several = tuple(runs) if len(made) > 1 and len(own) < len(made) else ()
    if not own:
        return Verdict(status="duplicate", duplicate_of=runs[0], matched="track", runs=several)
    return Verdict(status="ready", activities=own, position=position, runs=several)


def _recorded(
    manifest: Manifest,
    cover: Cover,
    profile: Profile,
    reading: Reading,
    session: SessionRead,
    activity_id: ActivityId,
    index: int | None,
    *,
    at: datetime,
) -> ActivityRecorded:
    started_at = session.started_at or manifest.received_at
    offset = _utc_offset(profile, reading, started_at)
    local = started_at + offset
    return ActivityRecorded(
        user_id=UserId(manifest.user_id),
        activity_id=activity_id,
        title=cover.title or _seen(session.title) or usual_title(session.sport, local),
        visibility=manifest.visibility or profile.default_visibility,
        started_at=started_at,
        utc_offset_s=int(offset.total_seconds()),
        tally=Tally(
            sport=session.sport,
            local_date=local.date(),
            distance_m=session.distance_m,
            elapsed_s=session.elapsed_s,
            moving_s=session.moving_s,
            elevation_gain_m=session.elevation_gain_m,
        ),
        measured=pack(dated(session.measured, started_at, manifest.received_at)),
        source=Source(format=reading.format, sha256=manifest.sha256, device=reading.device, session=index),
        at=at,
    )


def _seen(title: str | None) -> str | None:
    return None if title is None or is_blank(title) else title


def dated(measured: Measured, started_at: datetime, received_at: datetime) -> Measured:
    """With a warning when it began after it was received."""
    if started_at - received_at <= _AHEAD:
        return measured
    ahead = "clock-ahead: it begins over a day after it was received; times are as the device told them"
    return msgspec.structs.replace(measured, warnings=(*measured.warnings, ahead))


def _utc_offset(profile: Profile, reading: Reading, started_at: datetime) -> timedelta:
    """The runner's own zone; else what the file says; else UTC."""
    if profile.time_zone is not None:
        return started_at.astimezone(ZoneInfo(profile.time_zone)).utcoffset() or timedelta()
    return timedelta(seconds=reading.utc_offset_s or 0)
