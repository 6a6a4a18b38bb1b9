"""The beginning of a FIT file: what kind of file it is, and when it begins. Watches write many that are no activity."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from msgspec import Struct

from domain.recordings.recording import EmptyRecording, UnreadableRecording
from infra.formats import fit_profile as profile
from infra.formats.fit import parse_fit
from infra.formats.fit_messages import walk

_HEAD_BYTES: Final = 8192  # the file id is the first message, a timer event or record comes soon
_CREATED: Final = profile.Field(4)


# FIT SDK, Profile.xlsx 21.x, type "file": what a watch keeps besides activities
_KINDS: Final[Mapping[float, str]] = {
    1: "a device's description",
    2: "settings",
    3: "settings of a sport",
    5: "a workout",
    6: "a course",
    7: "schedules",
    9: "weights",
    10: "totals",
    11: "goals",
    14: "blood pressure",
    15: "monitoring",
    20: "a summary of activities",
    28: "monitoring",
    32: "monitoring",
    34: "a segment",
    35: "a list of segments",
}


class FitHead(Struct, frozen=True):
    """What the first messages say. `times` are those at which the activity may have begun, the likeliest first."""

    other_kind: str | None = None  # of what a watch keeps besides activities
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
    kind = float(file_ids.column(profile.FILE_TYPE)[0])
    return FitHead(
        other_kind=None if np.isnan(kind) or kind == profile.ACTIVITY_FILE else _KINDS.get(kind, f"kind {kind:.0f}"),
        times=tuple(_moment(float(second)) for second in seconds if not np.isnan(second)),
    )


def other_kind(data: bytes) -> str | None:
    """What a FIT file without a recording is by its own word; None for anything else."""
    head = fit_head(data)
    if head is not None and head.other_kind is not None:
        try:
            parse_fit(data)
        except EmptyRecording:
            return head.other_kind
        except UnreadableRecording:
            pass
    return None


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(profile.EPOCH, UTC) + timedelta(seconds=seconds)
