"""A Valkey that answers, and is still none that will do."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from infra.embedded.valkey import EmbeddedValkey
from infra.faults import Fault
from infra.object_store import FolderObjects
from infra.processes import child_environ
from infra.server_checks import ServerChecks
from infra.valkey_checks import unfit
from infra.vault import Vault
from tests.servers import await_ready, running, stop
from workers.cli.addresses import require_valkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    """One of the test's own."""
    with running(EmbeddedValkey, tmp_path / "valkey") as server:
        yield server.url


async def test_a_replica_is_refused_at_start_and_told_of_later(valkey: str, database_url: str, tmp_path: Path) -> None:
    redis = AsyncRedis.from_url(valkey)
    checks = ServerChecks(database_url, redis, Vault([b"m" * 32]), FolderObjects(tmp_path / "objects"))
    await checks.look()
    assert checks.missing() == {}
    await redis.replicaof("127.0.0.1", 1)
    await checks.look()
    assert checks.missing() == {"valkey": "takes no writes: it is a replica, name its primary"}
    assert checks.fatal is None
    with pytest.raises(Fault, match="the Valkey or Redis of REDIS_URL takes no writes: it is a replica"):
        require_valkey(valkey)
    await redis.aclose()


async def test_one_that_drops_what_is_queued_is_used_with_a_warning(
    valkey: str, database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    redis = AsyncRedis.from_url(valkey)
    checks = ServerChecks(database_url, redis, Vault([b"m" * 32]), FolderObjects(tmp_path / "objects"))
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    require_valkey(valkey)
    assert caplog.messages == []  # no memory is too much for it
    await redis.config_set("maxmemory", "100mb")
    require_valkey(valkey)
    await checks.look()
    await checks.look()
    told = (
        "Valkey drops what was queued when its memory is full: set its maxmemory-policy from allkeys-lru to noeviction"
    )
    assert caplog.messages == [told] * 2  # each said it once
    assert checks.missing() == {}
    await redis.aclose()


async def test_one_that_does_not_tell_this_user_what_it_is_will_do(
    valkey: str, database_url: str, tmp_path: Path
) -> None:
    with Redis.from_url(valkey) as redis:
        redis.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-info")
    url = valkey.replace("unix://", "unix://app:secret@")
    require_valkey(url)
    asked = AsyncRedis.from_url(url)
    checks = ServerChecks(database_url, asked, Vault([b"m" * 32]), FolderObjects(tmp_path / "objects"))
    await checks.look()
    assert checks.missing() == {}
    await asked.aclose()


async def test_one_that_knows_no_info_will_do(database_url: str, tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    server.make()
    command = [*server.argv, "--rename-command", "INFO", ""]  # as hosts of it do
    process = subprocess.Popen(command, env=dict(child_environ()), stdout=subprocess.DEVNULL)
    asked = AsyncRedis.from_url(server.url)
    try:
        await_ready(server, process)
        require_valkey(server.url)
        checks = ServerChecks(database_url, asked, Vault([b"m" * 32]), FolderObjects(tmp_path / "objects"))
        await checks.look()
        assert checks.missing() == {}
    finally:
        await asked.aclose()
        stop(server, process)


@pytest.mark.parametrize(
    ("version", "told"), [("6.2.14", "is of version 6.2.14: 7 or newer is needed"), ("7.0.0", None), ("10.1", None)]
)
def test_an_old_version_is_not_enough(version: str, told: str | None) -> None:
    assert unfit({"role": "master", "redis_version": version}) == told
