"""What is counted for each route, at the price of a few additions; Prometheus' families are made when it asks."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

# OpenTelemetry's semantic conventions for http.server.request.duration
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Meter:
    """Of one route. Written by the event loop alone: nothing is locked."""

    __slots__ = ("answers", "buckets", "deprecated", "method", "reads", "route", "seconds")

    def __init__(self, method: str, route: str) -> None:
        self.method = method
        self.route = route
        self.deprecated = False
        self.answers: dict[tuple[int, str], int] = {}  # by status and client
        self.buckets = [0] * (len(SECONDS) + 1)
        self.seconds = 0.0
        self.reads: dict[tuple[str, str], int] = {}  # by tier and outcome

    def answered(self, status: int, client: str, seconds: float) -> None:
        """An answer was given."""
        key = status, client
        self.answers[key] = self.answers.get(key, 0) + 1
        self.buckets[bisect_left(SECONDS, seconds)] += 1
        self.seconds += seconds

    def read(self, tier: str, outcome: str) -> None:
        """A cache was asked: `hit`, `not_modified`, `miss`, `coalesced` or `bypassed`."""
        key = tier, outcome
        self.reads[key] = self.reads.get(key, 0) + 1


class Meters:
    """Of all routes. A collector of Prometheus' client."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str], Meter] = {}

    def of(self, method: str, route: str) -> Meter:
        """The meter of a route: a template, never a path."""
        return self._meters.setdefault((method, route), Meter(method, route))

    def forget(self, client: str) -> None:
        """Know nothing of an app any more."""
        for meter in self._meters.values():
            meter.answers = {key: count for key, count in meter.answers.items() if key[1] != client}

    def collect(self) -> Iterable[Metric]:
        """As Prometheus wants it."""
        answers = CounterMetricFamily(
            "cairn_http_requests", "Answers, by the app that asked.", labels=["method", "route", "status", "client"]
        )
        took = HistogramMetricFamily(
            "http_server_request_duration_seconds", "From head to answer.", labels=["method", "route"]
        )
        reads = CounterMetricFamily(
            "cairn_cache_reads", "Reads that a cache could answer.", labels=["route", "tier", "outcome"]
        )
        old = CounterMetricFamily(
            "cairn_deprecated_requests",
            "Answers of deprecated routes: which apps have to be updated before they can go.",
            labels=["method", "route", "client"],
        )
        for meter in self._meters.values():
            place = [meter.method, meter.route]
            if meter.deprecated:
                for client, count in _by_client(meter.answers).items():
                    old.add_metric([*place, client], count)
            for (status, client), count in meter.answers.items():
                answers.add_metric([*place, str(status), client], count)
            for (tier, outcome), count in meter.reads.items():
                reads.add_metric([meter.route, tier, outcome], count)
            if meter.answers:
                took.add_metric(place, _cumulative(meter.buckets), meter.seconds)
        return answers, took, reads, old


def _by_client(answers: Mapping[tuple[int, str], int]) -> Mapping[str, int]:
    total: dict[str, int] = {}
    for (_, client), count in answers.items():
        total[client] = total.get(client, 0) + count
    return total


def _cumulative(buckets: Sequence[int]) -> list[tuple[str, float]]:
    total, told = 0, list[tuple[str, float]]()
    for bound, count in zip([*map(str, SECONDS), "+Inf"], buckets, strict=True):
        total += count
        told.append((bound, float(total)))
    return told
