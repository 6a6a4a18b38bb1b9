"""Refusals for load: the request was fine, and nothing of it was done."""

from collections.abc import Mapping
from typing import ClassVar

from domain.errors import DomainError


class TurnedAway:
    """What both have: come again in so many seconds. `headers` are told with it."""

    why: ClassVar[str]  # of the metric

    def __init__(self, seconds: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.seconds = seconds
        self.headers = {**(headers or {}), "Retry-After": str(seconds)}


class RateLimited(TurnedAway, DomainError):
    """This device, user or address has made too many requests of this kind. Send the same request again after
    Retry-After; nothing of it was done.
    """

    code = "rate-limited"
    why = "rate"


class Overloaded(TurnedAway, DomainError):
    """The server has more to do than it can, and takes what matters most first. Send the same request again after
    Retry-After; nothing of it was done.
    """

    code = "overloaded"
    why = "overload"
