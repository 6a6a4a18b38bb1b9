"""The composition root: settings in, wired parts out. `api.main` and `workers.cli` make their services of them."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from os import getpid
from typing import Final

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.accounts import PostgresAccounts
from infra.chunks import ObjectChunks
from infra.claims import PostgresAttempts, PostgresClaims, PostgresSessions, bookkeeping
from infra.client_settings import CachedClientSettings
from infra.event_store.postgres import PostgresLog
from infra.event_store.streams import EventStore
from infra.inbox import ObjectInbox
from infra.keys import MasterKeys, UserKeys
from infra.limits import ValkeyLimits
from infra.object_store import Objects, objects_at
from infra.projecting.watch import ProjectionWatch
from infra.queue import IngestQueue
from infra.queue_watch import QueueWatch
from infra.server_checks import ServerChecks
from infra.settings import Settings
from infra.shared_reads import Changes, SharedReads
from infra.tracks import ObjectTracks
from infra.vault import Vault
from infra.views import ReadModels
from infra.wakeup import Bell, Ear

_READ_CONNECTIONS: Final = 8  # of each process, for queries


def now() -> datetime:
    """The clock that everything is handed."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Parts:
    """Everything that talks to a server or a disk."""

    streams: EventStore
    read_models: ReadModels
    shared_reads: SharedReads
    keys: UserKeys
    objects: Objects
    inbox: ObjectInbox
    chunks: ObjectChunks
    tracks: ObjectTracks
    queue: IngestQueue
    queue_watch: QueueWatch
    projection_watch: ProjectionWatch
    limits: ValkeyLimits
    accounts: PostgresAccounts
    client_settings: CachedClientSettings
    claims: PostgresClaims
    attempts: PostgresAttempts
    sessions: PostgresSessions
    checks: ServerChecks


@asynccontextmanager
async def open_parts(settings: Settings, *, announced: bool = False) -> AsyncIterator[Parts]:
    """Parts that connect when they are first needed: a server that is away is waited for, not required.

    `announced`: the process reads projections, see `ReadModels`.
    """
    redis = AsyncRedis.from_url(
        settings.redis_url,
        protocol=2,
        socket_connect_timeout=0.5,
        socket_timeout=5.0,  # longer than a blocking read waits
        retry=AsyncRetry(NoBackoff(), 1),  # a connection may have died while it was idle
    )
    reads = AsyncRedis.from_url(  # of its own: kept answers must not wait behind anything
        settings.redis_url,
        protocol=2,
        socket_connect_timeout=0.5,
        socket_timeout=2.0,
        retry=AsyncRetry(NoBackoff(), 1),
    )
    vault = Vault(settings.master_keys)
    read_models = ReadModels(settings.database_url, connections=_READ_CONNECTIONS, announced=announced)
    master = MasterKeys(settings.master_keys)
    keys = UserKeys(read_models, master)
    streams = EventStore(PostgresLog(settings.database_url), keys, appended=Bell(redis).ring)
    objects = objects_at(settings.object_store_url)
    inbox = ObjectInbox(objects, master, keys)
    queue = IngestQueue(redis, consumer=f"{socket.gethostname()}-{getpid()}")
    accounts = PostgresAccounts(read_models, streams, vault, settings.cursor_key)
    client_settings = CachedClientSettings(read_models)
    limits = ValkeyLimits(redis)
    channels = bookkeeping(settings.database_url)
    checks = ServerChecks(settings.database_url, redis, vault, objects)
    await read_models.open()
    try:
        yield Parts(
            streams=streams,
            read_models=read_models,
            shared_reads=SharedReads(reads, lost=limits.doubt),
            keys=keys,
            objects=objects,
            inbox=inbox,
            chunks=ObjectChunks(objects, master, settings.cursor_key),
            tracks=ObjectTracks(objects, keys),
            queue=queue,
            queue_watch=QueueWatch(inbox, queue, read_models, now),
            projection_watch=ProjectionWatch(read_models),
            limits=limits,
            accounts=accounts,
            client_settings=client_settings,
            claims=PostgresClaims(channels),
            attempts=PostgresAttempts(channels),
            sessions=PostgresSessions(channels),
            checks=checks,
        )
    finally:
        limits.close()
        await accounts.close()
        await client_settings.close()
        await streams.close()
        channels.close()
        await read_models.close()
        await reads.aclose()
        await redis.aclose()


def open_changes(settings: Settings) -> Changes:
    """A projector's own connection for the news of what it changed."""
    redis = Redis.from_url(
        settings.redis_url, protocol=2, socket_connect_timeout=0.2, socket_timeout=0.2, retry=Retry(NoBackoff(), 1)
    )
    return Changes(redis)


def open_ear(settings: Settings) -> Ear:
    """A projector's own connection to the bell."""
    redis = Redis.from_url(
        settings.redis_url, protocol=2, socket_connect_timeout=0.5, socket_timeout=5.0, retry=Retry(NoBackoff(), 0)
    )
    return Ear(redis)
