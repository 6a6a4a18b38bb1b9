"""Reading recordings: what a file's bytes amount to. In the service, in processes of their own (`reading_pool.py`)."""

import msgspec

from domain.measures import Sport
from domain.recordings.analysis import analyse
from domain.recordings.distance import DistanceSource
from domain.recordings.reading import Reading, SessionRead
from domain.recordings.recording import Column, Session
from infra.formats import parse
from infra.formats.track import encode


def read(body: bytes, sport: Sport | None = None) -> Reading:
    """Parse and analyse, as of this sport if the runner told one.

    `UnreadableRecording` when there is nothing to make an activity of.
    """
    recording = parse(body, sport)
    return Reading(
        format=recording.format,
        device=recording.device_name,
        utc_offset_s=recording.utc_offset_s,
        sessions=tuple(_read_session(session, recording.warnings) for session in recording.sessions),
    )


def _read_session(session: Session, warnings: tuple[str, ...]) -> SessionRead:
    found = analyse(session, warnings)
    columns = dict(session.columns)
    if found.measured.distance_source is not DistanceSource.RECORDED:
        columns.pop(Column.DISTANCE, None)  # it counts something else; the file keeps it
    return SessionRead(
        sport=session.sport,
        title=session.title,
        started_at=session.started_at,
        distance_m=found.distance_m,
        elapsed_s=found.elapsed_s,
        moving_s=found.moving_s,
        elevation_gain_m=found.elevation_gain_m,
        measured=found.measured,
        details=msgspec.json.encode(found.details),
        track=encode(columns),
    )
