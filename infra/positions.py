"""Positions in the log as the opaque tokens that clients carry from a write to a read."""

import re
from typing import Final

from domain.streams import MalformedPosition

_TOKEN: Final = re.compile(r"p1-([0-9a-f]{1,16})")
_MAX: Final = 2**63 - 1  # of a Postgres bigint


def to_token(position: int) -> str:
    """The token of a position. Its form may change: a log with a position for each partition needs several numbers."""
    return f"p1-{position:x}"


def from_token(token: str) -> int:
    """The position behind a token; `MalformedPosition` for anything else."""
    found = _TOKEN.fullmatch(token)
    position = int(found[1], 16) if found else _MAX + 1
    if position > _MAX:
        raise MalformedPosition
    return position
