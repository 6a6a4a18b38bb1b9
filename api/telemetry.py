"""What the API measures of itself, with a label for the app's version: one registry for each app that is made."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

# OpenTelemetry's semantic conventions for http.server.request.duration
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_LABELS: Final = 100  # app versions that are told apart; a client cannot make more of them by lying
OTHER: Final = "other"


class Telemetry:
    """Counters of one process. Routes are templates (`/v1/activities/{activity_id}`), never paths."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._clients: set[str] = set()
        self.requests = Counter(
            "cairn_http_requests",
            "Answers, by the app that asked.",
            ["method", "route", "status", "client"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "http_server_request_duration_seconds",
            "From the request's head to the answer's end.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reads = Counter(
            "cairn_cache_reads",
            "Reads that a cache could answer. tier: process, valkey, cdn; outcome: hit, not_modified, miss, coalesced, "
            "bypassed.",
            ["route", "tier", "outcome"],
            registry=self.registry,
        )
        self.keyed = Counter(
            "cairn_idempotent_requests",
            "Requests that may come again. outcome: first, replayed, running, reused.",
            ["route", "client", "outcome"],
            registry=self.registry,
        )
        self.deprecated = Counter(
            "cairn_deprecated_requests",
            "Answers of routes that are deprecated: who has to be updated before they can go.",
            ["operation", "client"],
            registry=self.registry,
        )
        self.refused = Counter(
            "cairn_refused_for_load",
            "Requests that were refused. why: rate, overload, slow; kind: recording, command, read, prefetch, stats.",
            ["why", "kind", "client"],
            registry=self.registry,
        )

    def client(self, label: str) -> str:
        """The label to count an app under: its own, or `other` once there are very many."""
        if label in self._clients:
            return label
        if len(self._clients) >= _LABELS:
            return OTHER
        self._clients.add(label)
        return label
