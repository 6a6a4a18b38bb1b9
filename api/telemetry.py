"""What the API measures of itself, with a label for the app's version: one registry for each app that is made."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from api.admission.kinds import Kind
from api.clients import UNNAMED, Client
from api.front.cache import ReadCache
from api.front.meter import Meters

_LABELS: Final = 100  # app versions that are told apart; a client cannot make more of them by lying
OTHER: Final = "other"


class Telemetry:
    """Counters of one process. Routes are templates (`/v1/activities/{activity_id}`), never paths."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._clients: set[str] = set()
        self.meters = Meters()
        self.registry.register(self.meters)
        self.keyed = Counter(
            "cairn_idempotent_requests",
            "Recordings, and requests with an Idempotency-Key. outcome: first, replayed, running, reused.",
            ["route", "client", "outcome"],
            registry=self.registry,
        )
        self.refused = Counter(
            "cairn_refused_for_load",
            "Requests that were refused. why: rate, overload; kind: recording, command, read, prefetch, stats.",
            ["why", "kind", "client"],
            registry=self.registry,
        )
        for label in (UNNAMED, OTHER):
            self._await_alarm(label)
        self.connections = Gauge("cairn_connections", "Open ones, as of a second ago.", registry=self.registry)
        self.ended = Counter(
            "cairn_connections_ended",
            "Connections that the server ended. why: silent, head, body, answer (too slow at it), memory, endless, "
            "crowded, or the code of a problem.",
            ["why"],
            registry=self.registry,
        )
        self.concurrency_limit = Gauge(
            "cairn_concurrency_limit",
            "Requests at once that this process takes, but recordings.",
            registry=self.registry,
        )
        self.at_once = Gauge("cairn_requests_at_once", "Requests under way.", ["kind"], registry=self.registry)
        self.loop_lag = Gauge(
            "cairn_event_loop_lag_seconds", "How late the event loop comes, moving average.", registry=self.registry
        )
        self.limiting_alone = Gauge(
            "cairn_rate_limiter_alone", "1: Valkey is not asked, this process limits by itself.", registry=self.registry
        )

    def came(self, route: str, asking: Client, outcome: str) -> None:
        """A request that may come again: `first`, `replayed`, `running` or `reused`."""
        self.keyed.labels(route, self.client(asking.label), outcome).inc()

    def watch_cache(self, cache: ReadCache) -> None:
        """Tell how much is kept."""
        kept = Gauge("cairn_kept_reads", "Answers that are kept in this process.", registry=self.registry)
        kept.set_function(lambda: len(cache))
        size = Gauge("cairn_kept_reads_bytes", "What they take, about.", registry=self.registry)
        size.set_function(lambda: cache.bytes)

    def client(self, label: str) -> str:
        """The label to count an app under: its own, or `other` once there are very many."""
        if label in self._clients:
            return label
        if len(self._clients) >= _LABELS:
            return OTHER
        self._clients.add(label)
        self._await_alarm(label)
        return label

    def _await_alarm(self, client: str) -> None:
        """A series that only begins with the first refused recording has no increase."""
        self.refused.labels("overload", Kind.RECORDING.value, client)
