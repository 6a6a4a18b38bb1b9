"""What is measured, for Prometheus."""

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.dependencies import ServicesDep
from api.openapi import answers_file
from api.services import ProjectionState, QueueState, Watch
from domain.recordings.recording import EmptyRecording, UnreadableRecording
from domain.uploads import PASSING

T = TypeVar("T")

router = APIRouter(tags=["health"])

_UNKNOWN: Final = math.nan  # a server that would know is away
# with which uploads fail: a series that only begins with the first of them has no increase
CODES: Final = sorted({*PASSING, UnreadableRecording.code, EmptyRecording.code})
_FRESH_SECONDS: Final = 5.0  # a look takes one of the few connections that reads have; Prometheus asks every 15 s


class SharedWatch(Generic[T]):
    """Looks once for all who ask at the same time or soon after: anybody may ask, as often as they like."""

    def __init__(self, watch: Watch[T]) -> None:
        self._watch = watch
        self._looking = asyncio.Lock()
        self._seen: T | None = None
        self._seen_at = 0.0

    async def state(self) -> T:
        """Of all that answers, as it was up to five seconds ago."""
        async with self._looking:
            if self._seen is None or time.monotonic() - self._seen_at >= _FRESH_SECONDS:
                self._seen = await self._watch.state()
                self._seen_at = time.monotonic()
            return self._seen


@router.get("/metrics", response_class=Response, responses=answers_file("text/plain", headers=("Cache-Control",)))
async def get_metrics(services: ServicesDep) -> Response:
    """Prometheus' text format: this process, what it answered, and what is everybody's: the queue of uploads, and how
    old what is read is.

    NaN: the server that would know is away.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    queue, projections = await asyncio.gather(services.queue_watch.state(), services.projection_watch.state())
    _tell_queue(registry, queue)
    _tell_projections(registry, projections)
    told = generate_latest(registry) + generate_latest(services.telemetry.registry)
    return Response(told, 200, {"Cache-Control": "no-store"}, CONTENT_TYPE_LATEST)


def _tell_queue(registry: CollectorRegistry, state: QueueState) -> None:
    for name, meaning, value in (
        ("cairn_uploads_waiting", "Accepted uploads without a verdict.", state.waiting),
        ("cairn_uploads_oldest_age_seconds", "How long the oldest of them has waited.", state.oldest_age_s),
        ("cairn_upload_hints", "Hints in the ingest queue.", state.hints),
        ("cairn_upload_hints_taken", "Of these, hints that a worker holds.", state.taken),
    ):
        Gauge(name, meaning, registry=registry).set(_UNKNOWN if value is None else value)
    failed = Gauge("cairn_uploads_failed", "Uploads that became no activity.", ["code"], registry=registry)
    counts = {**dict.fromkeys(CODES, 0), **state.failed} if state.failed is not None else dict.fromkeys(CODES, _UNKNOWN)
    for code, count in counts.items():
        failed.labels(code).set(count)


def _tell_projections(registry: CollectorRegistry, projections: Mapping[str, ProjectionState | None]) -> None:
    lag = Gauge(
        "cairn_projection_lag_seconds",
        "The age of the oldest event that what is read has not taken yet.",
        ["projection"],
        registry=registry,
    )
    workers = Gauge(
        "cairn_projection_workers",
        "How many fill what is read: 0 also while it is paused or stopped.",
        ["projection"],
        registry=registry,
    )
    quarantined = Gauge(
        "cairn_projection_quarantined_keys",
        "Keys whose fold failed: their rows stay as they were.",
        ["projection"],
        registry=registry,
    )
    for name, state in projections.items():
        lag.labels(name).set(_UNKNOWN if state is None else state.lag_s)
        workers.labels(name).set(_UNKNOWN if state is None else state.workers)
        quarantined.labels(name).set(_UNKNOWN if state is None else state.quarantined)
    parked = Gauge("cairn_streams_parked", "Streams that cannot be read and are left out.", registry=registry)
    parked.set(next((state.parked for state in projections.values() if state is not None), _UNKNOWN))
