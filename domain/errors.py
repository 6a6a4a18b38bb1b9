"""The base of refusals: what a rule says no to, as data. Only `api/problems.py` knows their statuses."""

from typing import ClassVar

import msgspec


class DomainError(Exception):
    """A rule refuses. `code` is public: clients match on it, so it is never renamed."""

    code: ClassVar[str]


class StoreUnavailable(DomainError):
    """A server that this needs does not answer now. Nothing was lost; the same request is safe to repeat."""

    code = "unavailable"


class UnknownEvent(Exception):
    """A stream holds an event that its aggregate does not know: newer code wrote it, or a bug did."""

    def __init__(self, state: object, event: object) -> None:
        super().__init__(f"{type(state).__name__} does not know {type(event).__name__}")


def without_input(error: msgspec.ValidationError) -> str:
    """What a message says. It names places, types and unknown fields. That of an enum repeats the value, and that of a
    pattern is for machines: of those the place is left.
    """
    text = str(error)
    if ("enum value" in text or "matching regex" in text) and " - at" in text and " - at `key`" not in text:
        return "Invalid value" + text[text.rindex(" - at") :]
    return text[:200]
