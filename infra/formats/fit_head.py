"""The beginning of a FIT file: what kind of file it is, and when it begins. Watches write many that are no activity."""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from msgspec import Struct

from domain.recordings.recording import UnreadableRecording
from infra.formats import fit_profile as profile
from infra.formats.fit_messages import walk

_HEAD_BYTES: Final = 8192  # the file id is the first message, a timer event or record comes soon
_CREATED: Final = profile.Field(4)


class FitHead(Struct, frozen=True):
    """What the first messages say. `times` are those at which the activity may have begun, the likeliest first."""

    is_activity: bool
    times: tuple[datetime, ...] = ()


def fit_head(data: bytes) -> FitHead | None:
    """Of a file that begins with a FIT file id; None for anything else."""
    head = data[:_HEAD_BYTES]
    try:
        found = walk(head)
    except UnreadableRecording:
        return None
    file_ids = found.of(head, profile.FILE_ID)
    if not len(file_ids):
        return None
    events, records = (found.of(head, kind).timestamps()[:1] for kind in (profile.EVENT, profile.RECORD))
    seconds = np.concatenate([events, records, file_ids.column(_CREATED)[:1]])
    return FitHead(
        is_activity=bool(file_ids.column(profile.FILE_TYPE)[0] == profile.ACTIVITY_FILE),
        times=tuple(_moment(float(second)) for second in seconds if not np.isnan(second)),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(profile.EPOCH, UTC) + timedelta(seconds=seconds)
