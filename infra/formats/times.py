"""Whether a GPX or TCX file has times, by a look at its bytes: what was recorded has some, what was planned none."""

import re
from typing import Final

# the first point, and an element that says a time; what is behind a prefix counts, and so does CDATA
_POINT: Final = re.compile(rb"<(?:[\w.-]+:)?(?:trkpt|Trackpoint)[\s>]")
_TIME: Final = re.compile(rb"<(?:[\w.-]+:)?[tT]ime(?:\s[^<>]*)?>\s*(?:[^<\s]|<!)")
_LAP: Final = re.compile(rb"\sStartTime\s*=")


def is_timeless(data: bytes) -> bool:
    """Whether it has points of a track, and no time behind the first: the file's own, before, is when it was written.
    A lap that has begun is no plan. False for what nobody can say it of: no XML, or in UTF-16.
    """
    point = _POINT.search(data)
    return point is not None and _TIME.search(data, point.start()) is None and _LAP.search(data) is None
