"""The base of refusals: what a rule says no to, as data. Only `api/problems.py` knows their statuses."""

from typing import ClassVar


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
