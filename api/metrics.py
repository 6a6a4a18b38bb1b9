"""What is measured, for Prometheus."""

import asyncio
import math
import time
from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.dependencies import ServicesDep
from api.openapi import answers_file
from api.services import QueueState, QueueWatch

router = APIRouter(tags=["health"])

_UNKNOWN: Final = math.nan  # a server that would know is away
_FRESH_SECONDS: Final = 5.0  # a look takes one of the few connections that reads have; Prometheus asks every 15 s


class SharedWatch:
    """Looks once for all who ask at the same time or soon after: anybody may ask, as often as they like."""

    def __init__(self, watch: QueueWatch) -> None:
        self._watch = watch
        self._looking = asyncio.Lock()
        self._seen: QueueState | None = None
        self._seen_at = 0.0

    async def state(self) -> QueueState:
        """Of all that answers, as it was up to five seconds ago."""
        async with self._looking:
            if self._seen is None or time.monotonic() - self._seen_at >= _FRESH_SECONDS:
                self._seen = await self._watch.state()
                self._seen_at = time.monotonic()
            return self._seen


@router.get("/metrics", response_class=Response, responses=answers_file("text/plain"))
async def get_metrics(services: ServicesDep) -> Response:
    """Prometheus' text format: this process, what it answered, and the queue of uploads, which is everybody's.

    NaN: the server that would know is away.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    _tell(registry, await services.queue_watch.state())
    told = generate_latest(registry) + generate_latest(services.telemetry.registry)
    return Response(told, 200, {"Cache-Control": "no-store"}, CONTENT_TYPE_LATEST)


def _tell(registry: CollectorRegistry, state: QueueState) -> None:
    for name, meaning, value in (
        ("cairn_uploads_waiting", "Accepted uploads without a verdict.", state.waiting),
        ("cairn_uploads_oldest_age_seconds", "How long the oldest of them has waited.", state.oldest_age_s),
        ("cairn_upload_hints", "Hints in the ingest queue.", state.hints),
        ("cairn_upload_hints_taken", "Of these, hints that a worker holds.", state.taken),
    ):
        Gauge(name, meaning, registry=registry).set(_UNKNOWN if value is None else value)
    failed = Gauge("cairn_uploads_failed", "Uploads that became no activity.", ["code"], registry=registry)
    for code, count in (state.failed or {}).items():
        failed.labels(code).set(count)
