"""Positions in the log as the opaque tokens that clients carry from a write to a read."""

from typing import Final

from domain.streams import MalformedPosition

_MAX: Final = 2**63 - 1  # of a Postgres bigint


def to_token(position: int) -> str:
    """The token of a position. Its form may change: a log with a position for each partition needs several numbers."""
    return f"p1-{position:x}"


def from_token(token: str) -> int:
    """The position behind a token; `MalformedPosition` for anything else."""
    version, _, digits = token.partition("-")
    if version != "p1" or not 0 < len(digits) <= 16 or not set(digits) <= set("0123456789abcdef"):
        raise MalformedPosition
    position = int(digits, 16)
    if position > _MAX:
        raise MalformedPosition
    return position
