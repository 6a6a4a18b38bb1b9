"""What kind of request it is: by method and route, and what the client itself says of its urgency."""

import re
from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """The order in which requests are refused under load, the last one first."""

    RECORDING = "recording"  # a run on its way from the phone
    COMMAND = "command"
    READ = "read"  # somebody looks at a screen
    PREFETCH = "prefetch"  # for a screen that may be opened
    STATS = "stats"  # figures over years, whole files, work in the background


MINOR: Final = frozenset({Kind.PREFETCH, Kind.STATS})  # nobody waits for it


class Sort(NamedTuple):
    """A request's kind, and the rate that it counts against when nobody is signed in."""

    kind: Kind
    anonymous: str = "anonymous"


_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_RECORDING: Final = re.compile(r"/v\d+/activities/[^/]+(?:/chunks(?:/[^/]+)?|/finish)?")
_STATS: Final = re.compile(r"/v\d+/(?:me/(?:summaries|records|export)|activities/[^/]+/(?:export\.\w+|original))")
_DOORS: Final = {"users": "registration", "sessions": "sign-in", "sessions/refresh": "refresh"}
_DOOR: Final = re.compile(r"/v\d+/(users|sessions|sessions/refresh)")
# RFC 9218: u=0 to 7, 3 when nothing is said; browsers send up to 2 for what is seen, 7 is for the background
_URGENCY: Final = re.compile(rb"(?:^|[,\s])u=([0-7])(?![\d.])")
_BACKGROUND: Final = 7
_DEFAULT: Final = 3


def sort_of(method: str, route: str) -> Sort:
    """Of a method and a route's template, or a path: names in braces and ids count alike."""
    if method in _READS:
        if method == "GET" and route.endswith("/chunks") and _RECORDING.fullmatch(route):
            return _RECORDINGS  # where to go on with a recording that broke off
        return _FIGURES if _STATS.fullmatch(route) else _SEEN
    if (method == "PUT" or route.endswith("/finish")) and _RECORDING.fullmatch(route):
        return _RECORDINGS
    door = _DOOR.fullmatch(route) if method == "POST" else None
    return _COMMANDS if door is None else Sort(Kind.COMMAND, _DOORS[door[1]])


_RECORDINGS: Final = Sort(Kind.RECORDING)
_COMMANDS: Final = Sort(Kind.COMMAND)
_SEEN: Final = Sort(Kind.READ)
_FIGURES: Final = Sort(Kind.STATS)


def lowered(kind: Kind, priority: bytes) -> Kind:
    """The kind after a client's own `Priority` (RFC 9218): a read of u=4 to 6 is a prefetch, of u=7 is as low as stats.

    Only reads, and only downwards: phones' HTTP stacks set it by themselves, also low for uploads in the background.
    """
    if kind is not Kind.READ:
        return kind
    found = _URGENCY.search(priority)
    urgency = int(found[1]) if found else _DEFAULT
    if urgency <= _DEFAULT:
        return kind
    return Kind.STATS if urgency == _BACKGROUND else Kind.PREFETCH
