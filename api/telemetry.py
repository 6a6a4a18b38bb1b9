"""What the API measures of itself, with a label for the app's version: one registry for each app that is made."""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from api.admission.kinds import Kind
from api.clients import UNNAMED, Client
from api.front.cache import ReadCache
from api.front.meter import Meters

_LABELS: Final = 100  # app versions that are told apart; a client cannot make more of them by lying
_LEAVING_SECONDS: Final = 1.0  # between two that make room: it takes a look at all that was counted
OTHER: Final = "other"


class Telemetry:
    """Counters of one process. Routes are templates (`/v1/activities/{activity_id}`), never paths. `apps`: names of
    apps that operators have set something for.
    """

    def __init__(self, apps: Callable[[], Collection[str]] = tuple) -> None:
        self.registry = CollectorRegistry()
        self._apps = apps
        self._clients: OrderedDict[str, None] = OrderedDict()  # the one that was used last is last
        self._next_leaves_at = 0.0
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
        signed_in = outcome in ("first", "replayed")  # or has just registered
        self.keyed.labels(route, self.client(asking.label, signed_in=signed_in), outcome).inc()

    def watch_cache(self, cache: ReadCache) -> None:
        """Tell how much is kept."""
        kept = Gauge("cairn_kept_reads", "Answers that are kept in this process.", registry=self.registry)
        kept.set_function(lambda: len(cache))
        size = Gauge("cairn_kept_reads_bytes", "What they take, about.", registry=self.registry)
        size.set_function(lambda: cache.bytes)

    def client(self, label: str, *, signed_in: bool = False) -> str:
        """The label to count an app under: its own, or `other`, or `ios/other` of an app that operators named.

        Whoever is not signed in gets no new label a place. When there are very many, the one that was used longest ago
        leaves, and what was counted under it.
        """
        if label in self._clients:
            if signed_in:
                self._clients.move_to_end(label)
            return label
        if label == UNNAMED:
            return label
        if signed_in and self._has_room():
            self._clients[label] = None
            self._await_alarm(label)
            return label
        app = label.partition("/")[0]
        return f"{app}/{OTHER}" if app in self._apps() else OTHER

    def _has_room(self) -> bool:
        if len(self._clients) < _LABELS:
            return True
        now = time.monotonic()
        if now < self._next_leaves_at:
            return False
        self._next_leaves_at = now + _LEAVING_SECONDS
        label, _ = self._clients.popitem(last=False)
        self.meters.forget(label)
        for counter in (self.keyed, self.refused):
            for sample in [one for family in counter.collect() for one in family.samples]:
                if sample.labels["client"] == label and sample.name.endswith("_total"):
                    counter.remove(*sample.labels.values())
        return True

    def _await_alarm(self, client: str) -> None:
        """A series that only begins with the first refused recording has no increase."""
        self.refused.labels("overload", Kind.RECORDING.value, client)
