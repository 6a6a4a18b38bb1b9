"""Sports as exports tell them."""

from typing import Final

from domain.measures import Sport
from infra.formats.sports import letters_of, sport_named

_SEVERAL: Final = frozenset({"multisport"})  # the recording has its sessions, each with its sport


def sport_of(name: str) -> tuple[Sport | None, tuple[str, ...]]:
    """The sport, and a remark when the name is none that is known: the recording's own then counts."""
    letters = letters_of(name)
    if not letters or letters in _SEVERAL:
        return None, ()
    found = sport_named(name)
    return found, () if found else (f"sport {name[:40]!r} is not known: the recording's own counts",)
