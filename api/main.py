"""The API process: settings in, an app on a port out."""

import argparse
import asyncio
import gc
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop

from api.admission.addresses import Addresses
from api.admission.admission import Admission
from api.admission.concurrency import Concurrency
from api.admission.rates import Rates
from api.app import create_app
from api.cursors import Cursors
from api.front.front import Front
from api.idempotency import Idempotency
from api.listening import listening
from api.metrics import SharedWatch
from api.services import Services
from api.serving.limits import Limits, allow_many_files
from api.serving.server import Server
from api.telemetry import Telemetry
from api.tokens import Tokens
from infra.bootstrap import Parts, now, open_parts
from infra.faults import Fault
from infra.formats import sniff
from infra.formats.fit_writer import write_fit
from infra.formats.gpx_writer import write_gpx
from infra.outbox import Notices
from infra.server_checks import ServerChecks
from infra.settings import LOG_FORMAT, Settings, load_settings

_log = logging.getLogger(__name__)

# Open connections are no garbage, closed ones are freed without the collector, which finds next to nothing in 430 ms
# when it looks at 5,000 of them. So it looks at what is youngest alone, ten times a second, which takes 0.1 ms: by
# itself it would count what came less what went, and look either with every 20th command of 64 clients or, among
# connections that come and go, at too much at once (docs/decisions/0010-admission.md).
_COLLECTIONS: Final = (20_000, 5_000, 5_000)
_COLLECT_SECONDS: Final = 0.1
_FIRST_LOOK_SECONDS: Final = 3.0  # before anything is acked; uploads are taken in without Postgres
_LEAVING: Final = {"api": "stopping"}


def main() -> None:
    """Serve until a signal. `python -m api.main --help` names the options; settings come by environment."""
    parser = argparse.ArgumentParser(prog="cairn api", description="Serve the HTTP API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--drain-seconds", type=float, default=0.0)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    try:
        settings = load_settings(given.data, os.environ)
    except Fault as fault:
        sys.exit(f"cairn api: {fault}")
    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT)
    sys.exit(uvloop.run(serve(settings, given.host, given.port, given.drain_seconds)))


async def serve(settings: Settings, host: str, port: int, drain_seconds: float = 0.0) -> int:
    """Serve until a signal or a fault that nothing here can mend; the exit code."""
    allow_many_files()
    async with open_parts(settings, announced=True) as parts:
        with suppress(TimeoutError):
            await asyncio.wait_for(parts.checks.look(), _FIRST_LOOK_SECONDS)
        if _is_refused(parts.checks):
            return 1
        services = services_of(parts, settings)
        services = replace(services, ready=lambda: _LEAVING if server.leaving else parts.checks.missing())
        app = create_app(services, lifespan=lambda _app: _watching(parts, app, server))
        server = Server(
            app,
            services.telemetry,
            Limits(),
            host=host,
            port=port,
            log_level=settings.log_level.lower(),
            drain_seconds=drain_seconds,
            at_once=app.at_once,
        )
        await server.serve(sockets=listening(server.config))
        return 0 if server.started and not _is_refused(parts.checks) else 1


def _is_refused(checks: ServerChecks) -> bool:
    """Whether the servers are such that nothing may go on; it is told."""
    if checks.fatal is not None:
        _log.critical("%s", checks.fatal)
    return checks.fatal is not None


@asynccontextmanager
async def _watching(parts: Parts, app: Front, server: Server) -> AsyncIterator[None]:
    async def look() -> None:
        await parts.checks.look_for_ever()
        server.should_exit = True

    watching = [asyncio.create_task(one) for one in (look(), app.listen(), _collect())]
    parts.accounts.watch()
    await parts.client_settings.look()
    parts.client_settings.watch()
    gc.collect()
    gc.freeze()  # what start-up made is never garbage: collections stay short
    gc.set_threshold(*_COLLECTIONS)
    yield
    for task in watching:
        task.cancel()


async def _collect() -> None:
    while True:
        await asyncio.sleep(_COLLECT_SECONDS)
        gc.collect(0)


def services_of(parts: Parts, settings: Settings) -> Services:
    """The API's services over real parts."""
    admitted, telemetry = settings.admission, Telemetry(lambda: parts.client_settings.current.settings.apps)
    return Services(
        streams=parts.streams,
        inbox=parts.inbox,
        chunks=parts.chunks,
        hints=parts.queue,
        queue_watch=SharedWatch(parts.queue_watch),
        projection_watch=SharedWatch(parts.projection_watch),
        tracks=parts.tracks,
        accounts=parts.accounts,
        read_models=parts.read_models,
        shared_reads=parts.shared_reads,
        notices=Notices(parts.read_models),
        client_settings=parts.client_settings,
        tokens=Tokens([(key.kid, key.secret) for key in settings.token_keys]),
        cursors=Cursors(settings.cursor_key),
        idempotency=Idempotency(settings.cursor_key),
        telemetry=telemetry,
        admission=Admission(
            parts.limits,
            Rates(admitted.rates, settings.cursor_key),
            Concurrency(admitted.least, admitted.most),
            telemetry,
        ),
        addresses=Addresses(admitted.trusted_proxies),
        sniff=sniff,
        write_gpx=write_gpx,
        write_fit=write_fit,
        clock=now,
        public_url=settings.public_url,
        ready=parts.checks.missing,
    )


if __name__ == "__main__":
    main()
