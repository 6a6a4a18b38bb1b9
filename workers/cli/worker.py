"""`cairn worker`: the loops beside the API, in one process or in one each."""

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import click
import psycopg
import uvloop
from psycopg import Connection

from domain.errors import StoreUnavailable
from domain.notices import REACTIONS
from infra.attended import Attended, attended
from infra.away import AWAY, UNMIGRATED
from infra.bootstrap import Parts, now, open_changes, open_ear, open_parts
from infra.cdn import HttpCache, PurgePlace, register_caches
from infra.collection import Collection
from infra.event_store.reader import LogReader
from infra.faults import Fault
from infra.housekeeping import purge_replies, purge_tokens
from infra.keys import MasterKeys
from infra.object_store import Objects
from infra.outbox import PostgresOutbox
from infra.projecting.auditing import audit
from infra.projecting.builds import Registry
from infra.projecting.live import LiveTables
from infra.projecting.shards import LeaseLost
from infra.projecting.tables import prepare
from infra.reading_pool import ProcessReader
from infra.recompaction import Recompaction
from infra.server_checks import MigrationMissing, check_server, require_session
from infra.settings import Cdn, Settings, load_settings
from infra.store_mark import StoreMissing, check_store
from infra.vault import Vault
from infra.wakeup import Ear
from workers.cli.options import data_option
from workers.ingest.abandoned import Abandoned
from workers.ingest.ingest import Ingest
from workers.ingest.loop import IngestLoop
from workers.projector import COLLECTIONS, Projector
from workers.purger import Purger
from workers.reactor import Reactor

_log = logging.getLogger(__name__)

_KINDS: Final = ("projector", "reactor", "ingest")
_READERS: Final = min(os.cpu_count() or 1, 4)  # recordings that one ingest worker reads at once
_POLL_SECONDS: Final = 0.1  # of the log, when the bell stays silent
_RETRY_SECONDS: Final = 1.0
_AUDIT_SECONDS: Final = 3_600.0
_AUDITED_PERCENT: Final = 100 / 256
_CLEANING_SECONDS: Final = 3_600.0
_CLEANING_RETRY_SECONDS: Final = 60.0
_CHORES_SECONDS: Final = 3_600.0
_FIRST_CHORES_SECONDS: Final = 60.0  # also workers that are started again within the hour do them


@click.command("worker")
@click.argument("kinds", nargs=-1, type=click.Choice(_KINDS))
@data_option
def worker_command(kinds: tuple[str, ...], data: Path) -> None:
    """Run the loops beside the API: those that are named, or all. Any number of each may run.

    \b
      projector  keeps read models at the end of the log
      reactor    tells runners what happened, once, and shared caches what changed
      ingest     takes recordings in
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    settings = load_settings(data, os.environ)
    uvloop.run(run_workers(settings, frozenset(kinds or _KINDS)))


def run_projector(settings: Settings, stop: threading.Event) -> None:
    """Keep read models at the end of the log until told to stop, beside any number of others who do so.

    A Postgres that is away is waited for.
    """

    def project(reader: LogReader, writing: Connection, ear: Ear) -> None:
        Registry(writing).register()
        tables = LiveTables(prepare(writing, live=True), reader, uuid4(), open_changes(settings))
        projector = Projector(tables, LeaseLost)
        _log.info("ready")
        try:
            _turn(lambda: projector.turn() > 0, ear, stop)
        finally:
            with contextlib.suppress(StoreUnavailable):
                tables.release()

    _follow(settings, stop, project)


def run_reactor(settings: Settings, stop: threading.Event) -> None:
    """Tell what there is to tell, once for each event, until told to stop. A Postgres that is away is waited for."""

    def react(reader: LogReader, writing: Connection, ear: Ear) -> None:
        outbox = PostgresOutbox(writing, open_changes(settings))
        outbox.register(REACTIONS)
        _turn(Reactor(partial(reader.page, opened=()), outbox, REACTIONS).turn, ear, stop)

    _follow(settings, stop, react)


def run_purger(settings: Settings, cdn: Cdn, url: str, stop: threading.Event) -> None:
    """Have one of the shared caches drop the public pages that changed, until told to stop. A Postgres that is away is
    waited for.
    """
    cache = HttpCache(cdn, url)

    def tell(reader: LogReader, writing: Connection, ear: Ear) -> None:
        register_caches(writing, cdn.purge_urls)
        _turn(Purger(partial(reader.page, opened=()), PurgePlace(writing, url), cache).turn, ear, stop)

    try:
        _follow(settings, stop, tell)
    finally:
        cache.close()


def run_purgers(settings: Settings, cdn: Cdn, stop: threading.Event) -> list[asyncio.Future[None]]:
    """A thread for each cache: one that is away keeps no other waiting."""
    threads, loop = ThreadPoolExecutor(len(cdn.purge_urls)), asyncio.get_running_loop()
    return [loop.run_in_executor(threads, run_purger, settings, cdn, url, stop) for url in cdn.purge_urls]


def _follow(settings: Settings, stop: threading.Event, work: Callable[[LogReader, Connection, Ear], None]) -> None:
    """Work with a reader of the log and a connection for what comes of it, again whenever Postgres was away."""
    ear = open_ear(settings)
    while not stop.is_set():
        try:
            with (
                Attended.connect(settings.database_url, autocommit=True, connect_timeout=5) as reading,
                Attended.connect(settings.database_url, autocommit=True, connect_timeout=5) as writing,
                attended(settings.database_url, reading, writing),
            ):
                require_session(settings.database_url)
                check_server(writing, Vault(settings.master_keys))
                work(LogReader(reading, MasterKeys(settings.master_keys)), writing, ear)
        except (*AWAY, StoreUnavailable, MigrationMissing) as away:
            _log.warning("waiting for Postgres: %s", _why(away))
            stop.wait(_RETRY_SECONDS)


def _why(away: Exception) -> str:
    """In words: its own, or those of what caused it."""
    return str(away).strip() or str(away.__cause__ or "").strip() or "it does not answer"


def _turn(turn: Callable[[], bool], ear: Ear, stop: threading.Event) -> None:
    while not stop.is_set():
        if not turn():
            ear.wait(_POLL_SECONDS)


def _connect(settings: Settings) -> Connection:
    return psycopg.connect(settings.database_url, autocommit=True, connect_timeout=5)


async def run_ingest(settings: Settings) -> None:
    """Take uploads in until cancelled. Servers that are away are waited for."""
    reader = ProcessReader(_READERS)
    try:
        async with open_parts(settings) as parts:
            ingest = Ingest(
                parts.inbox,
                parts.streams,
                reader,
                parts.tracks,
                parts.claims,
                parts.attempts,
                parts.sessions,
                clock=now,
            )
            await asyncio.to_thread(_check_once_reachable, settings, parts.objects)
            _log.info("ready")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(Abandoned(parts.chunks, parts.inbox, clock=now).run())
                tasks.create_task(IngestLoop(ingest, parts.inbox, parts.queue, clock=now, at_once=_READERS).run())
    finally:
        reader.close()


def _check_once_reachable(settings: Settings, objects: Objects) -> None:
    with (
        contextlib.suppress(*AWAY, MigrationMissing, StoreMissing, StoreUnavailable),  # waited for later
        psycopg.connect(settings.database_url, autocommit=True, connect_timeout=5) as connection,
    ):
        require_session(settings.database_url)
        check_server(connection, Vault(settings.master_keys))
        check_store(connection, objects)


@contextmanager
def _survived(what: str) -> Iterator[None]:
    """Whatever fails in it, the worker's other loops go on. It is told; in whole, unless a server is away."""
    try:
        yield
    except (*AWAY, *UNMIGRATED, StoreUnavailable, Fault) as away:
        _log.warning("%s: %s", what, _why(away))
    except Exception:  # noqa: BLE001 - the loops' edge
        _log.exception(what)


async def run_audits(settings: Settings) -> None:
    """Compare one of the log's 256 partitions with the rows that are read, once an hour until cancelled."""
    while True:
        await asyncio.sleep(_AUDIT_SECONDS)
        with _survived("no audit this time"):
            for difference in await asyncio.to_thread(audit_once, settings):
                _log.error("a row is not as the log has it: %s", difference)


def audit_once(settings: Settings) -> Sequence[str]:
    """What differs in a partition drawn at random, in words. `Fault`, `StoreUnavailable`."""
    with _connect(settings) as connection:
        registry, master = Registry(connection), MasterKeys(settings.master_keys)
        audited = audit(settings.database_url, registry, master, None, percent=_AUDITED_PERCENT)
    return [
        f"{one.build}: {drift.table} {drift.key} of user {drift.owner} {drift.what}"
        for one in audited
        for drift in one.differences
    ]


async def run_housekeeping(settings: Settings) -> None:
    """Drop what is kept for a time only, once an hour until cancelled."""
    while True:
        pause = _CLEANING_RETRY_SECONDS
        with _survived("nothing was dropped this time"):
            replies, tokens = await asyncio.to_thread(_clean, settings)
            _log.info("dropped %d replies that were kept long enough, and %d spent refresh tokens", replies, tokens)
            pause = _CLEANING_SECONDS
        await asyncio.sleep(pause)


def _clean(settings: Settings) -> tuple[int, int]:
    with psycopg.connect(settings.database_url, autocommit=True, connect_timeout=5) as connection:
        return purge_replies(connection), purge_tokens(connection)


async def run_chores(settings: Settings) -> None:
    """Pack cold tracks again, and remove what was kept of deleted activities, a minute after the start and then once
    an hour, until cancelled.
    """
    pause = _FIRST_CHORES_SECONDS * (0.5 + random.random())  # many may be started at once  # noqa: S311 - no secret
    while True:
        await asyncio.sleep(pause)
        pause = _CHORES_SECONDS
        for chore in (collect_once, recompact_once):
            with _survived("not all was tidied up this time"):
                async with open_parts(settings) as parts:
                    _log.info("%s", await chore(settings, parts))


async def collect_once(settings: Settings, parts: Parts) -> str:
    """Remove what is due of deleted activities; what was done, in words. `StoreUnavailable`."""
    with _connect(settings) as connection:
        master = MasterKeys(settings.master_keys)
        bookkeeping = parts.claims, parts.attempts
        served = parts.streams, *bookkeeping, parts.inbox, parts.tracks, parts.chunks, parts.objects
        removed = await Collection(connection, master, *served, clock=now).turn()
    return f"removed what was kept of {removed} deleted activities"


async def recompact_once(settings: Settings, parts: Parts) -> str:
    """Pack again the tracks that are due; what was done, in words. `StoreUnavailable`."""
    with _connect(settings) as connection:
        master = MasterKeys(settings.master_keys)
        served = parts.streams, parts.tracks, parts.objects
        tracks, saved = await Recompaction(connection, master, *served, clock=now).turn()
    return f"packed {tracks} cold tracks again, which saved {saved} bytes"


async def run_workers(settings: Settings, kinds: frozenset[str]) -> None:
    """Run these loops until SIGTERM or Ctrl-C. A wrong key or an unsafe server ends them all, and is raised."""
    gc.collect()
    gc.freeze()  # what start-up made is never garbage
    gc.set_threshold(*COLLECTIONS)
    stop, told = threading.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    tasks: list[asyncio.Future[Any]] = [
        asyncio.create_task(told.wait()),
        asyncio.create_task(run_housekeeping(settings)),
    ]
    if "projector" in kinds:
        tasks.append(asyncio.create_task(asyncio.to_thread(run_projector, settings, stop)))
        tasks.append(asyncio.create_task(run_audits(settings)))
    if "reactor" in kinds:
        tasks.append(asyncio.create_task(asyncio.to_thread(run_reactor, settings, stop)))
        if settings.cdn is not None:
            tasks += run_purgers(settings, settings.cdn, stop)
    if "ingest" in kinds:
        tasks.append(asyncio.create_task(run_ingest(settings)))
        tasks.append(asyncio.create_task(run_chores(settings)))
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
