"""What a fleet asked and what it was told, counted where the requests leave."""

import ssl
import time
from collections import Counter
from collections.abc import Iterable
from functools import cache

import httpx

certificates = cache(ssl.create_default_context)  # read once for the whole fleet: it takes 20 ms


class Tally:
    """Of one kind of app."""

    def __init__(self) -> None:
        self.requests = 0
        self.retries = 0
        self.answers: Counter[int] = Counter()  # by status
        self.refusals: Counter[str] = Counter()  # by status and code
        self.silent = 0  # no answer at all
        self.early = 0  # came back before it was told to
        self.replayed = 0
        self.seconds: list[float] = []
        self.unreachable = 0

    def percentile(self, share: float) -> float:
        """Of the seconds until an answer's head; 0 without any."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))] if self.seconds else 0.0

    def row(self) -> dict[str, object]:
        """As it is told."""
        return {
            "requests": self.requests,
            "retries": self.retries,
            "not_modified": self.answers[304],
            "replayed": self.replayed,
            "refusals": dict(self.refusals.most_common()),
            "no_answer": self.silent,
            "came_too_early": self.early,
            "given_up": self.unreachable,
            "p50_ms": round(1000 * self.percentile(0.50), 1),
            "p99_ms": round(1000 * self.percentile(0.99), 1),
        }


class Counting(httpx.AsyncBaseTransport):
    """The network of one app: a request that comes again after one that failed is a retry."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._way = httpx.AsyncHTTPTransport(certificates(), limits=httpx.Limits(max_connections=8))
        self._failed: dict[str, float] = {}  # what failed, and when it may come again

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on."""
        what, began, tally = f"{request.method} {request.url}", time.monotonic(), self._tally
        tally.requests += 1
        if (due := self._failed.pop(what, None)) is not None:
            tally.retries += 1
            tally.early += began < due
        try:
            answer = await self._way.handle_async_request(request)
        except httpx.TransportError:
            tally.silent += 1
            self._failed[what] = began
            raise
        tally.seconds.append(time.monotonic() - began)
        tally.answers[answer.status_code] += 1
        tally.replayed += "Idempotency-Replayed" in answer.headers
        if answer.status_code in {408, 425, 429} or answer.status_code >= 500:
            told = answer.headers.get("Retry-After", "0")
            self._failed[what] = time.monotonic() + (float(told) if told.isdecimal() else 0.0)
        if answer.status_code >= 400:
            await answer.aread()
            tally.refusals[f"{answer.status_code} {_code(answer)}"] += 1
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._way.aclose()


def _code(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return "without a code"


def total(tallies: Iterable[Tally]) -> Tally:
    """Of all apps together."""
    whole = Tally()
    for one in tallies:
        whole.requests += one.requests
        whole.retries += one.retries
        whole.answers += one.answers
        whole.refusals += one.refusals
        whole.silent += one.silent
        whole.early += one.early
        whole.replayed += one.replayed
        whole.seconds += one.seconds
        whole.unreachable += one.unreachable
    return whole
